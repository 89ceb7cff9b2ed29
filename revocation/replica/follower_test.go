package replica

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
)

// A replica that is killed comes back with all that it acknowledged.
func TestTheDiskHasWhatMemoryHas(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 3, "alice")
	bob := change(4, "bob")
	noError(t, "Apply", f.Apply([]revocation.Change{bob, change(5, "carol", "dave")}))
	removed := revocation.Change{Revision: 6, Removed: bob.Added}
	noError(t, "Apply", f.Apply([]revocation.Change{removed}))
	f.Contact(6, time.Now(), 0)
	kill(t, f)

	f = open(t, Options{Dir: dir})
	wantPosition(t, f, "log-1", 6)
	for sub, want := range map[string]bool{"alice": true, "bob": false, "carol": true, "dave": true, "erin": false} {
		if denies(t, f, sub) != want {
			t.Errorf("%s: denied %v", sub, !want)
		}
	}
	s := f.Status()
	if !s.Ready || !s.FromDisk || s.Connected || s.Stale || s.Entries != 3 {
		t.Errorf("%+v", s)
	}
	// It goes on from there, and comes back again.
	noError(t, "Greet", f.Greet("log-1", 9, month))
	noError(t, "Apply", f.Apply([]revocation.Change{change(5, "again"), change(6, "again"), change(7, "erin")}))
	kill(t, f)
	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", 7)
	if !denies(t, f, "erin") || denies(t, f, "again") {
		t.Error("what came after the restart is not there after the next")
	}
}

// kill ends f as the end of its process does: Close writes nothing.
func kill(t testing.TB, f *Follower) {
	t.Helper()
	noError(t, "Close", f.Close())
}

func TestTwoReplicasCannotShareADirectory(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	defer f.Close()
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}

// Damage is set aside and said, never used; a journal that breaks off within
// its last change is as whole as what was acknowledged.
func TestDamage(t *testing.T) {
	edit := func(name string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, name))
			if len(names) == 0 {
				t.Fatal("no such file")
			}
			b, err := os.ReadFile(names[0])
			noError(t, "err", err)
			noError(t, "WriteFile", os.WriteFile(names[0], change(b), 0o600))
		}
	}
	flip := func(at func([]byte) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(b)] ^= 1; return b }
	}
	for name, c := range map[string]struct {
		damage   func(*testing.T, string)
		revision uint64 // 0: nothing is taken from disk
	}{
		"none":                              {func(*testing.T, string) {}, 5},
		"a bit of the snapshot":             {edit("*.snapshot", flip(func(b []byte) int { return len(b) / 2 })), 0},
		"the snapshot breaks off":           {edit("*.snapshot", func(b []byte) []byte { return b[:len(b)-1] }), 0},
		"the snapshot is empty":             {edit("*.snapshot", func([]byte) []byte { return nil }), 0},
		"the snapshot has more":             {edit("*.snapshot", func(b []byte) []byte { return append(b, 0) }), 0},
		"the snapshot is something else":    {edit("*.snapshot", func([]byte) []byte { return []byte("{}") }), 0},
		"a bit in the journal":              {edit("*3.journal", flip(func(b []byte) int { return len(b) / 2 })), 0},
		"the journal's header":              {edit("*3.journal", flip(func([]byte) int { return len(magic) + 12 })), 0},
		"the journal breaks off":            {edit("*3.journal", func(b []byte) []byte { return b[:len(b)-3] }), 4},
		"the journal breaks off at a frame": {edit("*3.journal", func(b []byte) []byte { return b[:len(b)-len(appendChange(nil, frameChange, new(change(5, "carol"))))] }), 4},
		"the journal is lost":               {func(t *testing.T, dir string) { noError(t, "Remove", os.Remove(filepath.Join(dir, journalName(3)))) }, 3},
		"the snapshot is lost":              {func(t *testing.T, dir string) { noError(t, "Remove", os.Remove(filepath.Join(dir, snapshotName))) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, Options{Dir: dir})
			load(t, f, "log-1", 3, "alice")
			noError(t, "Apply", f.Apply([]revocation.Change{change(4, "bob")}))
			noError(t, "Apply", f.Apply([]revocation.Change{change(5, "carol")}))
			noError(t, "Close", f.Close())
			c.damage(t, dir)

			var log bytes.Buffer
			f = open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			defer f.Close()
			if _, revision := f.Position(); revision != c.revision {
				t.Fatalf("at revision %d, want %d: %s", revision, c.revision, &log)
			}
			if aside, _ := filepath.Glob(filepath.Join(dir, "*damaged*")); name != "the snapshot is lost" && (c.revision == 0) != (len(aside) > 0 && strings.Contains(log.String(), "damaged")) {
				t.Errorf("set aside: %q; logged: %s", aside, &log)
			}
			if c.revision == 0 {
				if _, err := f.Lookup(&revocation.Token{Issuer: idp}, time.Now()); !errors.Is(err, ErrNotReady) || f.Status().Ready {
					t.Errorf("it decides without a set: %v", err)
				}
				load(t, f, "log-1", 9, "erin")
			} else if !denies(t, f, "alice") || denies(t, f, "carol") != (c.revision == 5) {
				t.Error("the set is not the one at its revision")
			}
		})
	}
}

