package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rescind/revocation"
	"rescind/revocation/replica"
	"rescind/test/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = "https://idp.test/"

// memLog is a log in memory: a source of a feed, and the model that replicas
// are compared with. Every revision revokes or restores some subjects.
type memLog struct {
	id       string
	replaces []string
	remember int // revisions that Changes goes back; 0 = all
	copies   int // how often the log was restored from a copy
	retains  time.Duration

	mu       sync.Mutex
	unready  error
	age      time.Duration
	ages     int // how often the age was asked for
	revision uint64
	changes  []revocation.Change // of revision 1 and so on
	standing map[revocation.ID]revocation.Entry
	census   revocation.Census
	of       map[string]revocation.ID // the revocation in force of a subject
	grown    chan struct{}

	snapshots int
}

func newLog(id string) *memLog {
	return &memLog{
		id: id, grown: make(chan struct{}), retains: 720 * time.Hour,
		standing: make(map[revocation.ID]revocation.Entry), of: make(map[string]revocation.ID),
	}
}

func entryOf(sub string, id revocation.ID) revocation.Entry {
	value, _ := revocation.ValueOf(sub)
	r := revocation.Revocation{
		ID: id, Issuer: issuer,
		Target:    revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: "sub", Value: value}}},
		ExpiresAt: revocation.MicrosOf(time.Now().Add(24 * time.Hour)),
	}
	return r.Entry()
}

// revoke is one revision that revokes all subjects.
func (l *memLog) revoke(subs ...string) uint64 { return l.revokeFor(24*time.Hour, subs...) }

// revokeFor is revoke for a time.
func (l *memLog) revokeFor(life time.Duration, subs ...string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := revocation.Change{Revision: l.revision + 1}
	for i, sub := range subs {
		e := entryOf(sub, revocation.ID{Revision: c.Revision, Index: uint32(i)})
		e.ExpiresAt = revocation.MicrosOf(time.Now().Add(life))
		l.census.Add(e.ExpiresAt, 1)
		c.Added = append(c.Added, e)
		l.standing[e.ID], l.of[sub] = e, e.ID
	}
	return l.append(c)
}

// restore is one revision that restores all subjects.
func (l *memLog) restore(subs ...string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := revocation.Change{Revision: l.revision + 1}
	for _, sub := range subs {
		id := l.of[sub]
		c.Removed = append(c.Removed, l.standing[id])
		l.census.Add(l.standing[id].ExpiresAt, -1)
		delete(l.standing, id)
		delete(l.of, sub)
	}
	return l.append(c)
}

// sweep forgets the entries that have ended.
func (l *memLog) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.standing {
		if e.ExpiresAt <= revocation.MicrosOf(time.Now()) {
			delete(l.standing, id)
		}
	}
}

// restored returns a copy of l as it was at a revision.
func (l *memLog) restored(revision uint64) *memLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLog(l.id)
	c.copies = l.copies + 1
	for _, change := range l.changes[:revision] {
		for _, e := range change.Added {
			c.standing[e.ID] = e
			c.census.Add(e.ExpiresAt, 1)
		}
		for _, e := range change.Removed {
			delete(c.standing, e.ID)
			c.census.Add(e.ExpiresAt, -1)
		}
		c.revision, c.changes = change.Revision, append(c.changes, change)
	}
	return c
}

func (l *memLog) append(c revocation.Change) uint64 {
	l.revision, c.Mark = c.Revision, uint64(1+l.copies)<<32|c.Revision
	l.changes = append(l.changes, c)
	close(l.grown)
	l.grown = make(chan struct{})
	return l.revision
}

func (l *memLog) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unready
}

func (l *memLog) setReady(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unready = err
}

func (l *memLog) LogID() string            { return l.id }
func (l *memLog) Replaces() []string       { return l.replaces }
func (l *memLog) Retention() time.Duration { return l.retains }

func (l *memLog) Mark(revision uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if revision == 0 || revision > l.revision {
		return 0
	}
	return l.changes[revision-1].Mark
}

func (l *memLog) Age() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ages++
	return l.age
}

// awaitAges waits until heartbeats with the present age have been sent.
func (l *memLog) awaitAges(t testing.TB) {
	t.Helper()
	asked := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.ages
	}
	from := asked()
	eventually.True(t, "three more heartbeats", func() bool { return asked() > from+3 })
}

func (l *memLog) setAge(age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age = age
}

func (l *memLog) Revision() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revision
}

func (l *memLog) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.standing)
}

func (l *memLog) Lasting(m revocation.Minute) (revision uint64, n int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok = l.census.After(m)
	return l.revision, n, ok
}

func (l *memLog) Snapshot(yield func([]revocation.Entry) error) (uint64, error) {
	l.mu.Lock()
	l.snapshots++
	revision := l.revision
	var all []revocation.Entry
	for _, e := range l.standing {
		all = append(all, e)
	}
	l.mu.Unlock()
	for len(all) > 0 {
		n := min(1000, len(all))
		if err := yield(all[:n]); err != nil {
			return 0, err
		}
		all = all[n:]
	}
	return revision, nil
}

func (l *memLog) Changes(after uint64, most int) ([]revocation.Change, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after > l.revision || l.remember > 0 && l.revision-after > uint64(l.remember) {
		return nil, false
	}
	return l.changes[after:min(l.revision, after+uint64(most))], true
}

func (l *memLog) Wait(ctx context.Context, after uint64) error {
	for {
		l.mu.Lock()
		revision, grown := l.revision, l.grown
		l.mu.Unlock()
		if revision > after {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *memLog) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshots
}

// grow makes n revisions of both kinds.
func (l *memLog) grow(r *rand.Rand, n int) {
	for range n {
		l.mu.Lock()
		var victim string
		for victim = range l.of {
			break
		}
		l.mu.Unlock()
		if victim != "" && r.IntN(3) == 0 {
			l.restore(victim)
			continue
		}
		var subs []string
		for range 1 + r.IntN(20) {
			subs = append(subs, fmt.Sprintf("user-%d", r.IntN(20_000)))
		}
		l.revoke(subs...)
	}
}

// revokedAt are the subjects that are revoked at a revision, by the log.
func (l *memLog) revokedAt(revision uint64) map[revocation.ID]revocation.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[revocation.ID]revocation.Entry)
	for _, c := range l.changes[:revision] {
		for _, e := range c.Added {
			m[e.ID] = e
		}
		for _, e := range c.Removed {
			delete(m, e.ID)
		}
	}
	return m
}

var errNoLog = errors.New("the log is being read")

func openFollower(t testing.TB) *replica.Follower {
	t.Helper()
	f, err := replica.Open(replica.Options{})
	if err != nil {
		t.Fatalf("opening a set in memory: got %v, want no error", err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("closing the set: got %v, want no error", err)
		}
	})
	return f
}

// denies asks the follower about a token of sub.
func denies(t testing.TB, f *replica.Follower, sub string) bool {
	t.Helper()
	v, err := f.Lookup(&revocation.Token{Issuer: issuer, Claims: map[string]any{"sub": sub}}, time.Now())
	if err != nil {
		t.Fatalf("looking up a token of %s: got %v, want no error", sub, err)
	}
	return v.Revoked
}
