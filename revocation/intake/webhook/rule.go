package webhook

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
)

// Rule names the effect of the events that meet its conditions.
type Rule struct {
	When     []Condition              // all must hold
	Issuer   string                   // of the tokens; empty: IssuerAt
	IssuerAt jwt.ClaimName            // where the event has the issuer
	Names    map[string]jwt.ClaimName // where the event has the names of the tokens, by their kinds; all must match
	Act      Act
	Cutoff   jwt.ClaimName // where the event has the time until which tokens are denied; zero: the time of the event
}

// Condition demands one of these texts at a place in the event.
type Condition struct {
	At     jwt.ClaimName
	Values []string
}

// Act is the effect of a rule.
type Act string

// The acts.
const (
	Revoke  Act = "revoke"  // tokens issued until then
	Block   Act = "block"   // later tokens too, until an unblock
	Unblock Act = "unblock" // ends the block
)

// NameToken is the kind of name of one token.
const NameToken = "jti"

// meaning returns what an event does. It fails if a rule holds for the event, but
// the event does not have the names.
func (h *Hook) meaning(e any) (*intake.Event, error) {
	object, ok := e.(map[string]any)
	if !ok {
		return &intake.Event{Type: "unknown", Note: "the event is no object"}, nil
	}
	means := &intake.Event{ID: textAt(object, h.ID), Type: textAt(object, h.Type), At: timeAt(object, h.Time)}
	if means.Type == "" {
		means.Type = "webhook"
	}
	i := slices.IndexFunc(h.Rules, func(r Rule) bool { return r.holds(object) })
	if i < 0 {
		means.Note = "no rule holds for the event"
		return means, nil
	}
	act, err := h.act(&h.Rules[i], object)
	if err != nil {
		return nil, fmt.Errorf("rule %d holds for the event %q: %w", i+1, means.Type, err)
	}
	means.Acts = []intake.Act{act}
	return means, nil
}

func (r *Rule) holds(object map[string]any) bool {
	for _, c := range r.When {
		if !slices.Contains(c.Values, textAt(object, c.At)) {
			return false
		}
	}
	return true
}

func (h *Hook) act(r *Rule, object map[string]any) (intake.Act, error) {
	act := intake.Act{Issuer: r.Issuer, Power: r.Power(), Block: r.Act == Block, Undo: r.Act == Unblock}
	if r.Issuer == "" {
		if act.Issuer = textAt(object, r.IssuerAt); act.Issuer == "" {
			return act, fmt.Errorf("it has no issuer at %q", r.IssuerAt)
		}
	}
	for kind, at := range r.Names {
		value := textAt(object, at)
		if value == "" {
			return act, fmt.Errorf("it has no text or number at %q", at)
		}
		if kind == NameToken {
			v, _ := revocation.ValueOf(value)
			act.Claims = append(act.Claims, revocation.Claim{Name: "jti", Value: v})
			continue
		}
		claim, ok := h.door.Map.Claim(kind, value)
		if !ok {
			return act, fmt.Errorf("map: of the intake has no claim for %s", kind)
		}
		act.Claims = append(act.Claims, claim)
	}
	if r.Act == Revoke && r.Cutoff != (jwt.ClaimName{}) {
		if act.Cutoff = timeAt(object, r.Cutoff); act.Cutoff.IsZero() {
			return act, fmt.Errorf("it has no time at %q", r.Cutoff)
		}
	}
	return act, nil
}

// Power returns the power that the narrowest name takes.
func (r *Rule) Power() intake.Power {
	has := func(kind string) bool { _, ok := r.Names[kind]; return ok }
	switch {
	case has(NameToken):
		return intake.Token
	case has(intake.NameSession):
		return intake.Session
	case len(r.Names) == 1 && has(intake.NameClient):
		return intake.Client
	}
	return intake.Subject
}

// textAt returns the string, the number or the boolean at a place, as text, and ""
// if there is none.
func textAt(object map[string]any, at jwt.ClaimName) string {
	v, _ := at.In(object)
	return revocation.Shown(v)
}

// milliseconds is the least number that is a time in milliseconds. In seconds it
// would be the year 5138.
const milliseconds = 1e11

// timeAt returns the time at a place: RFC 3339, or a number of seconds or
// milliseconds. It returns the zero time if there is none.
func timeAt(object map[string]any, at jwt.ClaimName) time.Time {
	switch v, _ := at.In(object); v := v.(type) {
	case string:
		t, _ := time.Parse(time.RFC3339, v)
		return t
	case json.Number:
		n, err := v.Float64()
		if err != nil || n <= 0 || n > 1e15 {
			return time.Time{}
		}
		if n > milliseconds {
			n /= 1000
		}
		return time.UnixMilli(int64(n * 1000))
	}
	return time.Time{}
}
