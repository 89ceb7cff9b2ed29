package replica

import (
	"testing"

	"rescind/revocation"
)

// TestPartsOfARevision shows that a part is in force at once, that the revision
// is not until its last part, and that a replica which is killed in between, or
// compacts its journal in between, ends with the whole revision.
func TestPartsOfARevision(t *testing.T) {
	for _, c := range []struct {
		name    string
		between func(*testing.T, *Follower, string) *Follower
		again   bool // the revision comes again from its first part
	}{
		{"one connection", func(_ *testing.T, f *Follower, _ string) *Follower { return f }, false},
		{"two connections", func(_ *testing.T, f *Follower, _ string) *Follower { return f }, true},
		{"killed in between", func(t *testing.T, f *Follower, dir string) *Follower {
			noError(t, "Close", f.Close())
			return open(t, Options{Dir: dir})
		}, true},
		{"compacted in between", func(_ *testing.T, f *Follower, _ string) *Follower {
			f.mu.Lock()
			f.dir.written = shortJournal + 1
			f.mu.Unlock()
			f.compact()
			return f
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			f := openStill(t, Options{Dir: dir})
			alice := subject(1, "alice")
			loadEntries(t, f, "log-1", 3, alice)
			all := change(4, "bob", "carol", "dave").Added
			first, second, last := all[:1], all[1:2], revocation.Change{Revision: 4, Added: all[2:], Removed: []revocation.Entry{alice}}
			noError(t, "ApplyPart", f.ApplyPart(4, first))
			noError(t, "ApplyPart", f.ApplyPart(4, second))
			wantDenied(t, f, map[string]bool{"alice": true, "bob": true, "carol": true, "dave": false})
			wantPosition(t, f, "log-1", 3)
			if n := f.Status().Entries; n != 1 {
				t.Errorf("%d entries at revision 3, want 1: the parts of revision 4 do not count", n)
			}
			f = c.between(t, f, dir)
			wantPosition(t, f, "log-1", 3)
			if n := f.Status().Entries; n != 1 {
				t.Errorf("%s: %d entries at revision 3, want 1: the parts of revision 4 do not count", c.name, n)
			}
			if c.again {
				noError(t, "ApplyPart", f.ApplyPart(4, first))
				noError(t, "ApplyPart", f.ApplyPart(4, second))
			}
			apply(t, f, last, change(5, "erin"))
			for _, when := range []string{"applied", "restarted"} {
				wantPosition(t, f, "log-1", 5)
				wantDenied(t, f, map[string]bool{"alice": false, "bob": true, "carol": true, "dave": true, "erin": true})
				if n := f.Status().Entries; n != 4 {
					t.Errorf("%s: %d entries at revision 5, want 4", when, n)
				}
				noError(t, "Close", f.Close())
				f = open(t, Options{Dir: dir})
			}
			noError(t, "Close", f.Close())
		})
	}
}

// TestAPartOfAnotherRevisionIsRefused shows that only the next revision may come
// in parts.
func TestAPartOfAnotherRevisionIsRefused(t *testing.T) {
	f := open(t, Options{})
	defer f.Close()
	if err := f.ApplyPart(1, change(1, "bob").Added); err == nil {
		t.Error("ApplyPart without a set = nil, want an error")
	}
	load(t, f, "log-1", 3)
	for _, revision := range []uint64{2, 3, 5} {
		if err := f.ApplyPart(revision, change(revision, "bob").Added); err == nil {
			t.Errorf("ApplyPart of revision %d at revision 3 = nil, want an error", revision)
		}
	}
	wantDenied(t, f, map[string]bool{"bob": false})
}
