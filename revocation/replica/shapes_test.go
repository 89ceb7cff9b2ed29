package replica

import (
	"fmt"
	"testing"

	"rescind/revocation"
)

// named returns an entry whose shape has these claim names.
func named(revision uint64, expires int64, names ...string) revocation.Entry {
	claims := make([]revocation.Claim, len(names))
	for i, name := range names {
		claims[i] = revocation.Claim{Name: name, Value: value("x")}
	}
	return lasting(revocation.ID{Revision: revision}, seconds(expires), claims...).Entry()
}

// TestUnusedShapesAreFreed shows that a shape is forgotten when its last entry
// is restored, when it ends, and when its only entry had ended before it came.
func TestUnusedShapesAreFreed(t *testing.T) {
	s := newSet(0)
	wantShapes := func(when string, want int) {
		t.Helper()
		if n, u := len(s.shapes.numbers), len(s.shapes.uses); n != want || u != want {
			t.Errorf("%s: %d numbers and %d uses of shapes, want %d", when, n, u, want)
		}
		if shapes := s.view.Load().shapes[idp]; (shapes != nil) != (want > 0) {
			t.Errorf("%s: readers see %+v, want shapes: %v", when, shapes, want > 0)
		}
	}
	for i := range 3000 {
		e := named(uint64(i+1), 5000, fmt.Sprint("claim-", i))
		noError(t, "apply", s.apply([]revocation.Entry{e}, nil, atSecond(1000)))
		noError(t, "apply", s.apply(nil, []revocation.Entry{e}, atSecond(1000)))
	}
	wantShapes("restored", 0)
	noError(t, "apply", s.apply([]revocation.Entry{named(1, 100, "long gone")}, nil, atSecond(1000)))
	wantShapes("ended before it came", 0)
	noError(t, "apply", s.apply([]revocation.Entry{named(1, 2000, "a"), named(2, 90_000, "b")}, nil, atSecond(1000)))
	wantShapes("added", 2)
	s.sweep(seconds(4000))
	wantShapes("one has ended", 1)
	noError(t, "check", s.check())
}

// TestAShapeChangesItsOnlyEntry replaces the only entry of a shape, in one
// change, by one of another stripe, and back.
func TestAShapeChangesItsOnlyEntry(t *testing.T) {
	s := newSet(0)
	var last []revocation.Entry
	for i := range 100 {
		next := []revocation.Entry{entryOf(uint64(i+1), 0, seconds(5000), fmt.Sprint(i))}
		noError(t, "apply", s.apply(next, last, atSecond(1000)))
		noError(t, "check", s.check())
		if _, denied, err := s.lookup(subjectToken(fmt.Sprint(i)), seconds(1000), new(positives)); err != nil || !denied || s.len() != 1 {
			t.Fatalf("after change %d: %d entries, the entry denies: %v, %v; want 1, true", i, s.len(), denied, err)
		}
		last = next
	}
}

// TestALookupIsSparedShapesOfOtherClaims shows that a token is looked up under
// the shapes that it can match, and not under the 20,000 others.
func TestALookupIsSparedShapesOfOtherClaims(t *testing.T) {
	s := newSet(0)
	var entries []revocation.Entry
	for i := range 20_000 {
		entries = append(entries, named(uint64(i+1), 5000, "sub", fmt.Sprint("claim-", i)))
	}
	entries = append(entries, named(200_001, 5000, "jti"), named(200_002, 5000, "sub"))
	noError(t, "apply", s.apply(entries, nil, atSecond(1000)))
	claims := map[string]any{"sub": "x", "aud": "api", "claim-77": "x"}
	looked := map[string]bool{}
	s.view.Load().shapes[idp].under(claims, func(shape *revocation.Shape) bool {
		looked[fmt.Sprint(shape.Names())] = true
		return true
	})
	if len(looked) > 2 || !looked["[sub claim-77]"] && !looked["[claim-77 sub]"] || !looked["[sub]"] {
		t.Errorf("a token with sub, aud and claim-77 is looked up under %v, want [sub] and [claim-77 sub]", looked)
	}
	if by, denied, err := s.lookup(&revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "x", "claim-77": "x"}}, seconds(1000), new(positives)); err != nil || !denied {
		t.Errorf("a token that two of the entries match: denied %v by %v, %v; want true", denied, by, err)
	}
}

// BenchmarkManyShapes takes the look-up of a token of an issuer with 100,000
// sets of claim names.
//
//	go test -run '^$' -bench ManyShapes ./revocation/replica
func BenchmarkManyShapes(b *testing.B) {
	s := newSet(0)
	var entries []revocation.Entry
	for i := range 100_000 {
		entries = append(entries, named(uint64(i+1), 5000, fmt.Sprint("claim-", i)))
	}
	noError(b, "apply", s.apply(entries, nil, atSecond(1000)))
	t := &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "x", "jti": "y", "aud": "api", "scope": "a b", "client_id": "z"}}
	counts := new(positives)
	for b.Loop() {
		if _, denied, err := s.lookup(t, seconds(1000), counts); err != nil || denied {
			b.Fatalf("denied %v, %v; want false, nil", denied, err)
		}
	}
}
