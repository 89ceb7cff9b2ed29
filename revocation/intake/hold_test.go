package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

var (
	operator = ledger.Caller{Name: "alice", Roles: []ledger.Role{ledger.Operator}, From: "192.0.2.7"}
	viewer   = ledger.Caller{Name: "bob", Roles: []ledger.Role{ledger.Viewer}}
)

// holding returns a door that holds one event about alice.
func (w *world) holding() (*Door, *Event, HeldEvent) {
	w.t.Helper()
	d := w.door(may(Powers...))
	w.hit(900)
	e := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Block: true})
	w.wantState(d, e, Held)
	held := w.held(d, &operator)
	if len(held) != 1 {
		w.t.Fatalf("got %d held events, want one", len(held))
	}
	return d, e, held[0]
}

func (w *world) held(d *Door, c *ledger.Caller) []HeldEvent {
	w.t.Helper()
	all, err := d.Held(w.t.Context(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestHeldEventIsReleasedInTheNamesOfBoth(t *testing.T) {
	w := newWorld(t)
	d, e, held := w.holding()
	if held.Type != "user-disabled" || held.Event != "e1" || !held.At.Equal(e.At) || !strings.Contains(held.Acts[0].Why, "limits.share_of_traffic") {
		t.Errorf("got the held event %+v, want it to name the event and the reason", held)
	}
	w.wantAudited("the event that is held", func(a *ledger.AuditEntry) bool {
		return a.By == "intake:kc" && a.Outcome == ledger.Kept && a.Held == held.ID && a.Intake == "kc" && a.Target != nil && strings.Contains(a.Reason, "id e1;")
	})
	w.wantState(d, e, Held) // a repetition
	if n := len(w.held(d, &operator)); n != 1 {
		t.Errorf("after a repetition: got %d held events, want one", n)
	}
	w.wantInForce()

	ids, err := d.Release(t.Context(), &operator, held.ID)
	if err != nil || len(ids) != 1 {
		t.Fatalf("got the revocations %q and %v, want one", ids, err)
	}
	w.wantInForce("[sub:alice] block by intake:kc")
	w.wantAudited("the revocation by the intake, released by alice", func(a *ledger.AuditEntry) bool {
		return a.By == "intake:kc" && a.Action == ledger.ActRevoke && a.Outcome == ledger.Accepted && a.ID == ids[0] && a.Detail == "released by alice" && a.From == "192.0.2.7"
	})
	w.wantAudited("the release by alice", func(a *ledger.AuditEntry) bool {
		return a.By == "alice" && a.Action == ledger.ActRelease && a.Outcome == ledger.Accepted && a.Held == held.ID
	})
	if n := len(w.held(d, &operator)); n != 0 {
		t.Errorf("after the release: got %d held events, want none", n)
	}
	w.wantState(d, e, Already)
	if _, err := d.Release(t.Context(), &operator, held.ID); !errors.Is(err, ErrUnknownEvent) {
		t.Errorf("a second release: got %v, want %v", err, ErrUnknownEvent)
	}
	w.hit(0)
	w.wantState(d, w.event("u", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Undo: true}), Undone)
	w.wantInForce()
}

func TestHeldEventIsDropped(t *testing.T) {
	w := newWorld(t)
	d, _, held := w.holding()
	if err := d.Drop(t.Context(), &operator, held.ID); err != nil {
		t.Fatal(err)
	}
	w.wantInForce()
	w.wantAudited("the drop by alice", func(a *ledger.AuditEntry) bool {
		return a.By == "alice" && a.Action == ledger.ActDrop && a.Outcome == ledger.Accepted && a.Held == held.ID
	})
	if n := len(w.held(d, &operator)); n != 0 {
		t.Errorf("got %d held events, want none", n)
	}
}

func TestHeldEventTakesAnOperatorOfItsIssuers(t *testing.T) {
	w := newWorld(t)
	d, _, held := w.holding()
	narrow := ledger.Caller{Name: "carol", Roles: []ledger.Role{ledger.Operator}, Issuers: []string{other}}
	revoker := ledger.Caller{Name: "dave", Roles: []ledger.Role{ledger.Revoker}}
	for _, c := range []*ledger.Caller{&viewer, &revoker, &narrow} {
		if _, err := d.Release(t.Context(), c, held.ID); err == nil {
			t.Errorf("a release by %s: got no error, want one", c.Name)
		}
		if err := d.Drop(t.Context(), c, held.ID); err == nil {
			t.Errorf("a drop by %s: got no error, want one", c.Name)
		}
		w.wantAudited("the refusal of "+c.Name, func(a *ledger.AuditEntry) bool { return a.By == c.Name && a.Outcome != ledger.Accepted })
	}
	if n := len(w.held(d, &narrow)); n != 0 {
		t.Errorf("an operator of another issuer sees %d held events, want none", n)
	}
	if n := len(w.held(d, &viewer)); n != 1 {
		t.Errorf("a viewer sees %d held events, want one", n)
	}
	w.wantInForce()
}

func TestHeldEventIsUndoneByALaterEvent(t *testing.T) {
	w := newWorld(t)
	d, e, _ := w.holding()
	cut := w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Cutoff: w.clock.Now()})
	w.wantState(d, cut, Held)
	early := w.event("u0", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Undo: true})
	early.At = e.At.Add(-time.Second)
	w.wantState(d, early, Ignored)
	w.wantState(d, w.event("u1", Act{Power: Subject, Issuer: idp, Claims: sub("bob"), Undo: true}), Ignored)
	if n := len(w.held(d, &operator)); n != 2 {
		t.Fatalf("after an earlier event and one of another subject: got %d held events, want two", n)
	}
	w.clock.Advance(time.Minute)
	w.wantState(d, w.event("u2", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Undo: true}), Undone)
	held := w.held(d, &operator)
	if len(held) != 1 || held[0].Event != "e2" {
		t.Errorf("after the counterpart of the block: got %+v, want the event with a cut-off alone", held)
	}
}

