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
	"time"

	"rescind/revocation"
)

// TestAKilledReplicaComesBackWithAllThatItAcknowledged ends and starts a
// follower twice. Close writes nothing, so it ends a follower as a kill does.
func TestAKilledReplicaComesBackWithAllThatItAcknowledged(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	load(t, f, "log-1", 3, "alice")
	bob := change(4, "bob")
	apply(t, f, bob, change(5, "carol", "dave"))
	apply(t, f, revocation.Change{Revision: 6, Removed: bob.Added})
	f.Contact(6, time.Now(), 0)
	noError(t, "Close", f.Close())

	f = open(t, Options{Dir: dir})
	wantPosition(t, f, "log-1", 6)
	wantDenied(t, f, map[string]bool{"alice": true, "bob": false, "carol": true, "dave": true, "erin": false})
	if s := f.Status(); !s.Ready || !s.FromDisk || s.Connected || s.Stale || s.Entries != 3 {
		t.Errorf("status after the restart: %+v; want ready, from disk, not connected, not stale, 3 entries", s)
	}
	noError(t, "Greet", f.Greet("log-1", 9, month))
	apply(t, f, change(5, "again"), change(6, "again"), change(7, "erin"))
	noError(t, "Close", f.Close())

	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", 7)
	wantDenied(t, f, map[string]bool{"erin": true, "again": false})
}

func TestTwoReplicasCannotShareADirectory(t *testing.T) {
	dir := t.TempDir()
	f := open(t, Options{Dir: dir})
	defer f.Close()
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another replica") {
		t.Errorf("Open of a directory in use: %v, want an error that says so", err)
	}
}

// TestDamage damages the files of a replica that is at revision 5. Damaged files
// are set aside and logged, never used. A journal that ends within its last
// change is sound: that change was never acknowledged.
func TestDamage(t *testing.T) {
	edit := func(name string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, name))
			if len(names) == 0 {
				t.Fatalf("got no file %s, want one to damage", name)
			}
			b, err := os.ReadFile(names[0])
			noError(t, "ReadFile", err)
			noError(t, "WriteFile", os.WriteFile(names[0], change(b), 0o600))
		}
	}
	flip := func(at func([]byte) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(b)] ^= 1; return b }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { noError(t, "Remove", os.Remove(filepath.Join(dir, name))) }
	}
	lastChange := len(appendChange(nil, frameChange, new(change(5, "carol"))))
	for name, c := range map[string]struct {
		damage   func(*testing.T, string)
		revision uint64 // that the replica has after the restart; 0: it has no set
		aside    bool   // files are set aside
	}{
		"none":                         {func(*testing.T, string) {}, 5, false},
		"a bit of the snapshot":        {edit("*.snapshot", flip(func(b []byte) int { return len(b) / 2 })), 0, true},
		"the snapshot breaks off":      {edit("*.snapshot", func(b []byte) []byte { return b[:len(b)-1] }), 0, true},
		"the snapshot is empty":        {edit("*.snapshot", func([]byte) []byte { return nil }), 0, true},
		"the snapshot has more":        {edit("*.snapshot", func(b []byte) []byte { return append(b, 0) }), 0, true},
		"the snapshot is other text":   {edit("*.snapshot", func([]byte) []byte { return []byte("{}") }), 0, true},
		"a bit of the journal":         {edit("*3.journal", flip(func(b []byte) int { return len(b) / 2 })), 0, true},
		"a bit of the journal's head":  {edit("*3.journal", flip(func([]byte) int { return len(magic) + 12 })), 0, true},
		"the journal ends in a change": {edit("*3.journal", func(b []byte) []byte { return b[:len(b)-3] }), 4, false},
		"the journal lacks a change":   {edit("*3.journal", func(b []byte) []byte { return b[:len(b)-lastChange] }), 4, false},
		"the journal is lost":          {remove(journalName(3)), 3, false},
		"the snapshot is lost":         {remove(snapshotName), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, Options{Dir: dir})
			load(t, f, "log-1", 3, "alice")
			apply(t, f, change(4, "bob"))
			apply(t, f, change(5, "carol"))
			noError(t, "Close", f.Close())
			c.damage(t, dir)

			var log bytes.Buffer
			f = open(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			defer f.Close()
			if _, revision := f.Position(); revision != c.revision {
				t.Fatalf("at revision %d, want %d; the log says %s", revision, c.revision, &log)
			}
			aside, _ := filepath.Glob(filepath.Join(dir, "*damaged*"))
			if (len(aside) > 0) != c.aside || strings.Contains(log.String(), "damaged") != c.aside {
				t.Errorf("files set aside: %q, want some: %v; the log says %s", aside, c.aside, &log)
			}
			if c.revision > 0 {
				wantDenied(t, f, map[string]bool{"alice": true, "bob": c.revision >= 4, "carol": c.revision >= 5})
				return
			}
			if _, err := f.Lookup(subjectToken("alice"), time.Now()); !errors.Is(err, ErrNotReady) || f.Status().Ready {
				t.Errorf("without a set: Lookup = %v, ready: %v; want %v, false", err, f.Status().Ready, ErrNotReady)
			}
			load(t, f, "log-1", 9, "erin")
		})
	}
}

