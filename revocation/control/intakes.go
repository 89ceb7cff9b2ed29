package control

import (
	"context"
	"slices"
	"time"

	"rescind/revocation/insight"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
)

// heldPath is the path of the events that wait for an operator.
const heldPath = "/v1/intakes/held"

// Intake is an intake as the API answers it.
type Intake struct {
	Name          string            `json:"name" example:"keycloak"`
	Kind          string            `json:"kind" example:"logout"`
	State         string            `json:"state" enum:"ok,failing,waiting" doc:"waiting: nothing has come since the start"`
	Issuers       []string          `json:"issuers" nullable:"false" doc:"The issuers that its events may affect"`
	May           []string          `json:"may" nullable:"false" doc:"The effects that its events may have"`
	DryRun        bool              `json:"dry_run" doc:"Nothing is revoked; the audit has what would have been"`
	LastEvent     *time.Time        `json:"last_event,omitempty" doc:"When the last event was taken"`
	LastEventType string            `json:"last_event_type,omitempty"`
	LastSuccess   *time.Time        `json:"last_success,omitempty" doc:"When the last event was taken, or the last poll went well"`
	Lag           insight.Duration  `json:"lag" doc:"How far behind its sender it was then" example:"120ms"`
	Error         string            `json:"error,omitempty" doc:"Of the last event or poll, if that failed"`
	ErrorSince    *time.Time        `json:"error_since,omitempty"`
	Held          int               `json:"held" doc:"Events that wait until an operator releases or drops them"`
	Events        map[string]uint64 `json:"events" doc:"Events by outcome since the start of each node: ignored, refused, dry_run, already, revoked, undone, held; turned: the sender or the form was wrong; failed: not made durable" nullable:"false"`
}

type intakesOutput struct {
	Body struct {
		Items []Intake `json:"items" nullable:"false"`
	}
}

// listIntakes returns the intakes that are about issuers of the caller alone.
func (s *Server) listIntakes(ctx context.Context, _ *struct{}) (*intakesOutput, error) {
	out := &intakesOutput{}
	out.Body.Items = []Intake{}
	all, err := s.intakes.Reports(ctx, &callOf(ctx).Caller)
	for i := range all {
		out.Body.Items = append(out.Body.Items, intakeOf(&all[i]))
	}
	return out, err
}

func intakeOf(r *intake.Report) Intake {
	d := Intake{
		Name: r.Name, Kind: r.Kind, State: r.State, Issuers: slices.Concat([]string{}, r.Issuers), May: []string{}, DryRun: r.DryRun,
		LastEvent: instant(r.LastEvent), LastEventType: r.LastEventType, LastSuccess: instant(r.LastSuccess),
		Lag: insight.Duration(r.Lag.Round(time.Millisecond)), Error: r.Error, ErrorSince: instant(r.ErrorAt), Held: r.Held, Events: r.Counts,
	}
	for _, p := range r.May {
		d.May = append(d.May, string(p))
	}
	return d
}

// instant returns a time as a document has it, where a zero time is absent.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// HeldEvent is an event that waits for an operator.
type HeldEvent struct {
	ID       string       `json:"id" example:"0123456789abcdef"`
	Intake   string       `json:"intake" doc:"Name of the intake"`
	Type     string       `json:"type" doc:"Kind of the event, as the sender writes it"`
	Event    string       `json:"event" doc:"ID of the event, as the sender gave it; -: none"`
	At       time.Time    `json:"at" doc:"When it happened"`
	Received time.Time    `json:"received"`
	Effects  []HeldEffect `json:"effects" nullable:"false" doc:"The revocations that it asks for"`
}

// HeldEffect is one revocation that a held event asks for.
type HeldEffect struct {
	Issuer string `json:"issuer"`
	Target
	IssuedBefore *time.Time `json:"issued_before,omitempty" doc:"Tokens with an earlier iat would be denied; absent: all tokens, with any iat"`
	Block        bool       `json:"block"`
	Why          string     `json:"why" doc:"Why it waits"`
}

type heldOutput struct {
	Body struct {
		Items []HeldEvent `json:"items" nullable:"false"`
	}
}

// listHeld returns the events that wait for an operator.
func (s *Server) listHeld(ctx context.Context, _ *struct{}) (*heldOutput, error) {
	out := &heldOutput{}
	out.Body.Items = []HeldEvent{}
	all, err := s.intakes.Held(ctx, &callOf(ctx).Caller)
	for i := range all {
		out.Body.Items = append(out.Body.Items, heldOf(&all[i]))
	}
	return out, err
}

func heldOf(e *intake.HeldEvent) HeldEvent {
	d := HeldEvent{ID: e.ID, Intake: e.Intake, Type: e.Type, Event: e.Event, At: e.At.UTC(), Received: e.Received.UTC(), Effects: []HeldEffect{}}
	for _, a := range e.Acts {
		r := &a.Request
		d.Effects = append(d.Effects, HeldEffect{
			Issuer: r.Issuer, Target: *ledger.TargetOfRequest(r), IssuedBefore: instant(r.IssuedBefore), Block: r.Block, Why: a.Why,
		})
	}
	return d
}

type heldInput struct {
	ID string `path:"id" doc:"As the held event's id" example:"0123456789abcdef" maxLength:"64"`
}

// Release is the answer to the release of a held event.
type Release struct {
	ID          string   `json:"id" doc:"The event that was held"`
	Revocations []string `json:"revocations" nullable:"false" doc:"IDs of the revocations that it made"`
}

type releaseOutput struct{ Body Release }

// release carries out a held event.
func (s *Server) release(ctx context.Context, in *heldInput) (*releaseOutput, error) {
	ids, err := s.intakes.Release(ctx, &callOf(ctx).Caller, in.ID)
	return &releaseOutput{Release{ID: in.ID, Revocations: ids}}, err
}

// Drop is the answer to the dropping of a held event.
type Drop struct {
	ID string `json:"id" doc:"The event that was held"`
}

type dropOutput struct{ Body Drop }

// drop forgets a held event.
func (s *Server) drop(ctx context.Context, in *heldInput) (*dropOutput, error) {
	err := s.intakes.Drop(ctx, &callOf(ctx).Caller, in.ID)
	return &dropOutput{Drop{ID: in.ID}}, err
}
