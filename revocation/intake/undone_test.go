package intake

import (
	"fmt"
	"testing"
	"time"

	"rescind/revocation"
)

func TestDoorUndoesItsOwnRevocationsAlone(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	rival := w.door(func(o *Options) { o.Name, o.May = "rival", Powers })
	undo := func() *Event { return w.event("u", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Undo: true}) }
	block := func(id string) *Event {
		return w.event(id, Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true})
	}
	early := undo()
	w.clock.Advance(time.Minute)
	w.wantState(d, undo(), Ignored)
	w.wantState(d, block("e1"), Revoked)
	w.wantState(rival, block("e1"), Revoked)
	w.revoke("alice", &revocation.Request{Issuer: idp, Claims: sub("a"), Block: true})
	w.wantState(d, w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Cutoff: w.clock.Now()}), Revoked)
	w.wantState(d, w.event("e3", Act{Power: Subject, Issuer: idp, Claims: sub("b"), Block: true}), Revoked)
	whole := []string{"[sub:a] block by intake:kc", "[sub:a] block by intake:rival", "[sub:a] block by alice", "[sub:a] before 1m1s by intake:kc", "[sub:b] block by intake:kc"}
	w.wantInForce(whole...)

	w.wantState(d, early, Ignored) // it is of a time before the block
	w.wantInForce(whole...)
	w.wantState(d, undo(), Undone)
	w.wantInForce(whole[1:]...)
	w.wantState(d, undo(), Already)
	w.wantState(d, block("e1"), Already)
	w.wantInForce(whole[1:]...)

	// Neither does the undo of one intake end the revocation of another caller that
	// was told that the same is in force.
	w.wantState(d, block("e4"), Revoked)
	w.wantState(rival, undo(), Undone)
	w.wantInForce("[sub:a] block by alice", "[sub:a] before 1m1s by intake:kc", "[sub:b] block by intake:kc", "[sub:a] block by intake:kc")
}

// A sender repeats a block that it could not deliver, and its counterpart has
// overtaken it.
func TestDoorTakesABlockThatComesLaterThanItsUndo(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	block := func(id, name string, at time.Duration) *Event {
		e := w.event(id, Act{Power: Subject, Issuer: idp, Claims: sub(name), Block: true})
		e.At = begin.Add(at)
		return e
	}
	w.clock.Advance(time.Minute)
	undo := w.event("u", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Undo: true})
	undo.At = begin.Add(10 * time.Second)
	w.wantState(d, undo, Ignored)
	w.wantState(d, block("e1", "a", 5*time.Second), Already)
	w.wantInForce()
	w.wantState(d, block("e2", "b", 5*time.Second), Revoked)  // of another subject
	w.wantState(d, block("e3", "a", 10*time.Second), Revoked) // of the same instant
	w.wantState(d, block("e4", "a", 11*time.Second), Revoked)
	w.wantState(w.door(func(o *Options) { o.Name, o.May = "rival", Powers }), block("e5", "a", 5*time.Second), Revoked)
	early := w.event("u0", undo.Acts...)
	early.At = begin.Add(time.Second)
	w.wantState(d, early, Ignored) // does not take the memory of the later one back
	w.wantState(d, block("e6", "a", 6*time.Second), Already)
	w.wantInForce("[sub:b] block by intake:kc", "[sub:a] block by intake:kc", "[sub:a] block by intake:kc", "[sub:a] block by intake:rival")

	times := map[string]time.Time{"old": begin.Add(-2 * undoneTime)}
	for i := range maxUndone + 10 {
		times[fmt.Sprint(i)] = begin.Add(time.Duration(i) * time.Second)
	}
	forget(times, begin.Add(time.Hour))
	if _, oldest := times["9"]; oldest || len(times) != maxUndone {
		t.Errorf("got %d remembered targets, want the newest %d", len(times), maxUndone)
	}
}

func TestDoorDoesNotStandInForACallerWhoRevokesTheSame(t *testing.T) {
	w := newWorld(t)
	d := w.door(may(Powers...))
	w.wantState(d, w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Block: true}), Revoked)
	w.revoke("alice", &revocation.Request{Issuer: idp, Claims: sub("a"), Block: true})
	w.wantState(d, w.event("u", Act{Power: Subject, Issuer: idp, Claims: sub("a"), Undo: true}), Undone)
	w.wantInForce("[sub:a] block by alice")
}