// A long journal is replaced by a snapshot, while changes go on.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 1, "alice")
	subs := make([]string, 700)
	revision := uint64(1)
	for range 60 {
		revision++
		for i := range subs {
			subs[i] = fmt.Sprintf("%d-%d", revision, i)
		}
		noError(t, "Apply", f.Apply([]revocation.Change{change(revision, subs...)}))
	}
	before := f.dir.written
	if before < shortJournal {
		t.Fatalf("a journal of %d bytes is too short for the test", before)
	}
	f.compact()
	revision++
	noError(t, "Apply", f.Apply([]revocation.Change{change(revision, "last")}))
	names, err := f.dir.journals()
	noError(t, "err", err)
	if len(names) != 1 || f.dir.written >= before {
		t.Errorf("journals %q, %d bytes", names, f.dir.written)
	}
	kill(t, f)
	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", revision)
	for _, sub := range []string{"alice", "2-0", "61-699", "last"} {
		if !denies(t, f, sub) {
			t.Errorf("%s is allowed", sub)
		}
	}
	if n := f.Status().Entries; n != 60*700+2 {
		t.Errorf("%d entries", n)
	}
}

// A disk that fails is said to; the set in memory stays, and is written when it
// can be again.
func TestADiskThatFails(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 3, "alice")
	f.Contact(3, time.Now(), 0)
	f.mu.Lock()
	noError(t, "Close", f.dir.journal.Close())
	f.mu.Unlock()
	noError(t, "Apply", f.Apply([]revocation.Change{change(4, "bob")}))
	if s := f.Status(); !s.Ready || s.DiskError == "" || len(s.Missing) != 1 || !denies(t, f, "bob") {
		t.Errorf("%+v", s)
	}
	noError(t, "Apply", f.Apply([]revocation.Change{change(5, "carol")}))
	f.compact()
	if s := f.Status(); s.DiskError != "" {
		t.Errorf("%+v", s)
	}
	noError(t, "Apply", f.Apply([]revocation.Change{change(6, "dave")}))
	kill(t, f)
	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", 6)
	for _, sub := range []string{"alice", "bob", "carol", "dave"} {
		if !denies(t, f, sub) {
			t.Errorf("%s is allowed", sub)
		}
	}
}

// Neither an earlier revision nor another log takes the place of what is held,
// on a first connection, after a restart or after the set was given up.
func TestItNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 5, "alice")
	check := func(when string) {
		t.Helper()
		for _, c := range []struct {
			log      string
			revision uint64
			want     error
		}{{"log-1", 4, ErrOlderRevision}, {"log-2", 9, ErrForeignLog}, {"log-1", 5, nil}, {"log-1", 6, nil}} {
			if err := f.Greet(c.log, c.revision, month); !errors.Is(err, c.want) {
				t.Errorf("%s: %s at %d: %v", when, c.log, c.revision, err)
			}
			if s := f.Status(); (s.Refused != "") != (c.want != nil) {
				t.Errorf("%s: %+v", when, s)
			}
		}
		if _, err := f.Load("log-1", 4, 0); !errors.Is(err, ErrOlderRevision) {
			t.Errorf("%s: an older snapshot: %v", when, err)
		}
		if _, err := f.Load("log-2", 9, 0); err == nil {
			t.Errorf("%s: a snapshot of another log", when)
		}
	}
	check("held")
	noError(t, "Close", f.Close())
	f = open(t, Options{Dir: dir})
	defer f.Close()
	check("from disk")
	f.mu.Lock()
	f.discard("a test")
	f.mu.Unlock()
	check("given up")
	if _, err := f.Lookup(&revocation.Token{Issuer: idp}, time.Now()); !errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}

	// Only the word of an operator, by the name of what is given up.
	f.Accept([]string{"log-3"})
	if err := f.Greet("log-2", 1, month); !errors.Is(err, ErrForeignLog) {
		t.Errorf("%v", err)
	}
	f.Accept([]string{"log-1"})
	load(t, f, "log-2", 1, "bob")
	wantPosition(t, f, "log-2", 1)
}

// A set in memory that is not what was put in is given up within a second,
// denies everything until then, and is fetched again.
func TestABreachUnreadies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{})
		defer f.Close()
		load(t, f, "log-1", 5, "alice")
		noError(t, "aSegment", aSegment(f.current.Load().set).cache.Reset())
		time.Sleep(2 * maintenance)
		if _, err := f.Lookup(&revocation.Token{Issuer: idp}, time.Now()); !errors.Is(err, ErrNotReady) || f.Status().Ready {
			t.Errorf("%v", err)
		}
		wantPosition(t, f, "", 0)
		load(t, f, "log-1", 5, "alice")
		if !denies(t, f, "alice") {
			t.Error("not denied")
		}
	})
}

