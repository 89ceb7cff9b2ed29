package revocation

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Value is a string, a number or a boolean of JSON in canonical form:
// comparable, and equal exactly when the JSON values are equal (1, 1.0 and
// 10e-1 are one number; "1" is another value).
type Value struct {
	kind byte   // 's', 'n', 'b'
	text string // the string; the canonical number; "true" or "false"
}

// ValueOf takes a decoded JSON value: a string, bool or [json.Number]. For
// anything else ok is false.
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

// JSON is v as a JSON text writes it.
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

// String is the value without quotes, for people.
func (v Value) String() string { return v.text }

// canonicalNumber writes a JSON number as digits without leading or trailing
// zeros and a decimal exponent, so that equal numbers have equal texts however
// large they are. It works on the text: no precision is lost, and an exponent
// of a billion costs nothing.
func canonicalNumber(s string) (string, bool) {
	neg := strings.HasPrefix(s, "-")
	mantissa, exp := strings.TrimPrefix(s, "-"), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		e, err := strconv.ParseInt(mantissa[i+1:], 10, 32)
		if err != nil {
			return "", false
		}
		mantissa, exp = mantissa[:i], int(e)
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := whole + frac
	exp -= len(frac)
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	trimmed := strings.TrimRight(digits, "0")
	exp += len(digits) - len(trimmed)
	trimmed = strings.TrimLeft(trimmed, "0")
	if trimmed == "" {
		return "0", true
	}
	switch { // what people write without an exponent stays readable
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
