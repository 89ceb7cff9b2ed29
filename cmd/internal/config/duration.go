package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	day = 24 * time.Hour
	// maxDays is the largest number of days that a duration holds.
	maxDays = uint64(1<<63-1) / uint64(day)
)

// ParseDuration returns the duration that the text states: a Go duration such as
// 1h30m, or whole days such as 30d. All flags and both configuration files take
// durations in this form. The error has no subject, so that the caller can name
// the flag or the key before it.
func ParseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 64)
		if err == nil && n <= maxDays {
			return time.Duration(n) * day, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return 0, fmt.Errorf("%.40q is not a duration; write it as 30s, 5m, 1h30m or 30d", text)
}
