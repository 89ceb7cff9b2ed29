package control

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	claimname "rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

// shelf is a shelf in memory.
type shelf struct {
	mu        sync.Mutex
	documents map[string][]byte
	versions  map[string]uint64
	fail      error
}

func (s *shelf) Load(_ context.Context, name string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.documents[name], s.versions[name], s.fail
}

func (s *shelf) Save(_ context.Context, name string, document []byte, version uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil || s.versions[name] != version {
		return 0, intake.ErrChanged
	}
	s.documents[name], s.versions[name] = document, version+1
	return version + 1, nil
}

// withIntakes returns an endpoint with an intake of each issuer, and their doors.
func withIntakes(t *testing.T) (*endpoint, *shelf, map[string]*intake.Door) {
	t.Helper()
	documents := &shelf{documents: map[string][]byte{}, versions: map[string]uint64{}}
	e := serve(t, ledgertest.New(), func(p *parts) {
		p.api.Credentials = append(p.api.Credentials, credential("boundoperator", []string{issuerB}, ledger.Operator))
		p.authority.KnownIssuers = func() revocation.KnownIssuers {
			return revocation.KnownIssuers{AnyReplica: true, Every: true, Settled: true, Issuers: []revocation.AcceptedIssuer{
				{Issuer: issuerA, Claims: map[string][]string{"tenant": {"acme"}}}, {Issuer: issuerB},
			}}
		}
	})
	doors := map[string]*intake.Door{}
	for name, issuer := range map[string]string{"a": issuerA, "b": issuerB} {
		doors[name] = intake.New(intake.Options{Name: name, Kind: "test", Issuers: []string{issuer}, Authority: e.authority, Shelf: documents,
			May: []intake.Power{intake.Subject, intake.Client}, Map: intake.Map{intake.NameUser: claimname.MemberName("tenant")}})
	}
	e.server.intakes = intake.NewDoors("n1", documents, doors["a"], doors["b"])
	return e, documents, doors
}

func event(id, issuer, claim, value string) *intake.Event {
	v, _ := revocation.ValueOf(value)
	return &intake.Event{ID: id, Type: "user-disabled", At: time.Now(), Acts: []intake.Act{{
		Power: intake.Subject, Issuer: issuer, Claims: []revocation.Claim{{Name: claim, Value: v}}, Cutoff: time.Now(),
	}}}
}

func take(t *testing.T, d *intake.Door, e *intake.Event, want intake.State) {
	t.Helper()
	if out, err := d.Take(t.Context(), e); err != nil || out.State != want {
		t.Fatalf("event %s: got %+v and %v, want %s", e.ID, out, err, want)
	}
}

func TestIntakesAreListed(t *testing.T) {
	e, documents, doors := withIntakes(t)
	take(t, doors["a"], event("e1", issuerA, "sub", "alice"), intake.Revoked)
	take(t, doors["a"], event("e2", issuerA, "tenant", "acme"), intake.Held)
	doors["b"].Polled(0, fmt.Errorf("the sender answered 500"))
	var list struct{ Items []Intake }
	e.do("viewer", "GET", "/v1/intakes", "").want(200).json(&list)
	if len(list.Items) != 2 {
		t.Fatalf("got %d intakes, want 2", len(list.Items))
	}
	a, b := list.Items[0], list.Items[1]
	if a.Name != "a" || a.Kind != "test" || a.State != "ok" || a.Held != 1 || a.Events["revoked"] != 1 || a.Events["held"] != 1 || a.LastEvent == nil ||
		a.LastEventType != "user-disabled" || fmt.Sprint(a.May) != "[subject client]" || fmt.Sprint(a.Issuers) != "["+issuerA+"]" {
		t.Errorf("got %+v, want intake a with an event revoked and one held", a)
	}
	if b.Name != "b" || b.State != "failing" || b.Error != "the sender answered 500" || b.ErrorSince == nil || b.LastEvent != nil || b.Held != 0 {
		t.Errorf("got %+v, want intake b failing", b)
	}
	for _, who := range []string{"boundviewer", "boundoperator"} {
		e.do(who, "GET", "/v1/intakes", "").want(200).json(&list)
		if len(list.Items) != 1 || list.Items[0].Name != "b" {
			t.Errorf("%s: got %+v, want intake b alone", who, list.Items)
		}
	}
	e.do("", "GET", "/v1/intakes", "").want(401)
	documents.fail = fmt.Errorf("the disk is gone")
	e.do("viewer", "GET", "/v1/intakes", "").want(503)
	e.do("viewer", "GET", "/v1/intakes/held", "").want(503)
}

