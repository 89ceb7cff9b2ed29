package replica

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rescind/revocation"
)

const idp = "https://idp.example/"

func value(v any) revocation.Value {
	out, ok := revocation.ValueOf(v)
	if !ok {
		panic(fmt.Sprintf("%v is no value", v))
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

// lasting is a revocation of some claims of idp that lasts until then.
func lasting(id revocation.ID, expires revocation.Micros, claims ...revocation.Claim) revocation.Revocation {
	slices.SortFunc(claims, func(a, b revocation.Claim) int { return strings.Compare(a.Name, b.Name) })
	return revocation.Revocation{ID: id, Issuer: idp, Target: revocation.Target{Kind: revocation.KindClaims, Claims: claims}, ExpiresAt: expires}
}

func seconds(n int64) revocation.Micros { return revocation.Micros(n * 1_000_000) }

// naive is the set as one would write it down: every rule of the contract in
// a few lines, and no index.
type naive map[revocation.ID]revocation.Revocation

func (n naive) denies(t *revocation.Token, now revocation.Micros) bool {
	for _, r := range n {
		if r.ExpiresAt > now && matches(&r, t) && (r.Before == 0 || !t.HasIssuedAt || t.IssuedAt < r.Before) {
			return true
		}
	}
	return false
}

func matches(r *revocation.Revocation, t *revocation.Token) bool {
	if r.Issuer != t.Issuer {
		return false
	}
	switch r.Target.Kind {
	case revocation.KindAll:
		return true
	case revocation.KindKeyID:
		return t.KeyID == r.Target.KeyID
	case revocation.KindToken:
		return t.Hash == r.Target.Token
	}
	for _, c := range r.Target.Claims {
		if !has(c, t.Claims[c.Name]) {
			return false
		}
	}
	return true
}

func has(c revocation.Claim, claim any) bool {
	if array, ok := claim.([]any); ok {
		return slices.ContainsFunc(array, func(e any) bool { _, nested := e.([]any); return !nested && has(c, e) })
	}
	if text, ok := claim.(string); ok && c.Name == "scope" {
		return slices.ContainsFunc(strings.Fields(text), func(w string) bool { return value(w) == c.Value })
	}
	v, ok := revocation.ValueOf(claim)
	return ok && v == c.Value
}

// Few values, so that things meet.
var (
	genIssuer = rapid.SampledFrom([]string{idp, "https://other.example/"})
	genName   = rapid.SampledFrom([]string{"sub", "jti", "scope", "groups"})
	genScalar = rapid.Custom(func(t *rapid.T) any {
		return rapid.SampledFrom([]any{"a", "b", "1", "true", json.Number("1"), json.Number("1.0"), json.Number("2"), true, false}).Draw(t, "scalar")
	})
	genIAT = rapid.Int64Range(95, 105)
)

func genRevocation(t *rapid.T, now int64, id revocation.ID) revocation.Revocation {
	r := revocation.Revocation{ID: id, Issuer: genIssuer.Draw(t, "issuer"), Target: revocation.Target{Kind: revocation.Kind(rapid.IntRange(1, 4).Draw(t, "kind"))}}
	switch r.Target.Kind {
	case revocation.KindClaims:
		for _, name := range rapid.SliceOfNDistinct(genName, 1, 3, rapid.ID).Draw(t, "names") {
			r.Target.Claims = append(r.Target.Claims, revocation.Claim{Name: name, Value: value(genScalar.Draw(t, "value"))})
		}
		slices.SortFunc(r.Target.Claims, func(a, b revocation.Claim) int { return strings.Compare(a.Name, b.Name) })
	case revocation.KindKeyID:
		r.Target.KeyID = rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "kid")
	case revocation.KindToken:
		r.Target.Token[0] = byte(rapid.IntRange(0, 1).Draw(t, "hash"))
	}
	if rapid.Bool().Draw(t, "bounded") {
		r.Before = seconds(genIAT.Draw(t, "before"))
	}
	r.ExpiresAt = seconds(now) + revocation.Micros(rapid.SampledFrom([]int64{1, 60_000_000, 400_000_000, 3_600_000_000, 86_400_000_000}).Draw(t, "life"))
	return r
}

func genToken(t *rapid.T) *revocation.Token {
	tok := &revocation.Token{Issuer: genIssuer.Draw(t, "issuer"), KeyID: rapid.SampledFrom([]string{"", "k1", "k2"}).Draw(t, "kid"), Claims: map[string]any{}}
	tok.Hash[0] = byte(rapid.IntRange(0, 2).Draw(t, "hash"))
	for _, name := range []string{"sub", "jti", "scope", "groups"} {
		switch rapid.IntRange(0, 4).Draw(t, name) {
		case 0:
		case 1:
			tok.Claims[name] = genScalar.Draw(t, "value")
		case 2:
			var array []any
			for range rapid.IntRange(0, 3).Draw(t, "n") {
				array = append(array, genScalar.Draw(t, "element"))
			}
			tok.Claims[name] = append(array, nil, map[string]any{"a": "b"}, []any{"a"})[:rapid.IntRange(0, len(array)+3).Draw(t, "cut")]
		case 3:
			tok.Claims[name] = rapid.SampledFrom([]string{"a b", "b", " ab  1 "}).Draw(t, "words")
		case 4:
			tok.Claims[name] = rapid.SampledFrom([]any{nil, map[string]any{"a": "a"}, ""}).Draw(t, "odd")
		}
	}
	if tok.HasIssuedAt = rapid.Bool().Draw(t, "has iat"); tok.HasIssuedAt {
		tok.IssuedAt = seconds(genIAT.Draw(t, "iat"))
	}
	return tok
}

// Whatever is added, repeated, removed, swept and renewed: the set denies what
// the naive one denies, and nothing else.
func TestSetAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1000)
		s, model := newSet(0, seconds(now)), naive{}
		var all []revocation.Revocation
		var counts positives
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				r := genRevocation(t, now, revocation.ID{Revision: uint64(len(all) + 1), Index: uint32(rapid.IntRange(0, 300).Draw(t, "index"))})
				all = append(all, r)
				model[r.ID] = r
				ok(t, s.apply([]revocation.Entry{r.Entry()}, nil, seconds(now)))
			},
			"repeat": func(t *rapid.T) {
				if len(all) == 0 {
					return
				}
				r := rapid.SampledFrom(all).Draw(t, "again")
				if _, there := model[r.ID]; there {
					ok(t, s.apply([]revocation.Entry{r.Entry()}, nil, seconds(now)))
				}
			},
			"remove": func(t *rapid.T) {
				if len(all) == 0 {
					return
				}
				r := rapid.SampledFrom(all).Draw(t, "restored")
				delete(model, r.ID)
				ok(t, s.apply(nil, []revocation.Entry{r.Entry()}, seconds(now)))
			},
			"time": func(t *rapid.T) {
				now += rapid.SampledFrom([]int64{1, 30, 600, 90_000}).Draw(t, "seconds")
				s.sweep(seconds(now))
			},
			"renew": func(t *rapid.T) {
				s.mu.Lock()
				s.added += minFilter * rapid.IntRange(0, 2).Draw(t, "fuller")
				s.mu.Unlock()
				ok(t, s.renew())
			},
			"": func(t *rapid.T) {
				tok := genToken(t)
				by, _, denied, err := s.lookup(tok, seconds(now), &counts)
				ok(t, err)
				if want := model.denies(tok, seconds(now)); denied != want {
					t.Fatalf("denied %v by %v, want %v", denied, by, want)
				}
				if denied && !matches(ptr(model[by]), tok) {
					t.Fatalf("denied by %v, which does not match", by)
				}
				ok(t, s.check())
				held := 0
				for _, r := range model {
					if r.ExpiresAt > seconds(now) {
						held++
					}
				}
				if s.len() < held {
					t.Fatalf("%d entries of %d", s.len(), held)
				}
				seen := map[revocation.ID]bool{}
				ok(t, s.each(func(part []revocation.Entry) error {
					for _, e := range part {
						r := model[e.ID]
						if e != r.Entry() && r.ExpiresAt > seconds(now) {
							t.Fatalf("%+v came back as %+v", r.Entry(), e)
						}
						seen[e.ID] = true
					}
					return nil
				}))
				if len(seen) != s.len() {
					t.Fatalf("%d entries came back of %d", len(seen), s.len())
				}
			},
		})
	})
}

