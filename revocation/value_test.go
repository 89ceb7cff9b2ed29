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
		{"100000000000000000000", []string{"1e20", "100000000000000000000", "0.1e21"}},
		{"1e21", []string{"1e21", "1000000000000000000000"}},
		{"0.00000000000000000001", []string{"1e-20", "10e-21"}},
		{"1e-21", []string{"1e-21", "0.000000000000000000001"}},
		{"-12e-21", []string{"-12e-21", "-1.2e-20", "-0.012e-18"}},
		{"-123e21", []string{"-123e21", "-1.23e23"}},
		{"1e-1073741824", []string{"1e-1073741824", "0.1e-1073741823"}},
		{"1e1073741824", []string{"1e1073741824", "10e1073741823", "0.1e1073741825"}},
	} {
		for _, n := range c.numbers {
			if v, ok := ValueOf(json.Number(n)); !ok || v.String() != c.want {
				t.Errorf("ValueOf(%.40s) = %q, %v; want %q, true", n, v, ok, c.want)
			}
		}
	}
	for _, n := range []string{"", "-", "e5", ".", "1e", "1e+", "1e+-5", "1e--5", "1ex", "0x1", "1e99999999999", "1e" + long, "1e-" + long, "10e1073741824", "0.1e-1073741824", "1e18446744073709551617", "NaN"} {
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

// TestShownValuesAreReadBack shows that the text of a number is the text of that
// same number, so a revocation of the shown text names each token that shows it.
func TestShownValuesAreReadBack(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		text := number.Draw(t, "number")
		v, ok := ValueOf(json.Number(text))
		again, ok2 := ValueOf(json.Number(v.String()))
		if !ok || !ok2 || again != v {
			t.Fatalf("%s is shown as %q, which is %q, %v, %v; want one value", text, v, again, ok, ok2)
		}
		twin, ok := v.twin()
		back, ok2 := twin.twin()
		if !ok || !ok2 || back != v || twin.kind != 's' {
			t.Fatalf("%s: got the twin %+v with the twin %+v, want a string and the number again", text, twin, back)
		}
		if n, isNumber := v.JSON().(json.Number); !isNumber || string(n) != v.String() {
			t.Fatalf("%s: got the JSON %v, want the number %s", text, v.JSON(), v)
		}
		written, _ := ValueOf(text)
		if _, looks := written.twin(); looks != (text == v.String()) {
			t.Fatalf("the string %q: got that it looks like a number: %v, want %v", text, looks, text == v.String())
		}
	})
	for _, want := range []any{true, false, "true", "x", ""} {
		if v, ok := ValueOf(want); !ok || v.JSON() != want {
			t.Errorf("ValueOf(%#v): got the JSON %#v, %v, want it again", want, v.JSON(), ok)
		}
	}
	if got := (Value{}).JSON(); got != nil {
		t.Errorf("no value: got the JSON %#v, want nil", got)
	}
}
