package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"rescind/revocation"
)

// TestBoundaries shows that an iat is compared to the microsecond, and that the
// boundary itself is allowed.
func TestBoundaries(t *testing.T) {
	r := lasting(revocation.ID{Revision: 1}, seconds(2000), revocation.Claim{Name: "sub", Value: value("alice")})
	r.Before = seconds(100)
	s := newSet(0)
	noError(t, "apply", s.apply([]revocation.Entry{r.Entry()}, nil, atSecond(1000)))
	for _, c := range []struct {
		name  string
		iat   revocation.Micros
		has   bool
		ended revocation.Micros
		want  bool
	}{
		{"just before", seconds(100) - 1, true, seconds(1000), true},
		{"at the instant", seconds(100), true, seconds(1000), false},
		{"no iat", 0, false, seconds(1000), true},
		{"the last microsecond", 0, true, seconds(2000) - 1, true},
		{"ended", 0, true, seconds(2000), false},
		{"long after, and the time is not known", 0, true, 0, true},
	} {
		tok := subjectToken("alice")
		tok.IssuedAt, tok.HasIssuedAt = c.iat, c.has
		if _, got, err := s.lookup(tok, c.ended, new(positives)); err != nil || got != c.want {
			t.Errorf("%s: denied %v, %v; want %v, nil", c.name, got, err, c.want)
		}
	}
}

// TestCollidingDigestsAreBothHeld has digests whose first eight bytes are equal:
// BigCache alone would keep the later one.
func TestCollidingDigestsAreBothHeld(t *testing.T) {
	s := newSet(0)
	shape := shapeOf(revocation.KindKeyID)
	var entries []revocation.Entry
	for i := range 5 {
		e := revocation.Entry{Shape: shape, ExpiresAt: seconds(5000), ID: revocation.ID{Revision: uint64(i + 1)}}
		binary.LittleEndian.PutUint64(e.Digest[:], 42)
		e.Digest[15] = byte(i)
		entries = append(entries, e)
	}
	noError(t, "apply", s.apply(entries, nil, atSecond(1000)))
	for i := range entries {
		for j := range entries {
			_, denied, err := s.denies(s.view.Load().filter, &entries[j].Digest, &revocation.Token{Issuer: idp}, seconds(1000), new(positives))
			if want := j >= i; err != nil || denied != want {
				t.Fatalf("after entries up to %d were removed, entry %d: denied %v, %v; want %v, nil", i-1, j, denied, err, want)
			}
		}
		noError(t, "check", s.check())
		noError(t, "apply", s.apply(nil, entries[i:i+1], atSecond(1000)))
	}
}

func TestALostEntryIsFound(t *testing.T) {
	full := func() *set {
		s := newSet(0)
		noError(t, "apply", s.apply([]revocation.Entry{entryOf(1, 0, seconds(2000), "alice")}, nil, atSecond(1000)))
		noError(t, "check", s.check())
		return s
	}
	s := full()
	noError(t, "Reset", aSegment(s).cache.Reset())
	if err := s.check(); err == nil {
		t.Error("check of a set that lost an entry = nil, want an error")
	}
	s = full()
	s.evicted.Add(1)
	if err := s.check(); err == nil {
		t.Error("check of a set with an eviction = nil, want an error")
	}
}