func ptr[T any](v T) *T { return &v }

func ok(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An iat is compared to the microsecond, and the boundary itself is allowed.
func TestBoundaries(t *testing.T) {
	r := lasting(revocation.ID{Revision: 1, Index: 0}, seconds(2000), revocation.Claim{Name: "sub", Value: value("alice")})
	r.Before = seconds(100)
	s := newSet(0, seconds(1000))
	ok(t, s.apply([]revocation.Entry{r.Entry()}, nil, seconds(1000)))
	for _, c := range []struct {
		name string
		iat  revocation.Micros
		has  bool
		at   revocation.Micros
		want bool
	}{
		{"just before", seconds(100) - 1, true, seconds(1000), true},
		{"at the instant", seconds(100), true, seconds(1000), false},
		{"no iat", 0, false, seconds(1000), true},
		{"the last microsecond", 0, true, seconds(2000) - 1, true},
		{"ended", 0, true, seconds(2000), false},
	} {
		_, _, denied, err := s.lookup(&revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "alice"}, IssuedAt: c.iat, HasIssuedAt: c.has}, c.at, new(positives))
		if err != nil || denied != c.want {
			t.Errorf("%s: denied %v, %v", c.name, denied, err)
		}
	}
}

// BigCache would keep the later of two keys with one hash.
func TestCollidingDigestsAreBothHeld(t *testing.T) {
	s := newSet(0, seconds(1000))
	shape := shapeOf(revocation.KindKeyID)
	var entries []revocation.Entry
	for i := range 5 {
		e := revocation.Entry{Shape: shape, ExpiresAt: seconds(5000), ID: revocation.ID{Revision: uint64(i + 1), Index: 0}}
		binary.LittleEndian.PutUint64(e.Digest[:], 42) // the same first eight bytes
		e.Digest[15] = byte(i)
		entries = append(entries, e)
	}
	ok(t, s.apply(entries, nil, seconds(1000)))
	denied := func(e revocation.Entry) bool {
		_, denied, err := s.denies(s.view.Load(), &e.Digest, &revocation.Token{Issuer: idp}, seconds(1000), new(positives))
		ok(t, err)
		return denied
	}
	for i := range entries {
		for j, e := range entries {
			if denied(e) != (j >= i) {
				t.Fatalf("after %d were removed, %d: denied %v", i, j, denied(e))
			}
		}
		ok(t, s.check())
		ok(t, s.apply(nil, entries[i:i+1], seconds(1000)))
	}
}

