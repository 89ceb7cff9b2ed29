package jwt

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMicros(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"0", 0, true},
		{"0.0", 0, true},
		{"0e999", 0, true},
		{"0e99999999999", 0, true},
		{"0.00e-99999999999", 0, true},
		{"1764000000", 1764000000_000000, true},
		{"1764000000.5", 1764000000_500000, true},
		{"1764000000.9999999999", 1764000000_999999, true}, // rounded down: a float would make it the next second
		{"1.764e9", 1764000000_000000, true},
		{"1.764E+9", 1764000000_000000, true},
		{"1764000000000000e-6", 1764000000_000000, true},
		{"1099511627776", latest, true},
		{"1e-7", 0, true},
		{"1e-2147483648", 0, true},
		{"1e-2147483649", 0, true},
		{"1e-99999999999", 0, true},
		{"0." + strings.Repeat("0", 1000) + "1e1001", 1_000000, true},

		{"-1", 0, false},
		{"-0", 0, false},
		{"-0.1", 0, false},
		{"1099511627777", 0, false},
		{"9223372036854775807", 0, false},
		{"9223372036854775808", 0, false},
		{"18446744073709551616", 0, false},
		{"1e20", 0, false},
		{"1e400", 0, false},
		{"1e2147483647", 0, false},
		{"1e2147483648", 0, false},
		{"1e99999999999", 0, false},
		{"-0e99999999999", 0, false},
		{strings.Repeat("9", 10000), 0, false},
	} {
		if got, ok := micros(json.Number(c.text)); ok != c.ok || ok && got != c.want {
			t.Errorf("micros(%.40s) = %d, %v, want %d, %v", c.text, got, ok, c.want, c.ok)
		}
	}
}

// micros is compared with exact rational arithmetic.
func TestMicrosIsExact(t *testing.T) {
	million := big.NewRat(1_000_000, 1)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("big.Rat cannot read %s, want a number that it can", text)
		}
		r.Mul(r, million)
		want := new(big.Int).Quo(r.Num(), r.Denom())
		got, ok := micros(json.Number(text))
		inside := !strings.HasPrefix(text, "-") && want.Cmp(big.NewInt(latest)) <= 0
		if ok != inside || ok && want.Cmp(big.NewInt(got)) != 0 {
			t.Fatalf("micros(%s) = %d, %v, want %v, %v", text, got, ok, want, inside)
		}
	})
}
