package revocation

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestCensusAgainstAList compares a census with a list of the ends of entries.
func TestCensusAgainstAList(t *testing.T) {
	minute := Micros(time.Minute / time.Microsecond)
	rapid.Check(t, func(t *rapid.T) {
		var c Census
		var ends []Micros
		past := Minute(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				e := Micros(rapid.Int64Range(0, 300*int64(minute)).Draw(t, "end"))
				ends = append(ends, e)
				c.Add(e, 1)
			case 2:
				if len(ends) > 0 {
					i := rapid.IntRange(0, len(ends)-1).Draw(t, "which")
					c.Add(ends[i], -1)
					ends = append(ends[:i], ends[i+1:]...)
				}
			case 3:
				past = max(past, Minute(rapid.Int64Range(0, 300).Draw(t, "forget")))
				c.Forget(past)
			}
			m := Minute(rapid.Int64Range(0, 310).Draw(t, "after"))
			want := 0
			for _, e := range ends {
				if e.Minute() > m {
					want++
				}
			}
			if got, ok := c.After(m); ok != (m >= past) || ok && got != want {
				t.Fatalf("After(%d) = %d, %v with all up to minute %d forgotten; want %d, %v", m, got, ok, past, want, m >= past)
			}
		}
	})
}
