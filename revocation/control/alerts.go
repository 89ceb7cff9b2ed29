package control

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
)

type alertsInput struct {
	Paging
	Detector detector  `query:"detector" doc:"Only alerts of this detector"`
	Since    time.Time `query:"since" doc:"Only alerts seen at that time or later"`
	After    string    `query:"after" minLength:"1" maxLength:"64" doc:"Only alerts raised after the alert with this id. A client that asks again and again with the newest id misses none"`
}

// detector is an [insight.Detector] as a parameter.
type detector insight.Detector

// Schema lists the detectors.
func (detector) Schema(huma.Registry) *huma.Schema { return oneOf("detector", insight.Detectors) }

// oneOf returns the schema of one of some names. A generated client calls a name by
// its noun and itself, because client alone would be the name of its own type.
func oneOf[S ~string](noun string, names []S) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	var called []string
	for _, name := range names {
		s.Enum = append(s.Enum, string(name))
		called = append(called, noun+"_"+string(name))
	}
	s.Extensions = map[string]any{"x-enum-varnames": called}
	s.PrecomputeMessages()
	return s
}

// AlertPage is one page of alerts.
type AlertPage struct {
	Items      []insight.Alert `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string          `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type alertsOutput struct{ Body AlertPage }

// listAlerts returns a page of alerts.
func (s *Server) listAlerts(ctx context.Context, in *alertsInput) (*alertsOutput, error) {
	before, _, err := in.place("l")
	if err != nil {
		return nil, err
	}
	out := &alertsOutput{AlertPage{Items: []insight.Alert{}}}
	if s.alerts == nil {
		return out, nil
	}
	page := s.alerts.List(alert.Query{
		Issuers: callOf(ctx).Issuers, Detector: insight.Detector(in.Detector), Since: in.Since,
		Before: before, After: in.After, Limit: in.Limit,
	})
	out.Body.Items = append(out.Body.Items, page.Items...)
	if page.Next > 0 {
		out.Body.NextCursor = cursor("l", page.Next, 0)
	}
	return out, nil
}