func TestHeldEventsAreReleasedAndDropped(t *testing.T) {
	e, _, doors := withIntakes(t)
	take(t, doors["a"], event("e1", issuerA, "tenant", "acme"), intake.Held)
	take(t, doors["a"], event("e2", issuerA, "tenant", "acme"), intake.Held)
	held := func(who string) (list struct{ Items []HeldEvent }) {
		t.Helper()
		e.do(who, "GET", "/v1/intakes/held", "").want(200).json(&list)
		return list
	}
	items := held("viewer").Items
	if len(items) != 2 {
		t.Fatalf("got %+v, want two held events", items)
	}
	first := items[0]
	if first.Intake != "a" || first.Type != "user-disabled" || first.Event != "e1" || len(first.Effects) != 1 || first.Effects[0].Issuer != issuerA ||
		fmt.Sprint(first.Effects[0].Claims) != "map[tenant:acme]" || first.Effects[0].IssuedBefore == nil || first.Effects[0].Why == "" {
		t.Errorf("got %+v, want the event e1 with its effect and the reason", first)
	}
	if n := len(held("boundviewer").Items); n != 0 {
		t.Errorf("a viewer of another issuer sees %d held events, want none", n)
	}
	path := "/v1/intakes/held/" + first.ID
	for _, method := range []string{"POST", "DELETE"} {
		e.do("viewer", method, path, "").want(403)
		e.do("revoker", method, path, "").want(403)
		e.do("boundoperator", method, path, "").want(404)
		e.do("operator", method, "/v1/intakes/held/0000000000000000", "").want(404)
		e.do("", method, path, "").want(401)
	}
	if n := e.ledger.Len(); n != 0 {
		t.Fatalf("got %d revocations in force, want none", n)
	}

	var released Release
	e.do("operator", "POST", path, "").want(200).json(&released)
	if released.ID != first.ID || len(released.Revocations) != 1 {
		t.Fatalf("got %+v, want one revocation", released)
	}
	d := e.do("viewer", "GET", "/v1/revocations/"+released.Revocations[0], "").want(200).document()
	if d.CreatedBy != "intake:a" || !strings.HasPrefix(d.Reason, "event user-disabled; id e1; at ") {
		t.Errorf("got the revocation %+v, want it by intake:a with the event as its reason", d)
	}
	e.do("operator", "POST", path, "").want(404)
	e.do("operator", "DELETE", "/v1/intakes/held/"+items[1].ID, "").want(200)
	if n := len(held("viewer").Items); n != 0 {
		t.Errorf("got %d held events, want none", n)
	}
	for action, by := range map[string]string{ledger.ActRelease: "operator", ledger.ActDrop: "operator", ledger.ActEvent: "intake:a"} {
		if n := e.audited(func(a ledger.AuditEntry) bool {
			return a.Action == action && a.By == by && a.Held != "" && a.Intake == "a"
		}); n == 0 {
			t.Errorf("got no entry of the audit for %s by %s, want one", action, by)
		}
	}
}

func TestIntakesOfAnEndpointWithoutThem(t *testing.T) {
	e := serve(t, ledgertest.New())
	var list struct{ Items []Intake }
	e.do("viewer", "GET", "/v1/intakes", "").want(200).json(&list)
	if list.Items == nil || len(list.Items) != 0 {
		t.Errorf("got %+v, want an empty list", list.Items)
	}
	e.do("operator", "POST", "/v1/intakes/held/0000000000000000", "").want(404)
	e.do("operator", "DELETE", "/v1/intakes/held/0000000000000000", "").want(404)
}
