package keycloak

import (
	"slices"
	"strings"
	"testing"
)

// Each event of a real Keycloak, and the revocations in force after it. The times
// in the texts are the times of the events, rounded up to a second.
func TestActsOfRecordedEvents(t *testing.T) {
	const (
		alice  = "sub=6555f136-372f-4339-9b52-1feefc712267"
		client = "client_id=demo-client"
	)
	want := map[string][]string{
		"bf8a3f4e": {alice + " until 2026-11-26T16:47:02Z"}, // disabled
		"cf72c34b": nil,                                     // enabled
		"bd704eb1": {alice + " until 2026-11-26T16:47:08Z"}, // password reset
		"e74f78c4": {alice + " until 2026-11-26T16:47:09Z"}, // logged out
		"244b9ae1": {"sid=_cIE27qQVJd-agYo2DR15bvv until 2026-11-26T16:47:11Z"},
		"3061f0de": {client + " " + alice + " until 2026-11-26T16:47:13Z"}, // consent deleted
		"d576e586": {"sid=HLa9360CWtTs8_BRd0rgB34C until 2026-11-26T16:47:15Z"},
		"c8f41f79": {client + " until 2026-11-26T16:47:17Z"}, // disabled
		"38767f06": nil,
		"81eb3fa0": {client + " until 2026-11-26T16:47:20Z"}, // disabled, in the representation of the console
		"9ae8b034": nil,
		"e2ef4fa2": {client + " until 2026-11-26T16:47:22Z"}, // secret regenerated
		"e85cf220": nil,
		"cc7ed330": {client + " until 2026-11-26T16:47:22Z"}, // not-before
		"fa2aa435": {client + " until 2026-11-26T16:47:22Z"}, // not-before pushed
		"9e5a1775": nil,
		"a88baf6e": {"client_id=gone until 2026-11-26T16:47:26Z"}, // deleted
		"6890d9b4": {"all until 2026-11-26T16:47:27Z"},            // logout of all
		"168436bb": {"all until 2026-11-26T16:47:28Z"},            // not-before
		"731ef022": {"all until 2026-11-26T16:47:28Z"},            // not-before pushed
		"285ca84b": nil,                                           // key made
		"3a7f5410": {"kid=vqNiYMWM4YQj9wLvxWAUzbJfx5odWeLDrMYnNr4LK1w"},
		"da5ece1c": {"sub=51d75185-44c3-4eb3-a896-d4b0cc59c5d6 until 2026-11-26T16:47:40Z"}, // deleted
		"0b2eb440": {"all until 2026-11-26T16:47:40Z"},                                      // realm disabled
		"eed06c93": nil,
		"75ad4412": {"kid=vqNiYMWM4YQj9wLvxWAUzbJfx5odWeLDrMYnNr4LK1w"},
		"4ffad71a": nil,
		"9b6b5433": nil,
		"aa52f211": {"client_id=https://app.example/a b%2F " + alice + " until 2026-11-26T16:50:44Z"},
		"53d4f95c": nil,
		"c164daad": {"all until 2026-11-26T16:47:28Z"}, // without details; the realm has a not-before
		"3b08f57a": {"sub=ec134189-aea5-4e49-9ff4-a1ece5610241 until 2026-11-26T16:50:50Z"},
		"4a5bc111": nil,
		// user events
		"1e3b9db5": {"jti=onrtro:b1cbb32a-c50e-0005-ffcc-05c8aeb388c2"},
		"0e592f91": {"sid=omT8wq_LjSEBnUl4EOyNCHZ4 until 2026-11-26T16:48:00Z"},
		"4e4d6f32": {client + " sid=wjrqNteCfQPj4KlfrP-D8tGI until 2026-11-26T16:48:01Z"},
		"9d4af616": {"sub=ec134189-aea5-4e49-9ff4-a1ece5610241 until 2026-11-26T16:50:45Z"}, // locked out
	}
	for _, file := range []string{"admin-events.json", "user-events.json"} {
		var events []rawEvent
		recorded(t, file, &events)
		for _, e := range events {
			id, _, _ := strings.Cut(idOf(t, e), "-")
			t.Run(id, func(t *testing.T) {
				expected, listed := want[id]
				if !listed {
					t.Fatalf("the test has no row for the event %s", e)
				}
				delete(want, id)
				r := newRig(t)
				r.poll()
				r.realm.after(e)
				r.poll()
				if got := r.revoked(); !slices.Equal(got, expected) {
					t.Errorf("after the event %s\ngot  %q\nwant %q", e, got, expected)
				}
			})
		}
	}
	for id := range want {
		t.Errorf("no recorded event has the ID %s", id)
	}
}

func TestEventsThatEndNothing(t *testing.T) {
	for _, c := range []struct{ name, operation, resource, path, body string }{
		{"a user with another address", "UPDATE", "USER", "users/a", `{"enabled":true,"email":"a@example.test"}`},
		{"a password removed", "ACTION", "USER", "users/a/disable-credential-types", ""},
		{"a user made", "CREATE", "USER", "users/a", `{"enabled":false}`},
		{"a component that is no key", "CREATE", "COMPONENT", "components/x", `{"providerType":"org.keycloak.storage.UserStorageProvider"}`},
		{"a realm with another name", "UPDATE", "REALM", "", `{"displayName":"x"}`},
		{"a user without an ID", "ACTION", "USER", "users//logout", ""},
		{"no path", "DELETE", "USER", "", ""},
		{"a client with another name", "UPDATE", "CLIENT", "clients/x", `{"clientId":"web","name":"x"}`},
		{"a client that is gone", "ACTION", "CLIENT", "clients/gone/client-secret", ""},
		{"a registration token", "ACTION", "CLIENT", "clients/x/registration-access-token", ""},
		{"a representation that is no object", "UPDATE", "REALM", "", `[]`},
	} {
		r := newRig(t)
		r.poll()
		r.realm.save(r.clock.Now(), c.operation, c.resource, c.path, c.body)
		r.poll()
		if got := r.revoked(); len(got) != 0 || r.door.Status().Counts["ignored"] != 1 {
			t.Errorf("%s: got %q and the outcomes %v, want nothing in force and 1 ignored", c.name, got, r.door.Status().Counts)
		}
	}
}

// Keycloak can save the events of operations that failed.
func TestFailedOperationsEndNothing(t *testing.T) {
	r := newRig(t)
	r.poll()
	for _, e := range []string{
		`{"id":"1","time":1795711621704,"operationType":"DELETE","resourceType":"USER","resourcePath":"users/a","error":"not allowed"}`,
		`{"id":"2","time":1795711621704,"type":"LOGOUT","sessionId":"s","error":"invalid_token"}`,
	} {
		r.realm.after(rawEvent(e))
	}
	r.poll()
	if got := r.revoked(); len(got) != 0 {
		t.Errorf("got %q, want nothing in force", got)
	}
}
