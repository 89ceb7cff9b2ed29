package revocation

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEqualNumbersAreOneValue(t *testing.T) {
	long := strings.Repeat("9", 10_000)
	for _, c := range []struct {
		want    string
		numbers []string
	}{
		{"0", []string{"0", "-0", "0.0", "-0.0e-7", "0e5", "0E+5", "0e99999999999", "0e-99999999999", "0.000e" + long, "-0e-" + long}},
		{"1", []string{"1", "1.0", "10e-1", "0.1e1", "1e0", "1e-0", "1E+000", "1e" + strings.Repeat("0", 5000)}},
		{"-15", []string{"-15", "-1.5e1", "-150e-1"}},
		{"0.05", []string{"0.05", "5e-2", "0.5E-1", "0.0500"}},
		{"1e1073741824", []string{"1e1073741824", "10e1073741823", "0.1e1073741825"}},
	} {
		for _, n := range c.numbers {
			if v, ok := ValueOf(json.Number(n)); !ok || v.String() != c.want {
				t.Errorf("ValueOf(%.40s) = %q, %v; want %q, true", n, v, ok, c.want)
			}
		}
	}
	for _, n := range []string{"", "-", "e5", ".", "1e", "1e+", "1e+-5", "1e--5", "1ex", "0x1", "1e99999999999", "1e" + long, "1e-" + long, "10e1073741824", "NaN"} {
		if v, ok := ValueOf(json.Number(n)); ok {
			t.Errorf("ValueOf(%.40s) = %q, true; want no value", n, v)
		}
	}
}

// TestNumbersAgainstExactArithmetic compares canonical numbers with the exact
// ones of math/big.
func TestNumbersAgainstExactArithmetic(t *testing.T) {
	number := rapid.Custom(func(t *rapid.T) string {
		s := rapid.StringMatching(`-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,5})?`).Draw(t, "mantissa")
		if rapid.Bool().Draw(t, "has an exponent") {
			s += fmt.Sprintf("e%d", rapid.IntRange(-25, 25).Draw(t, "exponent"))
		}
		return s
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		if rapid.Bool().Draw(t, "related") {
			b = fmt.Sprintf("%se%d", strings.Split(a, "e")[0], rapid.IntRange(-2, 2).Draw(t, "shift"))
		}
		x, okX := new(big.Rat).SetString(a)
		y, okY := new(big.Rat).SetString(b)
		v, okV := ValueOf(json.Number(a))
		w, okW := ValueOf(json.Number(b))
		if !okX || !okY || !okV || !okW {
			t.Fatalf("%s and %s are numbers: %v %v, with values: %v %v; want all true", a, b, okX, okY, okV, okW)
		}
		if (v == w) != (x.Cmp(y) == 0) {
			t.Fatalf("%s is %q and %s is %q: equal values: %v, want %v", a, v, b, w, v == w, x.Cmp(y) == 0)
		}
		if z, ok := new(big.Rat).SetString(v.String()); !ok || z.Cmp(x) != 0 {
			t.Fatalf("ValueOf(%s) = %q, want the same number", a, v)
		}
	})
}

// TestAHugeExponentCostsNothing would run out of memory or of time if a number
// were ever written out.
func TestAHugeExponentCostsNothing(t *testing.T) {
	v, ok := ValueOf(json.Number("1e1000000000"))
	if !ok || v.String() != "1e1000000000" {
		t.Errorf("ValueOf(1e1000000000) = %q, %v; want it as it is", v, ok)
	}
}