func TestATokenWithTooManyCombinationsIsAnError(t *testing.T) {
	r := lasting(revocation.ID{Revision: 1}, seconds(2000), revocation.Claim{Name: "a", Value: value("x")}, revocation.Claim{Name: "b", Value: value("x")})
	s := newSet(0)
	noError(t, "apply", s.apply([]revocation.Entry{r.Entry()}, nil, atSecond(1000)))
	long := make([]any, 500)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	for _, c := range []struct {
		name   string
		claims map[string]any
		want   error
	}{
		{"500 × 500", map[string]any{"a": long, "b": long}, revocation.ErrTooManyCombinations},
		{"500 × 1", map[string]any{"a": long, "b": "x"}, nil},
	} {
		if _, _, err := s.lookup(&revocation.Token{Issuer: idp, Claims: c.claims}, seconds(1000), new(positives)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestChurnDoesNotGrow shows that entries that come and go leave no holes that
// stay, and that entries that end leave nothing.
func TestChurnDoesNotGrow(t *testing.T) {
	s := newSet(0)
	subject := func(i int) revocation.Entry { return entryOf(uint64(i+1), 0, seconds(90_000), fmt.Sprint(i)) }
	const standing = 2_000
	for i := range 150_000 {
		added, removed := []revocation.Entry{subject(i)}, []revocation.Entry(nil)
		if i >= standing {
			removed = []revocation.Entry{subject(i - standing)}
		}
		noError(t, "apply", s.apply(added, removed, atSecond(1000)))
		if i%1000 == 0 {
			noError(t, "renew", s.renew())
		}
	}
	noError(t, "check", s.check())
	segments := 0
	for _, b := range buckets(s) {
		segments += len(*b.segments.Load())
	}
	if room := s.view.Load().filter.capacity; s.len() != standing || segments > 3*stripes || room > 1<<17 {
		t.Errorf("after churn: %d entries in %d segments, and a filter for %d; want %d in at most %d, and at most %d", s.len(), segments, room, standing, 3*stripes, 1<<17)
	}
	s.sweep(seconds(200_000))
	if n := len(buckets(s)); s.len() != 0 || n != 0 || len(s.view.Load().shapes) != 0 {
		t.Errorf("after all have ended: %d entries in %d buckets with the shapes of %d issuers, want none", s.len(), n, len(s.view.Load().shapes))
	}
	noError(t, "check", s.check())
}

// TestReadersAgainstTheWriter looks tokens up while entries are added, restored
// and dropped, and filters are replaced. An entry that was applied denies; one
// that never was does not.
func TestReadersAgainstTheWriter(t *testing.T) {
	const readers, steps, short = 32, 250, 300
	var now atomic.Int64
	now.Store(1000)
	s := newSet(0)
	var applied, restored atomic.Int64 // steps done; steps undone
	entry := func(kind string, i int, expires int64) revocation.Entry {
		return entryOf(uint64(i+1), uint32(kind[0]), seconds(expires), fmt.Sprint(kind, i))
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for n := range readers {
		running.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			counts := new(positives)
			for {
				select {
				case <-stop:
					return
				default:
				}
				done := int(applied.Load())
				if done == 0 {
					continue
				}
				i := r.IntN(done)
				for _, c := range []struct {
					kind string
					want bool
				}{{"stays", true}, {"goes", false}, {"never", false}} {
					if c.kind == "goes" && i >= int(restored.Load()) {
						continue // it may be restored now or not
					}
					_, denied, err := s.lookup(subjectToken(fmt.Sprint(c.kind, i)), seconds(now.Load()), counts)
					if err != nil || denied != c.want {
						t.Errorf("%s%d of %d: denied %v, %v; want %v, nil", c.kind, i, done, denied, err, c.want)
						return
					}
				}
			}
		})
	}
	running.Go(func() { // as the follower's maintenance does
		for {
			select {
			case <-stop:
				return
			default:
			}
			s.sweep(seconds(now.Load()))
			s.mu.Lock()
			s.added = max(s.added, s.view.Load().filter.capacity+1) // a new filter is always due
			s.mu.Unlock()
			if err := errors.Join(s.renew(), s.check()); err != nil {
				t.Errorf("maintenance: got %v, want nil", err)
			}
		}
	})
	for i := range steps {
		n := now.Load()
		added := []revocation.Entry{entry("stays", i, 1<<30), entry("goes", i, n+86_400), entry("short", i, n+short)}
		noError(t, "apply", s.apply(added, nil, atSecond(n)))
		applied.Store(int64(i + 1))
		if gone := i - 10; gone >= 0 {
			noError(t, "apply", s.apply(nil, []revocation.Entry{entry("goes", gone, 1000+10*int64(gone)+86_400)}, atSecond(n)))
			restored.Store(int64(gone + 1))
		}
		now.Add(10)
	}
	close(stop)
	running.Wait()
	s.sweep(seconds(now.Load()))
	if n := s.len(); n > steps+steps/2 || n < steps { // most of the short ones have ended
		t.Errorf("%d entries at the end, want %d to %d", n, steps, steps+steps/2)
	}
}
