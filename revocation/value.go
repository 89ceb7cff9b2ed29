package revocation

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Value is a string, a number or a boolean of JSON in canonical form. Two values
// are equal (==) exactly when the JSON values are equal. For example, 1, 1.0 and
// 10e-1 are one number, 0, -0 and 0e9 are one number, and "1" is another value.
//
// A revocation compares values by the text that [Value.String] returns, also
// values of different types. The number 1.0 is shown as 1, so the string "1"
// names it too. The string "1.0" does not. Conditions of the configuration
// compare with ==.
type Value struct {
	kind byte   // 's', 'n', 'b'
	text string // the string; the canonical number; "true" or "false"
}

// ValueOf returns the Value of a decoded JSON value: a string, a bool or a
// [json.Number]. ok is false for anything else, and for a number whose exponent
// is beyond all use.
func ValueOf(v any) (_ Value, ok bool) {
	switch v := v.(type) {
	case string:
		return Value{'s', v}, true
	case bool:
		return Value{'b', strconv.FormatBool(v)}, true
	case json.Number:
		text, ok := canonicalNumber(string(v))
		return Value{'n', text}, ok
	}
	return Value{}, false
}

// JSON returns v in the form that encoding/json writes.
func (v Value) JSON() any {
	switch v.kind {
	case 's':
		return v.text
	case 'b':
		return v.text == "true"
	case 'n':
		return json.Number(v.text)
	}
	return nil
}

// String returns the text of v without quotes. Rescind shows v as this text
// everywhere. It is exact for every number.
func (v Value) String() string { return v.text }

// Shown returns the text that rescind shows for a claim that is a string, a number
// or a boolean, and "" for every other claim.
func Shown(claim any) string {
	v, _ := ValueOf(claim)
	return v.text
}

// twin returns the value of another type that is shown as the same text: the
// string of a number or a boolean, and the number or the boolean that a string
// looks like. Most strings have none.
func (v Value) twin() (_ Value, ok bool) {
	switch {
	case v.kind != 's':
		return Value{'s', v.text}, true
	case v.text == "true", v.text == "false":
		return Value{'b', v.text}, true
	case isShownNumber(v.text):
		return Value{'n', v.text}, true
	}
	return Value{}, false
}

// isShownNumber reports whether a number is shown as s. The first loop spares
// nearly all texts the rest.
func isShownNumber(s string) bool {
	for i := range len(s) {
		if b := s[i]; (b < '0' || b > '9') && b != '.' && b != '-' && b != 'e' {
			return false
		}
	}
	text, ok := canonicalNumber(s)
	return ok && text == s
}

// maxExponent bounds the decimal exponent of a canonical number.
const maxExponent = 1 << 30

// canonicalNumber returns the JSON number s as digits without leading or
// trailing zeros and a decimal exponent, so that equal numbers have equal texts.
// It works on the text: no precision is lost, and the size of an exponent costs
// nothing. ok is false if s is not a number or its exponent is beyond
// maxExponent. Zero is "0", with any sign and any exponent.
func canonicalNumber(s string) (text string, ok bool) {
	neg := strings.HasPrefix(s, "-")
	mantissa, power, hasPower := strings.TrimPrefix(s, "-"), "", false
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, power, hasPower = mantissa[:i], mantissa[i+1:], true
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	trimmed := strings.TrimRight(digits, "0")
	exp := len(digits) - len(trimmed) - len(frac)
	if hasPower {
		e, ok := exponent(power)
		if !ok {
			return "", false
		}
		exp += e
	}
	trimmed = strings.TrimLeft(trimmed, "0")
	if trimmed == "" {
		return "0", true
	}
	if exp < -maxExponent || exp > maxExponent {
		return "", false
	}
	switch { // a number that people write without an exponent stays readable
	case exp > 0 && exp <= 20:
		trimmed, exp = trimmed+strings.Repeat("0", exp), 0
	case exp < 0 && exp >= -20:
		if pad := 1 - exp - len(trimmed); pad > 0 {
			trimmed = strings.Repeat("0", pad) + trimmed
		}
		point := len(trimmed) + exp
		trimmed, exp = trimmed[:point]+"."+trimmed[point:], 0
	}
	if neg {
		trimmed = "-" + trimmed
	}
	if exp != 0 {
		trimmed += "e" + strconv.Itoa(exp)
	}
	return trimmed, true
}

// exponent returns the exponent that s writes. An exponent beyond 2^40, however
// long, is returned as 2^40 or its negative: any number but zero is out of
// bounds with it. ok is false if s is not an exponent.
func exponent(s string) (e int, ok bool) {
	const most = 1 << 40
	neg := strings.HasPrefix(s, "-")
	digits := strings.TrimLeft(s, "+-")
	if digits == "" || len(s)-len(digits) > 1 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	digits = strings.TrimLeft(digits, "0")
	switch n, err := strconv.Atoi("0" + digits); {
	case err != nil, n > most:
		e = most
	default:
		e = n
	}
	if neg {
		e = -e
	}
	return e, true
}