// An eviction in BigCache is a fault that is found.
func TestWhatIsLostIsFound(t *testing.T) {
	entry := func() (*set, *layer) {
		s := newSet(0, seconds(1000))
		r := lasting(revocation.ID{Revision: 1, Index: 0}, seconds(2000), revocation.Claim{Name: "sub", Value: value("alice")})
		ok(t, s.apply([]revocation.Entry{ptr(r).Entry()}, nil, seconds(1000)))
		ok(t, s.check())
		return s, aLayer(s)
	}
	s, l := entry()
	ok(t, l.cache.Reset())
	if s.check() == nil {
		t.Error("an entry is gone and nobody notices")
	}
	s, _ = entry()
	s.lost.Add(1)
	if s.check() == nil {
		t.Error("an eviction is not noticed")
	}
}

func TestTooManyCombinationsAreRefused(t *testing.T) {
	r := lasting(revocation.ID{Revision: 1, Index: 0}, seconds(2000), revocation.Claim{Name: "a", Value: value("x")}, revocation.Claim{Name: "b", Value: value("x")})
	s := newSet(0, seconds(1000))
	ok(t, s.apply([]revocation.Entry{r.Entry()}, nil, seconds(1000)))
	long := make([]any, 1000)
	for i := range long {
		long[i] = fmt.Sprint(i)
	}
	if _, _, _, err := s.lookup(&revocation.Token{Issuer: idp, Claims: map[string]any{"a": long, "b": long}}, seconds(1000), new(positives)); !errors.Is(err, revocation.ErrTooManyCombinations) {
		t.Errorf("%v", err)
	}
	if _, _, _, err := s.lookup(&revocation.Token{Issuer: idp, Claims: map[string]any{"a": long, "b": "x"}}, seconds(1000), new(positives)); err != nil {
		t.Errorf("%v", err)
	}
}

