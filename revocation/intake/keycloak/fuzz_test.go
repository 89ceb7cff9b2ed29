package keycloak

import (
	"encoding/json"
	"testing"

	"rescind/revocation/intake"
)

// The meaning of every event that Keycloak could send is an event that the door
// can take: each act has one target, and names the issuer.

func FuzzAdminEvent(f *testing.F) {
	seed(f, "admin-events.json")
	f.Add(`{"operationType":"UPDATE","resourceType":"USER","resourcePath":"users/x","representation":"{\"enabled\":0}"}`)
	f.Add(`{"time":-9223372036854775808,"operationType":"ACTION","resourceType":"CLIENT","resourcePath":"clients//client-secret","representation":null}`)
	p := fuzzed(f)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := p.adminEvent(t.Context(), json.RawMessage(text))
		if err != nil {
			t.Fatalf("%q: got the error %v, want none", text, err)
		}
		checkActs(t, text, e)
	})
}

func FuzzUserEvent(f *testing.F) {
	seed(f, "user-events.json")
	f.Add(`{"type":"REVOKE_GRANT","details":{"token_id":1}}`)
	p := fuzzed(f)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := p.userEvent(t.Context(), json.RawMessage(text))
		if err != nil {
			t.Fatalf("%q: got the error %v, want none", text, err)
		}
		checkActs(t, text, e)
	})
}

func seed(f *testing.F, file string) {
	var events []rawEvent
	recorded(f, file, &events)
	for _, e := range events {
		f.Add(string(e))
	}
}

// fuzzed returns a poller of a realm without clients and users.
func fuzzed(f *testing.F) *Poller {
	r := newRig(f)
	if err := r.poller.Poll(f.Context()); err != nil {
		f.Fatal(err)
	}
	return r.poller
}

func checkActs(t *testing.T, text string, e *intake.Event) {
	t.Helper()
	if head := header(json.RawMessage(text)); head.id == "" || len(head.id) > maxID || head.time < 0 {
		t.Fatalf("%q: got the ID %q and the time %d, want an ID and a time", text, head.id, head.time)
	}
	if e == nil || len(e.Acts) > 2 {
		t.Fatalf("%q: got %+v, want an event of at most two acts", text, e)
	}
	for _, a := range e.Acts {
		if a.Issuer != issuer || a.All == (len(a.Claims) > 0) || a.KeyID != "" || a.Power == "" {
			t.Fatalf("%q: got the act %+v, want one target", text, a)
		}
		for _, c := range a.Claims {
			if c.Value.String() == "" {
				t.Fatalf("%q: got the act %+v, want no empty name", text, a)
			}
		}
	}
}
