package revocation

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func claimShape(t testing.TB, names ...string) Shape {
	t.Helper()
	s, err := ShapeOf("https://idp.example/", KindClaims, names)
	if err != nil {
		t.Fatalf("ShapeOf(%q): got %v, want nil", names, err)
	}
	return s
}

// array returns n distinct values of a claim, each of about size bytes.
func array(n, size int) []any {
	a := make([]any, n)
	for i := range a {
		a[i] = fmt.Sprintf("%0*d", size, i)
	}
	return a
}

func TestCombinationsAreBounded(t *testing.T) {
	for _, c := range []struct {
		name   string
		shape  Shape
		claims map[string]any
		want   int // digests; -1: too many combinations
	}{
		{"two claims", claimShape(t, "a", "b"), map[string]any{"a": "x", "b": "y"}, 1},
		{"a long array alone", claimShape(t, "a"), map[string]any{"a": array(5000, 6)}, 5000},
		{"50 × 50", claimShape(t, "a", "b"), map[string]any{"a": array(50, 6), "b": array(50, 6)}, 2500},
		{"500 × 500", claimShape(t, "a", "b"), map[string]any{"a": array(500, 6), "b": array(500, 6)}, -1},
		{"500 × 500, of a token without the third claim", claimShape(t, "a", "b", "c"), map[string]any{"a": array(500, 6), "b": array(500, 6)}, 0},
		{"500 × 500 × 0", claimShape(t, "a", "b", "c"), map[string]any{"a": array(500, 6), "b": array(500, 6), "c": []any{}}, 0},
		{"few combinations of long values", claimShape(t, "a", "b"), map[string]any{"a": array(60, 1000), "b": array(60, 1000)}, -1},
		{"values too long to be revoked by", claimShape(t, "a", "b"), map[string]any{"a": array(500, MaxValue+1), "b": array(500, MaxValue+1)}, 0},
		{"a single value that is too long", claimShape(t, "a"), map[string]any{"a": strings.Repeat("x", MaxValue+1)}, 0},
		{"a single value as long as can be", claimShape(t, "a"), map[string]any{"a": strings.Repeat("x", MaxValue)}, 1},
		{"no claim", claimShape(t, "a"), nil, 0},
		{"two texts that look like numbers", claimShape(t, "a", "b"), map[string]any{"a": "17", "b": json.Number("5")}, 4},
		{"a long array of such texts", claimShape(t, "a"), map[string]any{"a": append(array(4000, 6), "1", "2")}, 4004},
	} {
		budget, got := LookupBudget, 0
		err := (&Token{Issuer: c.shape.Issuer, Claims: c.claims}).Digests(&c.shape, &budget, func(Digest) bool { got++; return true })
		switch {
		case c.want < 0 && (!errors.Is(err, ErrTooManyCombinations) || got > 0):
			t.Errorf("%s: %d digests, %v; want none, %v", c.name, got, err, ErrTooManyCombinations)
		case c.want >= 0 && (err != nil || got != c.want):
			t.Errorf("%s: %d digests, %v; want %d, nil", c.name, got, err, c.want)
		}
		if budget < 0 || budget > LookupBudget {
			t.Errorf("%s: %d of the budget is left, want 0 to %d", c.name, budget, LookupBudget)
		}
	}
}

// TestTheBudgetIsOfAllShapes shows that many shapes do not multiply the cost of
// a token's arrays, and that a token without long arrays spends nothing.
func TestTheBudgetIsOfAllShapes(t *testing.T) {
	long := &Token{Claims: map[string]any{"a": array(1000, 6), "b": "x", "c": "y", "d": "z"}}
	plain := &Token{Claims: map[string]any{"a": "w", "b": "17", "c": json.Number("5"), "d": true}}
	budgetOfLong, budgetOfPlain, digests := LookupBudget, LookupBudget, 0
	var err error
	for i := 0; i < 1000; i++ {
		s := claimShape(t, [][]string{{"a"}, {"a", "b"}, {"a", "c"}, {"a", "d"}, {"a", "b", "c"}}[i%5]...)
		if err == nil {
			err = long.Digests(&s, &budgetOfLong, func(Digest) bool { digests++; return true })
		}
		if err := plain.Digests(&s, &budgetOfPlain, func(Digest) bool { return true }); err != nil {
			t.Fatalf("a token without arrays, shape %d: got %v, want nil", i, err)
		}
	}
	if !errors.Is(err, ErrTooManyCombinations) || digests > LookupBudget {
		t.Errorf("1000 shapes with an array of 1000: %d digests, %v; want at most %d, %v", digests, err, LookupBudget, ErrTooManyCombinations)
	}
	if budgetOfPlain != LookupBudget {
		t.Errorf("a token without arrays spent %d of the budget, want 0", LookupBudget-budgetOfPlain)
	}
}

// TestAClaimNamedLikeAShapeHidesNothing has a token with a claim whose name is
// the names of a shape, joined as the shape joins them.
func TestAClaimNamedLikeAShapeHidesNothing(t *testing.T) {
	target := Target{Kind: KindClaims, Claims: []Claim{{"a", Value{'s', "x"}}, {"b", Value{'s', "y"}}}}
	shape := target.Shape("https://idp.example/")
	want := target.digest(shape)
	for _, claims := range []map[string]any{
		{"a": "x", "b": "y"},
		{"a": "x", "b": "y", "a\x00b": "x"},
	} {
		budget, found := LookupBudget, false
		err := (&Token{Claims: claims}).Digests(&shape, &budget, func(d Digest) bool { found = found || d == want; return true })
		if err != nil || !found {
			t.Errorf("token with claims %q: the digest of the target was found %v, %v; want true, nil", claims, found, err)
		}
	}
}

// BenchmarkCombinations takes the longest look-up that a token can cause with
// its arrays.
func BenchmarkCombinations(b *testing.B) {
	for name, c := range map[string]struct {
		shape  Shape
		claims map[string]any
	}{
		"short values": {claimShape(b, "a", "b"), map[string]any{"a": array(90, 6), "b": array(90, 6)}},
		"long values":  {claimShape(b, "a", "b"), map[string]any{"a": array(22, 1000), "b": array(22, 1000)}},
	} {
		b.Run(name, func(b *testing.B) {
			t := &Token{Claims: c.claims}
			for b.Loop() {
				budget := LookupBudget
				if err := t.Digests(&c.shape, &budget, func(Digest) bool { return true }); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(LookupBudget-budget), "blocks")
			}
		})
	}
}
