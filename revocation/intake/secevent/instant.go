package secevent

import (
	"encoding/json"
	"time"
)

// firstMillis is the least number that is read as milliseconds since 1970. As
// seconds it would be a time in the year 5138.
const firstMillis = 1e11

// latest is the last second that is read, which is also the last that a token
// can carry.
const latest = 1 << 40

// Instant returns the time that a claim writes as a number of seconds since 1970,
// or of milliseconds, as Okta does. It is false for every other value, and for a
// time at or before 1970.
func Instant(v any) (time.Time, bool) {
	n, _ := v.(json.Number)
	f, err := n.Float64()
	if err == nil && f > firstMillis {
		f /= 1000
	}
	if err != nil || f <= 0 || f > latest {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(f * 1e6)).UTC(), true
}