// TestCompaction replaces a long journal by a snapshot, while changes go on.
func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	f := openStill(t, Options{Dir: dir})
	load(t, f, "log-1", 1, "alice")
	subs := make([]string, 700)
	revision := uint64(1)
	for range 60 {
		revision++
		for i := range subs {
			subs[i] = fmt.Sprintf("%d-%d", revision, i)
		}
		apply(t, f, change(revision, subs...))
	}
	before := f.dir.written
	if before < shortJournal {
		t.Fatalf("got a journal of %d bytes, want at least %d for this test", before, shortJournal)
	}
	f.compact()
	revision++
	apply(t, f, change(revision, "last"))
	names, err := f.dir.journals()
	noError(t, "journals", err)
	if len(names) != 1 || f.dir.written >= before {
		t.Errorf("after the compaction: journals %q, the last of %d bytes; want one, shorter than %d", names, f.dir.written, before)
	}
	noError(t, "Close", f.Close())
	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", revision)
	wantDenied(t, f, map[string]bool{"alice": true, "2-0": true, "61-699": true, "last": true})
	if n, want := f.Status().Entries, 60*700+2; n != want {
		t.Errorf("%d entries after the restart, want %d", n, want)
	}
}

// TestADiskThatFails shows that the failure is reported, that the set in memory
// stays in force, and that it is written when the disk works again.
func TestADiskThatFails(t *testing.T) {
	dir := t.TempDir()
	f := openStill(t, Options{Dir: dir})
	load(t, f, "log-1", 3, "alice")
	f.Contact(3, time.Now(), 0)
	f.mu.Lock()
	noError(t, "Close", f.dir.journal.Close())
	f.mu.Unlock()
	apply(t, f, change(4, "bob"))
	if s := f.Status(); !s.Ready || s.DiskError == "" || len(s.Missing) != 1 {
		t.Errorf("the disk fails: %+v; want ready, with the error of the disk", s)
	}
	wantDenied(t, f, map[string]bool{"bob": true})
	apply(t, f, change(5, "carol"))
	f.compact()
	if s := f.Status(); s.DiskError != "" {
		t.Errorf("the disk works again: error %q, want none", s.DiskError)
	}
	apply(t, f, change(6, "dave"))
	noError(t, "Close", f.Close())
	f = open(t, Options{Dir: dir})
	defer f.Close()
	wantPosition(t, f, "log-1", 6)
	wantDenied(t, f, map[string]bool{"alice": true, "bob": true, "carol": true, "dave": true})
}

// FuzzSnapshot shows that no bytes make the reader of a snapshot panic.
func FuzzSnapshot(f *testing.F) {
	dir := f.TempDir()
	follower := open(f, Options{Dir: dir})
	load(f, follower, "log-1", 3, "alice", "bob")
	noError(f, "Close", follower.Close())
	whole, err := os.ReadFile(filepath.Join(dir, snapshotName))
	noError(f, "ReadFile", err)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := openFrames(bytes.NewReader(b))
		if err != nil {
			return
		}
		_ = r.parts(func([]revocation.Entry) {})
	})
}

// FuzzJournalChange shows that no bytes make the reader of a change panic, and
// that a change which it accepts survives another round.
func FuzzJournalChange(f *testing.F) {
	packed := func(c *revocation.Change) []byte { return appendChange(nil, frameChange, c)[9:] }
	f.Add(packed(new(change(4, "alice", "bob"))))
	f.Add(packed(&revocation.Change{Revision: 5, Removed: change(4, "alice").Added}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := readChange(b)
		if err != nil {
			return
		}
		again, err := readChange(packed(&c))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(c) {
			t.Fatalf("the change of %x: got %+v, %v after packing it again, want %+v", b, again, err, c)
		}
	})
}
