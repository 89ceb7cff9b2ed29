package intake

import (
	"errors"
	"testing"
	"time"

	"rescind/revocation/ledger"
)

func TestDoorRevokesInItsName(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	w.clock.Advance(1500 * time.Millisecond)
	out := w.wantState(d, w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Cutoff: w.clock.Now()}), Revoked)
	w.wantInForce("[sub:alice] before 2s by intake:kc")
	w.wantAudited("of the revocation, with the event", func(e *ledger.AuditEntry) bool {
		return e.By == "intake:kc" && e.Action == ledger.ActRevoke && e.Outcome == ledger.Accepted && out.Detail == "revocation "+e.ID &&
			e.Reason == "event user-disabled; id e1; at 2026-11-24T07:00:01.5Z"
	})
}

func TestDoorErrorsAskForTheEventAgain(t *testing.T) {
	w := newWorld(t)
	d := w.door(nil)
	w.log.FailAppend = func() error { return errBroken }
	e := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("alice"), Cutoff: w.clock.Now()})
	if out, err := d.Take(t.Context(), e); !errors.Is(err, errBroken) || out != (Outcome{}) {
		t.Fatalf("a ledger that fails: got %+v and %v, want the error of the ledger", out, err)
	}
	w.log.FailAppend = nil
	w.wantState(d, e, Revoked)
	w.wantInForce("[sub:alice] before 1s by intake:kc")
}
