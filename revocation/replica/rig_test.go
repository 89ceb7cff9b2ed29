package replica

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rescind/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	idp   = "https://idp.example/"
	month = 720 * time.Hour
)

// fataler is common to tests, benchmarks and rapid.
type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func noError(t fataler, operation string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: got %v, want nil", operation, err)
	}
}

func value(v any) revocation.Value {
	out, ok := revocation.ValueOf(v)
	if !ok {
		panic(fmt.Sprintf("%v is no value of a claim", v))
	}
	return out
}

func shapeOf(kind revocation.Kind, names ...string) revocation.Shape {
	s, err := revocation.ShapeOf(idp, kind, names)
	if err != nil {
		panic(err)
	}
	return s
}

func digestOf(b []byte) (d revocation.Digest) {
	sum := sha256.Sum256(b)
	copy(d[:], sum[:])
	return d
}

func seconds(n int64) revocation.Micros { return revocation.Micros(n * 1_000_000) }

// atSecond is the time by both clocks.
func atSecond(n int64) clock { return clock{now: seconds(n), ended: seconds(n)} }

// lasting returns a revocation of some claims of idp that lasts until expires.
func lasting(id revocation.ID, expires revocation.Micros, claims ...revocation.Claim) *revocation.Revocation {
	slices.SortFunc(claims, func(a, b revocation.Claim) int { return strings.Compare(a.Name, b.Name) })
	return &revocation.Revocation{ID: id, Issuer: idp, Target: revocation.Target{Kind: revocation.KindClaims, Claims: claims}, ExpiresAt: expires}
}

// entryOf returns an entry for one subject of idp.
func entryOf(revision uint64, index uint32, expires revocation.Micros, sub string) revocation.Entry {
	return lasting(revocation.ID{Revision: revision, Index: index}, expires, revocation.Claim{Name: "sub", Value: value(sub)}).Entry()
}

func subjectToken(sub string) *revocation.Token {
	return &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": sub}}
}

func open(t testing.TB, o Options) *Follower {
	t.Helper()
	f, err := Open(o)
	noError(t, "Open", err)
	return f
}

// openStill opens a follower without maintenance, for a test that does it
// itself.
func openStill(t testing.TB, o Options) *Follower {
	t.Helper()
	f, err := newFollower(o)
	noError(t, "newFollower", err)
	return f
}

// subject returns an entry for sub that lasts a day.
func subject(revision uint64, sub string) revocation.Entry {
	return entryOf(revision, 0, revocation.MicrosOf(time.Now().Add(24*time.Hour)), sub)
}

// load greets, and loads a set of these subjects.
func load(t testing.TB, f *Follower, log string, revision uint64, subs ...string) {
	t.Helper()
	entries := make([]revocation.Entry, len(subs))
	for i, sub := range subs {
		entries[i] = subject(uint64(i+1), sub)
	}
	loadEntries(t, f, log, revision, entries...)
}

func loadEntries(t testing.TB, f *Follower, log string, revision uint64, entries ...revocation.Entry) {
	t.Helper()
	noError(t, "Greet", f.Greet(log, revision, month))
	l, err := f.Load(log, revision, uint64(len(entries)))
	noError(t, "Load", err)
	for i := range entries {
		l.Add(entries[i : i+1 : i+1])
	}
	noError(t, "Commit", l.Commit())
}

// change returns a revision that revokes these subjects.
func change(revision uint64, subs ...string) revocation.Change {
	c := revocation.Change{Revision: revision}
	for i, sub := range subs {
		e := subject(revision, sub)
		e.ID.Index = uint32(i)
		c.Added = append(c.Added, e)
	}
	return c
}

func apply(t testing.TB, f *Follower, changes ...revocation.Change) {
	t.Helper()
	noError(t, "Apply", f.Apply(changes))
}

func denies(t testing.TB, f *Follower, sub string) bool {
	t.Helper()
	v, err := f.Lookup(subjectToken(sub), time.Now())
	noError(t, "Lookup of "+sub, err)
	return v.Revoked
}

func wantDenied(t testing.TB, f *Follower, want map[string]bool) {
	t.Helper()
	for sub, want := range want {
		if got := denies(t, f, sub); got != want {
			t.Errorf("%s is denied: %v, want %v", sub, got, want)
		}
	}
}

func wantPosition(t fataler, f *Follower, log string, revision uint64) {
	t.Helper()
	if gotLog, got := f.Position(); gotLog != log || got != revision {
		t.Fatalf("the follower is at revision %d of log %q, want %d of %q", got, gotLog, revision, log)
	}
}

func buckets(s *set) (all []*bucket) {
	for i := range s.stripes {
		all = append(all, *s.stripes[i].buckets.Load()...)
	}
	return all
}

// aSegment returns a segment that has records.
func aSegment(s *set) *segment { return (*buckets(s)[0].segments.Load())[0] }
