// Package secevent reads security event tokens (RFC 8417, SETs) with the profile
// of the Shared Signals Framework 1.0, and the subject identifiers in them
// (RFC 9493). It knows no keys and no network. It decides nothing about an event.
//
// # Trust
//
// The caller has verified the signature, so the claims are the transmitter's
// word. The transmitter is bounded all the same: names, values, events and
// members of a subject have a largest length or number. Fields that are not
// known are ignored.
//
// # Older forms
//
// Before the final edition of the framework the subject was a member of the
// event, or a claim of its own, and was spelled otherwise. [Read] accepts all of
// these. It refuses a token that names two different subjects. A token of a
// transmitter of the final edition must have the claim sub_id, and may have
// neither exp nor sub.
package secevent

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"time"

	"rescind/jwks/jwt"
)

// Bounds of a token.
const (
	MaxID     = 256  // bytes of jti, and of the name of an event
	maxValue  = 1024 // bytes of a value of a subject
	maxEvents = 8
	maxNames  = 16 // members of a complex subject, identifiers of an alias
)

// Code is an error code of RFC 8935, section 2.4, or of the framework.
type Code string

// The codes.
const (
	InvalidRequest  Code = "invalid_request"
	InvalidKey      Code = "invalid_key"
	InvalidIssuer   Code = "invalid_issuer"
	InvalidAudience Code = "invalid_audience"
	InvalidState    Code = "invalid_state"
)

// Fault says why a token is refused. The transmitter gets both of its parts.
type Fault struct {
	Code        Code
	Description string // quotes nothing of the token
}

func (f *Fault) Error() string { return string(f.Code) + ": " + f.Description }

func invalid(format string, args ...any) error {
	return &Fault{InvalidRequest, fmt.Sprintf(format, args...)}
}

// SET is one token as it was read.
type SET struct {
	ID       string // jti
	IssuedAt time.Time
	Occurred time.Time // toe; zero: the token has none
	Events   []Event   // at least one, in the order of their types
}

// Event is one event of a token. Several events of a token are several
// descriptions of the same occurrence.
type Event struct {
	Type    string         // a URI
	Members map[string]any // of the event; numbers are json.Number
	Subject *Subject       // nil: the token names none
}

// Rules are the demands of a receiver on a token.
type Rules struct {
	// Strict demands the form of the final edition: sub_id, no exp, no sub.
	Strict bool
	// Audiences are the accepted values of aud, at least one of which the token
	// must have. Nil accepts every token, also one without aud.
	Audiences []string
}

// Read reads the claims of a token. Its error is a [*Fault].
func Read(t *jwt.Token, rules Rules) (*SET, error) {
	if t.Type != "secevent+jwt" {
		return nil, invalid("typ in the header must be secevent+jwt")
	}
	s := &SET{}
	var err error
	if s.ID, err = name(t.Claims["jti"], "jti"); err != nil {
		return nil, err
	}
	if !t.IssuedAt.Set {
		return nil, invalid("iat must be there")
	}
	s.IssuedAt = time.UnixMicro(t.IssuedAt.Micros).UTC()
	s.Occurred, _ = Instant(t.Claims["toe"])
	if rules.Strict {
		for _, claim := range []string{"exp", "sub"} {
			if _, is := t.Claims[claim]; is {
				return nil, invalid("%s must not be in a security event token", claim)
			}
		}
		if _, is := t.Claims["sub_id"]; !is {
			return nil, invalid("sub_id must be there")
		}
	}
	if err := checkAudience(t.Claims["aud"], rules.Audiences); err != nil {
		return nil, err
	}
	s.Events, err = readEvents(t.Claims)
	return s, err
}

// name returns a text that names something: not empty, and bounded.
func name(v any, of string) (string, error) {
	s, ok := v.(string)
	if !ok || s == "" || len(s) > MaxID {
		return "", invalid("%s must be a string of 1 to %d bytes", of, MaxID)
	}
	return s, nil
}

func checkAudience(v any, accepted []string) error {
	if accepted == nil {
		return nil
	}
	has := func(v any) bool {
		s, ok := v.(string)
		return ok && slices.Contains(accepted, s)
	}
	if list, is := v.([]any); has(v) || is && slices.ContainsFunc(list, has) {
		return nil
	}
	return &Fault{InvalidAudience, "aud names none of the audiences of this receiver"}
}

func readEvents(claims map[string]any) ([]Event, error) {
	events, ok := claims["events"].(map[string]any)
	if !ok || len(events) == 0 || len(events) > maxEvents {
		return nil, invalid("events must be an object of 1 to %d events", maxEvents)
	}
	var list []Event
	for uri, v := range events {
		members, ok := v.(map[string]any)
		if !ok || len(uri) > MaxID {
			return nil, invalid("each member of events must be an object, and its name must have at most %d bytes", MaxID)
		}
		subject, err := oneSubject(claims["sub_id"], members["subject"], claims["subject"])
		if err != nil {
			return nil, err
		}
		list = append(list, Event{uri, members, subject})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Type < list[j].Type })
	return list, nil
}

// oneSubject returns the subject that the candidates name, or nil if all of them
// are absent. It fails if two of them differ.
func oneSubject(candidates ...any) (*Subject, error) {
	var found *Subject
	for _, c := range candidates {
		if c == nil {
			continue
		}
		s, err := ReadSubject(c)
		if err != nil {
			return nil, err
		}
		if found != nil && !reflect.DeepEqual(*found, s) {
			return nil, invalid("the token names two different subjects")
		}
		found = &s
	}
	return found, nil
}
