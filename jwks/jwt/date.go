package jwt

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Date is a NumericDate of RFC 7519 that may be absent.
type Date struct {
	Micros int64 // microseconds since 1970, rounded down
	Set    bool
}

// latest is the last NumericDate that is read: 2^40 seconds, the year 36812.
const latest = int64(1<<40) * 1_000_000

// DateOf returns n as a NumericDate. It is not set for a number that is less than
// 0 or more than 2^40.
func DateOf(n json.Number) (d Date) {
	d.Micros, d.Set = micros(n)
	return d
}

// micros returns a NumericDate from 0 to latest in microseconds, rounded down.
// It works on the text, so it is exact, and refuses a long or large number
// without computing it.
func micros(n json.Number) (int64, bool) {
	const few = 12 // digits that cannot overflow, and nearly all dates have fewer
	if len(n) <= few {
		if seconds, err := strconv.ParseUint(string(n), 10, 63); err == nil {
			return int64(seconds) * 1_000_000, true
		}
	}
	mantissa, exponent := string(n), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, exponent = mantissa[:i], exponentOf(mantissa[i+1:])
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if strings.HasPrefix(digits, "-") {
		return 0, false
	}
	// The value in microseconds is digits times ten to the power of shift.
	shift := exponent - len(fraction) + 6
	switch {
	case digits == "" || len(digits)+shift <= 0:
		return 0, true
	case len(digits)+shift > 19:
		return 0, false
	case shift >= 0:
		digits += strings.Repeat("0", shift)
	default:
		digits = digits[:len(digits)+shift]
	}
	m, err := strconv.ParseInt(digits, 10, 64)
	return m, err == nil && m <= latest
}

// exponentOf reads the digits behind the e of a JSON number. An exponent beyond
// 32 bits becomes the nearest one within: no mantissa that fits in memory makes
// a difference there, and 0e99999999999 is 0 like every other 0.
func exponentOf(text string) int {
	e, _ := strconv.ParseInt(text, 10, 32) // out of range, which is the only error here, e is the bound
	return int(e)
}
