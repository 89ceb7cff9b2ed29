package control

import (
	"context"
	"time"

	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
)

type alertsInput struct {
	Paging
	Detector string    `query:"detector" enum:"revoked_token_used,distrusted_key_used,bad_signatures,unknown_keys,wrong_algorithms,token_from_many_networks,token_from_two_networks_at_once,subject_rate,token_lifetime" doc:"Only those of this one"`
	Since    time.Time `query:"since" doc:"Only those seen at that time or later"`
	After    string    `query:"after" maxLength:"64" doc:"Only those raised after the alert with this id: ask with the newest one again and again to miss none"`
}

// AlertPage is one page of alerts.
type AlertPage struct {
	Items      []insight.Alert `json:"items" nullable:"false" doc:"Newest first"`
	NextCursor string          `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

type alertsOutput struct{ Body AlertPage }

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
