package replica

import (
	"errors"
	"testing"

	"rescind/revocation"
)

// A revision that is in force ahead of its turn has been acknowledged. A control
// node that is behind must not take it away with an older snapshot, also after a
// restart of the replica.
func TestOlderSetCannotReplaceARevisionAheadOfItsTurn(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log", 10, "alice")
	noError(t, "ApplyAhead", f.ApplyAhead([]revocation.Entry{subject(12, "bob")}))
	refusesOlder := func(when string) {
		t.Helper()
		noError(t, "Greet", f.Greet("log", 11, 0))
		if _, err := f.Load("log", 11, 1); !errors.Is(err, ErrOlderRevision) {
			t.Errorf("%s: Load at revision 11 with revision 12 in force = %v, want %v", when, err, ErrOlderRevision)
		}
		wantDenied(t, f, map[string]bool{"alice": true, "bob": true})
	}
	refusesOlder("before the restart")
	noError(t, "Close", f.Close())
	f = open(t, Options{Dir: dir})
	defer f.Close()
	refusesOlder("after the restart")

	load(t, f, "log", 12, "alice", "bob")
	wantPosition(t, f, "log", 12)
}

// Another log in its place begins anew.
func TestReplacedLogForgetsRevisionsAheadOfTheirTurn(t *testing.T) {
	f := open(t, Options{})
	defer f.Close()
	load(t, f, "log", 10, "alice")
	noError(t, "ApplyAhead", f.ApplyAhead([]revocation.Entry{subject(12, "bob")}))
	f.Accept([]string{"log"})
	load(t, f, "other", 3, "carol")
	wantPosition(t, f, "other", 3)
	wantDenied(t, f, map[string]bool{"carol": true, "bob": false})
}