// Entries that come and go leave no holes that stay, and what expires leaves
// nothing.
func TestChurnDoesNotGrow(t *testing.T) {
	s := newSet(0, seconds(1000))
	subject := func(i int) revocation.Entry {
		r := lasting(revocation.ID{Revision: uint64(i + 1), Index: 0}, seconds(90_000), revocation.Claim{Name: "sub", Value: value(fmt.Sprint(i))})
		return r.Entry()
	}
	const standing = 2_000
	for i := range 150_000 {
		added, removed := []revocation.Entry{subject(i)}, []revocation.Entry(nil)
		if i >= standing {
			removed = []revocation.Entry{subject(i - standing)}
		}
		ok(t, s.apply(added, removed, seconds(1000)))
		if i%1000 == 0 {
			ok(t, s.renew())
		}
	}
	ok(t, s.check())
	bytes, layers := 0, 0
	for _, b := range buckets(s) {
		for _, l := range *b.layers.Load() {
			layers++
			bytes += l.cache.Capacity()
		}
	}
	if s.len() != standing || layers > 3*shelves || s.view.Load().filter.capacity > 1<<17 {
		t.Errorf("%d entries in %d layers of %d bytes, a filter for %d", s.len(), layers, bytes, s.view.Load().filter.capacity)
	}
	s.sweep(seconds(200_000))
	if n := len(buckets(s)); s.len() != 0 || n != 0 || len(s.view.Load().shapes) != 0 {
		t.Errorf("%d entries in %d buckets after all have expired", s.len(), n)
	}
	ok(t, s.check())
}

// Readers that go on while entries are added, restored, expire, and filters
// are renewed: what has been applied is denied, what never was is allowed.
func TestReadersAgainstTheWriter(t *testing.T) {
	const readers, steps, short = 32, 250, 300
	var clock atomic.Int64
	clock.Store(int64(seconds(1000)))
	s := newSet(0, seconds(1000))
	var applied, restored atomic.Int64 // steps done; steps undone
	token := func(kind string, i int) *revocation.Token {
		return &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": fmt.Sprint(kind, i)}}
	}
	entry := func(kind string, i int, expires revocation.Micros) revocation.Entry {
		r := lasting(revocation.ID{Revision: uint64(i + 1), Index: uint32(kind[0])}, expires, revocation.Claim{Name: "sub", Value: value(fmt.Sprint(kind, i))})
		return r.Entry()
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
				now := revocation.Micros(clock.Load())
				for _, c := range []struct {
					kind string
					want bool
				}{{"stays", true}, {"goes", false}, {"never", false}} {
					if c.kind == "goes" && i >= int(restored.Load()) {
						continue // not known
					}
					_, _, denied, err := s.lookup(token(c.kind, i), now, counts)
					if err != nil || denied != c.want {
						t.Errorf("%s%d of %d: denied %v, %v", c.kind, i, done, denied, err)
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
			s.sweep(revocation.Micros(clock.Load()))
			s.mu.Lock()
			s.added = max(s.added, s.view.Load().filter.capacity+1) // always due
			s.mu.Unlock()
			if err := s.renew(); err != nil {
				t.Error(err)
			}
			if err := s.check(); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range steps {
		now := revocation.Micros(clock.Load())
		added := []revocation.Entry{entry("stays", i, seconds(1<<30)), entry("goes", i, now+seconds(86_400)), entry("short", i, now+seconds(short))}
		ok(t, s.apply(added, nil, now))
		applied.Store(int64(i + 1))
		if gone := i - 10; gone >= 0 {
			ok(t, s.apply(nil, []revocation.Entry{entry("goes", gone, now)}, now))
			restored.Store(int64(gone + 1))
		}
		clock.Add(int64(seconds(10)))
	}
	close(stop)
	running.Wait()
	s.sweep(revocation.Micros(clock.Load()))
	if n := s.len(); n > steps+steps/2 || n < steps { // most of the short ones have ended
		t.Errorf("%d entries", n)
	}
}

func buckets(s *set) (all []*bucket) {
	for i := range s.shelves {
		all = append(all, *s.shelves[i].buckets.Load()...)
	}
	return all
}

// aLayer is one that holds something.
func aLayer(s *set) *layer { return (*buckets(s)[0].layers.Load())[0] }
