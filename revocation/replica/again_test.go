package replica

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rescind/revocation"
)

// A token's digests are made once for the same shapes, and again when the shapes of
// its issuer change.
func TestDigestsAreKept(t *testing.T) {
	s := newSet(0)
	noError(t, "apply", s.apply([]revocation.Entry{named(1, 5000, "sub")}, nil, atSecond(1000)))
	a := NewAgain(&revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "y", "jti": "x"}})
	look := func(when string, want bool) *digests {
		t.Helper()
		if _, denied, err := s.lookupAgain(a, seconds(1000), new(positives)); err != nil || denied != want {
			t.Fatalf("%s: denied %v, %v; want %v", when, denied, err, want)
		}
		return a.digests.Load()
	}
	first := look("one shape", false)
	if len(first.of) != 1 {
		t.Fatalf("one shape: got %d digests, want 1", len(first.of))
	}
	noError(t, "apply", s.apply([]revocation.Entry{named(2, 5000, "sub")}, nil, atSecond(1000)))
	if look("another entry of the shape", false) != first {
		t.Error("another entry of the shape: the digests were made again, want those of the first look-up")
	}
	noError(t, "apply", s.apply([]revocation.Entry{named(3, 5000, "jti")}, nil, atSecond(1000)))
	if second := look("another shape", true); second == first || len(second.of) != 2 {
		t.Errorf("another shape: got %d digests, want 2 new ones", len(second.of))
	}
	noError(t, "apply", s.apply(nil, []revocation.Entry{named(3, 5000, "jti")}, atSecond(1000)))
	look("the shape is gone", false)

	if n := testing.AllocsPerRun(100, func() { look("again", false) }); n != 0 {
		t.Errorf("a look-up with kept digests takes %v allocations, want 0", n)
	}
}

// A token with many digests keeps none, and is denied like any other. One with too
// many to look up is refused on every look-up.
func TestManyDigestsAreNotKept(t *testing.T) {
	many := func(n int) *revocation.Token {
		array := make([]any, n)
		for i := range array {
			array[i] = fmt.Sprint("group-", i)
		}
		array[n-1] = "x"
		return &revocation.Token{Issuer: idp, Claims: map[string]any{"a": array, "b": array}}
	}
	f := open(t, Options{})
	defer f.Close()
	noError(t, "Greet", f.Greet("log-1", 1, month))
	l, err := f.Load("log-1", 1, 1)
	noError(t, "Load", err)
	l.Add([]revocation.Entry{named(1, time.Now().Unix()+1000, "a", "b")})
	noError(t, "Commit", l.Commit())
	for _, c := range []struct {
		elements int
		want     error
		kept     bool
	}{{5, nil, true}, {6, nil, false}, {1000, revocation.ErrTooManyCombinations, false}} {
		a := NewAgain(many(c.elements))
		for range 2 {
			v, err := f.LookupAgain(a, time.Now())
			if !errors.Is(err, c.want) || v.Revoked != (c.want == nil) {
				t.Errorf("%d elements in each of two arrays: got %+v, %v; want %v, revoked if there is no error", c.elements, v, err, c.want)
			}
			if d := a.digests.Load(); d.kept != c.kept || len(d.of) > mostKept || !d.kept && d.of != nil {
				t.Errorf("%d elements in each of two arrays: %d digests are kept, want at most %d, and any: %v", c.elements, len(d.of), mostKept, c.kept)
			}
		}
	}
}
