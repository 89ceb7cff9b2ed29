package replica

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rescind/revocation"
)

func wantMark(t *testing.T, when string, f *Follower, revision, mark uint64) {
	t.Helper()
	if gotRevision, got := f.Mark(); gotRevision != revision || got != mark {
		t.Errorf("%s: got mark %d of revision %d, want %d of %d", when, got, gotRevision, mark, revision)
	}
}

// A follower knows the mark of its revision after each step and each start, and
// refuses a log that has another one. A follower without a mark takes that of its log.
func TestMarkOfTheFurthestRevision(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	reopen := func() {
		t.Helper()
		noError(t, "Close", f.Close())
		f = open(t, Options{Dir: dir})
	}
	noError(t, "a follower without a log: Compare", f.Compare("log-1", 9))
	wantMark(t, "without a log", f, 0, 0)
	load(t, f, "log-1", 5, "alice")
	wantMark(t, "a load without a mark", f, 5, 0)
	noError(t, "Compare with an unknown mark", f.Compare("log-1", 0))
	noError(t, "Compare", f.Compare("log-1", 50))
	wantMark(t, "taken", f, 5, 50)
	reopen()
	wantMark(t, "taken, from disk", f, 5, 50)
	noError(t, "Greet", f.Greet("log-1", 8, month))
	six, seven := change(6, "bob"), change(7, "carol")
	six.Mark, seven.Mark = 60, 70
	apply(t, f, six, seven)
	noError(t, "ApplyPart", f.ApplyPart(8, []revocation.Entry{subject(8, "dave")}))
	wantMark(t, "applied, and a part of the next one", f, 7, 70)
	reopen()
	for _, when := range []string{"from disk", "after the set was discarded"} {
		wantMark(t, when, f, 7, 70)
		noError(t, when+": Compare", f.Compare("log-1", 70))
		noError(t, when+": Compare with another log", f.Compare("log-2", 71)) // Greet refuses it
		if err := f.Compare("log-1", 71); !errors.Is(err, ErrOtherHistory) || f.Status().Refused == "" {
			t.Errorf("%s: Compare with another mark: got %v and the status %q, want %v and its text", when, err, f.Status().Refused, ErrOtherHistory)
		}
		f.mu.Lock()
		f.discard("a test")
		f.mu.Unlock()
	}
	noError(t, "Greet", f.Greet("log-1", 9, month))
	l, err := f.Load("log-1", 9, 0)
	noError(t, "Load", err)
	l.SetMark(90)
	noError(t, "Commit", l.Commit())
	wantMark(t, "loaded", f, 9, 90)
	reopen()
	wantMark(t, "loaded, from disk", f, 9, 90)
	noError(t, "Close", f.Close())
}

// A file of a mark that is damaged, or that belongs to another position, is no mark.
// So a process that was killed between a change and the mark never refuses its log.
func TestMarkOfAnotherPositionIsNone(t *testing.T) {
	good := markFile(position{"log-1", 5, 50})
	flipped := append([]byte(nil), good...)
	flipped[9] ^= 1
	for _, c := range []struct {
		name string
		file []byte
		want uint64
	}{
		{"the mark of the position", good, 50},
		{"no file", nil, 0},
		{"a short file", good[:19], 0},
		{"a changed byte", flipped, 0},
		{"an earlier revision", markFile(position{"log-1", 4, 50}), 0},
		{"a later revision", markFile(position{"log-1", 6, 50}), 0},
		{"another log", markFile(position{"log-2", 5, 50}), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, Options{Dir: dir})
			load(t, f, "log-1", 5, "alice")
			noError(t, "Close", f.Close())
			noError(t, "WriteFile", os.WriteFile(filepath.Join(dir, markName), c.file, 0o600))
			f = open(t, Options{Dir: dir})
			wantMark(t, c.name, f, 5, c.want)
			noError(t, "Close", f.Close())
		})
	}
}