func TestHoldThatIsFullOrBrokenAsksForTheEventAgain(t *testing.T) {
	w := newWorld(t)
	d, _, _ := w.holding()
	w.shelf.fail = errBroken
	fresh := w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("bob"), Cutoff: w.clock.Now()})
	if out, err := d.Take(t.Context(), fresh); !errors.Is(err, errBroken) {
		t.Errorf("a shelf that fails: got %+v and %v, want its error", out, err)
	}
	w.shelf.fail = nil

	events := make([]HeldEvent, maxHeld)
	for i := range events {
		events[i] = HeldEvent{ID: fmt.Sprint(i), Type: "t", Event: fmt.Sprint(i), At: begin, Acts: []heldAct{{Request: revocation.Request{Issuer: idp, Claims: sub("x")}, Why: "w"}}}
	}
	document, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	_, version, _ := w.shelf.Load(t.Context(), "held/kc")
	if _, err := w.shelf.Save(t.Context(), "held/kc", document, version); err != nil {
		t.Fatal(err)
	}
	if out, err := d.Take(t.Context(), fresh); !errors.Is(err, ErrFull) {
		t.Errorf("with %d held events: got %+v and %v, want %v", maxHeld, out, err, ErrFull)
	}
	w.wantState(d, w.event("0", Act{Power: Session, Issuer: idp, Claims: claim("sid", "s")}), Revoked) // is not weighed
}

// A bound of the ledger is no reason to lose an event.
func TestDoorHoldsAnEventThatMeetsABoundOfTheLedger(t *testing.T) {
	w := newWorld(t)
	names := []string{NameEmail, NameUser, NameOpaque, NameAccount, NameDID}
	d := w.door(func(o *Options) {
		o.Map = Map{}
		for _, n := range names {
			o.Map[n] = pointer(t, "claim-"+n)
		}
	})
	act := func(name string) *Event {
		return w.event(name, Act{Power: Subject, Issuer: idp, Claims: claim("claim-"+name, "x")})
	}
	for _, n := range names[:4] { // as many as a credential keeps for itself
		w.wantState(d, act(n), Revoked)
	}
	for i := range 60 {
		w.revoke("alice", &revocation.Request{Issuer: idp, Claims: claim(fmt.Sprint("claim", i), "x")})
	}
	w.wantState(d, act(names[4]), Held)
}

// The log takes a thousand revocations of one token. Beyond that the sender must
// send the token again, because nothing keeps it.
func TestRawTokenIsNeverKept(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Token))
	var lines []ledger.Line
	for i := range 1000 {
		lines = append(lines, ledger.Line{Number: i + 1, Request: &revocation.Request{Issuer: idp, Claims: claim("jti", "j1"), IssuedBefore: begin.Add(time.Duration(i) * time.Second)}})
	}
	if _, err := w.authority.Revoke(t.Context(), &operator, &ledger.Order{Action: ledger.ActImport, Lines: lines, Confirm: true}); err != nil {
		t.Fatal(err)
	}
	token := "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlLmNvbS8iLCJqdGkiOiJqMSIsImV4cCI6MTc5NTY1ODQwMH0.AAAA"
	if out, err := d.Take(t.Context(), w.event("e", Act{Power: Token, Issuer: idp, Token: token})); err == nil {
		t.Errorf("got %+v, want an error", out)
	}
	if len(w.shelf.documents) != 0 {
		t.Errorf("the shelf has %q, want nothing", w.shelf.documents)
	}
}
