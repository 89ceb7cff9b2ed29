package replica

import (
	"fmt"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
)

// followerMachine is a follower of a log that the test writes, and the entries
// that must be in force.
type followerMachine struct {
	dir      string
	follower *Follower
	log      []revocation.Change                // revision n is at n-1
	inForce  map[revocation.ID]revocation.Entry // at the end of the log
	pending  *revocation.Change                 // the next revision, a part of which is in force
	healthy  bool                               // the disk has all that memory has
}

const modelLog = "log-1"

// subjects are few, so that entries meet.
var genSubject = rapid.SampledFrom([]string{"alice", "bob", "carol", "dave"})

// next returns the next revision: some entries added, some of those in force
// removed.
func (m *followerMachine) next(t *rapid.T) revocation.Change {
	c := revocation.Change{Revision: uint64(len(m.log) + 1)}
	for i := range rapid.IntRange(0, 6).Draw(t, "added") {
		e := subject(c.Revision, genSubject.Draw(t, "subject"))
		e.ID.Index = uint32(i)
		c.Added = append(c.Added, e)
	}
	for _, e := range m.inForce {
		if rapid.IntRange(0, 3).Draw(t, "restored") == 0 {
			c.Removed = append(c.Removed, e)
		}
	}
	return c
}

// commit appends c to the log.
func (m *followerMachine) commit(c revocation.Change) {
	m.log = append(m.log, c)
	for _, e := range c.Added {
		m.inForce[e.ID] = e
	}
	for _, e := range c.Removed {
		delete(m.inForce, e.ID)
	}
}

// finish gives the follower the rest of the pending revision, or all of it.
func (m *followerMachine) finish(t *rapid.T, whole bool) {
	c := *m.pending
	m.commit(c)
	m.pending = nil
	if !whole {
		c.Added = c.Added[len(c.Added)/2:]
	}
	noError(t, "Apply", m.follower.Apply([]revocation.Change{c}))
}

// ahead puts the entries of a revision in force before the revision that comes
// before it, and perhaps restarts the follower in between.
func (m *followerMachine) ahead(t *rapid.T) {
	if m.pending != nil {
		return
	}
	first := m.next(t)
	second := revocation.Change{Revision: first.Revision + 1, Added: []revocation.Entry{subject(first.Revision+1, genSubject.Draw(t, "early"))}}
	noError(t, "ApplyAhead", m.follower.ApplyAhead(second.Added))
	wantPosition(t, m.follower, modelLog, uint64(len(m.log)))
	if m.healthy && rapid.Bool().Draw(t, "restarted") {
		m.restart(t)
	}
	denied := false
	for _, sub := range []string{"alice", "bob", "carol", "dave"} {
		if v, err := m.follower.Lookup(subjectToken(sub), time.Now()); err == nil && v.Revoked && subject(1, sub).Digest == second.Added[0].Digest {
			denied = true
		}
	}
	if !denied {
		t.Fatalf("entry %+v was put in force ahead of revision %d and denies nothing, want it to deny", second.Added[0], first.Revision)
	}
	m.commit(first)
	m.commit(second)
	noError(t, "Apply", m.follower.Apply([]revocation.Change{first, second}))
}

// load replaces the set by a snapshot of the whole log.
func (m *followerMachine) load(t *rapid.T) {
	noError(t, "Greet", m.follower.Greet(modelLog, uint64(len(m.log)), month))
	l, err := m.follower.Load(modelLog, uint64(len(m.log)), uint64(len(m.inForce)))
	noError(t, "Load", err)
	for _, e := range m.inForce {
		l.Add([]revocation.Entry{e})
	}
	noError(t, "Commit", l.Commit())
	m.pending, m.healthy = nil, true
}

// restart kills the follower and starts it again. The log then sends everything
// beyond the follower's revision.
func (m *followerMachine) restart(t *rapid.T) {
	if err := m.follower.Close(); m.healthy {
		noError(t, "Close", err)
	}
	var err error
	m.follower, err = newFollower(Options{Dir: m.dir})
	noError(t, "newFollower", err)
	logID, revision := m.follower.Position()
	switch end := uint64(len(m.log)); {
	case m.healthy && (logID != modelLog || revision != end):
		t.Fatalf("restarted at revision %d of log %q, want %d of %q: the disk was sound", revision, logID, end, modelLog)
	case revision > end:
		t.Fatalf("restarted at revision %d, want at most %d", revision, end)
	case logID == "":
		m.load(t)
		return
	}
	m.healthy = true
	noError(t, "Apply", m.follower.Apply(m.log[revision:]))
	if m.pending != nil {
		m.finish(t, true)
	}
}