// Revocations must outlast the tokens.
func TestRetentionIsHeldAgainstTheLifetimes(t *testing.T) {
	f := open(t, Options{Lifetimes: map[string]time.Duration{idp: month + time.Second, "https://other.example/": time.Hour}})
	defer f.Close()
	load(t, f, "log-1", 1)
	f.Contact(1, time.Now(), 0)
	s := f.Status()
	if s.Ready || len(s.Missing) != 1 || !strings.Contains(s.Missing[0], "max_lifetime") || !strings.Contains(s.Missing[0], "retention") || !strings.Contains(s.Missing[0], idp) {
		t.Errorf("%+v", s)
	}
	if _, err := f.Lookup(&revocation.Token{Issuer: idp}, time.Now()); !errors.Is(err, ErrNotReady) {
		t.Errorf("%v", err)
	}
	f.SetLimits(0, map[string]time.Duration{idp: month})
	if s := f.Status(); !s.Ready {
		t.Errorf("%+v", s)
	}
	noError(t, "Greet", f.Greet("log-1", 1, month-time.Second))
	if f.Status().Ready {
		t.Error("ready with a retention that was lowered")
	}
}

// The age counts through restarts.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := Options{Dir: dir, MaxStaleness: time.Minute}
		f := open(t, o)
		load(t, f, "log-1", 1, "alice")
		f.Contact(1, time.Now(), 0)
		heard := time.Now()
		verdict := func() Verdict {
			v, err := f.Lookup(&revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "alice"}}, time.Now())
			noError(t, "err", err)
			return v
		}
		time.Sleep(time.Minute)
		if v := verdict(); v.Overdue || v.Stale {
			t.Errorf("at the limit: %+v", v)
		}
		time.Sleep(time.Millisecond)
		if v := verdict(); !v.Overdue || !v.Stale || !v.Revoked {
			t.Errorf("beyond it: %+v", v)
		}
		noError(t, "Close", f.Close())
		f = open(t, o)
		defer func() { noError(t, "Close", f.Close()) }()
		if v := verdict(); !v.Overdue {
			t.Errorf("after a restart: %+v", v)
		}
		if s := f.Status(); !s.LastContact.Equal(heard) {
			t.Errorf("heard at %v, not %v", s.LastContact, heard)
		}
		noError(t, "Greet", f.Greet("log-1", 1, month))
		f.Contact(1, time.Now(), 0)
		if v := verdict(); v.Overdue || v.Stale {
			t.Errorf("heard again: %+v", v)
		}
	})
}

// Who sends a set or changes may be cut off itself: only its word that nothing
// is beyond them makes them be of that time.
func TestTheAgeIsWhatTheControlEndpointIsSureOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, Options{Dir: t.TempDir(), MaxStaleness: time.Minute})
		defer func() { noError(t, "Close", f.Close()) }()
		stale := func(what string, want bool) {
			t.Helper()
			if s := f.Status(); s.Overdue != want || s.Stale != want {
				t.Errorf("%s: %+v", what, s)
			}
		}
		load(t, f, "log-1", 1, "alice")
		stale("loaded, and no word", true)
		if s := f.Status(); s.Ready || len(s.Missing) != 1 {
			t.Errorf("loaded, and no word: %+v", s)
		}
		f.Contact(1, time.Now(), 50*time.Second)
		if !f.Status().Ready {
			t.Error("not ready")
		}
		stale("sure 50 s ago", false)
		time.Sleep(11 * time.Second)
		stale("sure 61 s ago", true)
		noError(t, "Apply", f.Apply([]revocation.Change{change(2, "bob")}))
		stale("changed, and no word", true)
		f.Contact(2, time.Now(), time.Second)
		f.Contact(2, time.Now(), time.Hour) // from another node, which is cut off
		stale("it was surer before", false)
		time.Sleep(time.Minute)
		f.Contact(2, time.Now(), time.Hour)
		stale("that was a minute ago", true)
		f.Contact(2, time.Now(), 0)
		f.Accept([]string{"log-1"})
		load(t, f, "log-2", 1, "carol")
		stale("another log", true)
		if !f.Status().Ready {
			t.Error("another log unreadies it")
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	dir := f.TempDir()
	follower := open(f, Options{Dir: dir})
	load(f, follower, "log-1", 3, "alice", "bob")
	noError(f, "Close", follower.Close())
	whole, err := os.ReadFile(filepath.Join(dir, snapshotName))
	noError(f, "err", err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := openFrames(bytes.NewReader(b))
		if err != nil {
			return
		}
		_ = r.parts(func([]revocation.Entry) {})
	})
}
