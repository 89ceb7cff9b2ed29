package main

import (
	"strconv"
	"strings"
	"time"

	"rescind/revocation/printable"
)

// maxDays bounds a duration in days.
const maxDays = 36500

// parseDuration returns a duration as the flags take it: a Go duration such as
// 1h30m, or whole days such as 30d. It reports false for anything else, and for a
// duration that is not more than 0.
func parseDuration(text string) (time.Duration, bool) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		return time.Duration(n) * 24 * time.Hour, err == nil && n > 0 && n <= maxDays
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// sinceTime returns the value of --since as the API takes it. The flag holds a
// time, or a duration before now.
func sinceTime(text string, now time.Time) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		ago, ok := parseDuration(text)
		if !ok {
			return "", usage("--since %s: it must be a time such as 2026-11-24T07:00:01Z, or a duration such as 1h or 30d", printable.Quote(text))
		}
		at = now.Add(-ago)
	}
	return at.UTC().Format(time.RFC3339Nano), nil
}