// check compares the denials of the follower with the log. A subject of a pending
// part may be denied already.
func (m *followerMachine) check(t *rapid.T) {
	wantPosition(t, m.follower, modelLog, uint64(len(m.log)))
	denied, early := map[string]bool{}, map[string]bool{}
	mark := func(into map[string]bool, e revocation.Entry) {
		for _, sub := range []string{"alice", "bob", "carol", "dave"} {
			if subject(1, sub).Digest == e.Digest {
				into[sub] = true
			}
		}
	}
	for _, e := range m.inForce {
		mark(denied, e)
	}
	if m.pending != nil {
		for _, e := range m.pending.Added[:len(m.pending.Added)/2] {
			mark(early, e)
		}
	}
	for _, sub := range []string{"alice", "bob", "carol", "dave"} {
		want := denied[sub] || early[sub]
		if v, err := m.follower.Lookup(subjectToken(sub), time.Now()); err != nil || v.Revoked != want {
			t.Fatalf("at revision %d, %s: revoked %v, %v; want %v, nil", len(m.log), sub, v.Revoked, err, want)
		}
	}
	s := m.follower.Status()
	if s.Entries != len(m.inForce) {
		t.Fatalf("at revision %d: %d entries, want %d", len(m.log), s.Entries, len(m.inForce))
	}
	if (s.DiskError == "") != m.healthy {
		t.Fatalf("at revision %d: disk error %q, want none: %v", len(m.log), s.DiskError, m.healthy)
	}
	noError(t, "check", m.follower.current.Load().set.check())
}

// TestFollowerAgainstAModel applies revisions whole and in parts, kills and
// restarts the follower, compacts its journal, breaks its disk and loads
// snapshots. All the while the follower denies the subjects that
// the log revokes, and no others.
func TestFollowerAgainstAModel(t *testing.T) {
	parent, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &followerMachine{dir: fmt.Sprintf("%s/%d", parent, runs), inForce: map[revocation.ID]revocation.Entry{}}
		var err error
		m.follower, err = newFollower(Options{Dir: m.dir}) // without maintenance, which would heal the disk
		noError(t, "newFollower", err)
		defer func() { _ = m.follower.Close(); _ = os.RemoveAll(m.dir) }()
		m.load(t)
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				if m.pending != nil {
					return
				}
				from := len(m.log)
				for range rapid.IntRange(1, 3).Draw(t, "revisions") {
					m.commit(m.next(t))
				}
				noError(t, "Apply", m.follower.Apply(m.log[from:]))
			},
			"repeat": func(t *rapid.T) {
				if m.pending == nil && len(m.log) > 0 {
					noError(t, "Apply", m.follower.Apply(m.log[rapid.IntRange(0, len(m.log)-1).Draw(t, "from"):]))
				}
			},
			"part": func(t *rapid.T) {
				if m.pending == nil {
					c := m.next(t)
					m.pending = &c
				}
				noError(t, "ApplyPart", m.follower.ApplyPart(m.pending.Revision, m.pending.Added[:len(m.pending.Added)/2]))
			},
			"ahead": m.ahead,
			"rest": func(t *rapid.T) {
				if m.pending != nil {
					m.finish(t, rapid.Bool().Draw(t, "whole"))
				}
			},
			"restart": m.restart,
			"compact": func(t *rapid.T) {
				m.follower.mu.Lock()
				m.follower.dir.written = 1 << 40
				m.follower.mu.Unlock()
				m.follower.compact()
				m.healthy = true
			},
			"break the disk": func(t *rapid.T) {
				if !m.healthy || m.pending != nil {
					return
				}
				m.follower.mu.Lock()
				noError(t, "Close", m.follower.dir.journal.Close())
				m.follower.mu.Unlock()
				m.commit(m.next(t))
				noError(t, "Apply", m.follower.Apply(m.log[len(m.log)-1:]))
				m.healthy = false
			},
			"load": m.load,
			"":     m.check,
		})
	})
}
