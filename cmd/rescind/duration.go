package main

import (
	"time"

	"github.com/spf13/pflag"

	"rescind/cmd/internal/config"
	"rescind/revocation/printable"
)

// durationFlag is the value of a flag that takes a duration.
type durationFlag time.Duration

func (d *durationFlag) Type() string { return "duration" }

// String returns the text that the help shows as the default. It is empty for 0,
// which stands for no default.
func (d *durationFlag) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func (d *durationFlag) Set(text string) error {
	v, err := config.ParseDuration(text)
	*d = durationFlag(v)
	return err
}

// durationVar defines a flag that takes a duration. The present value of at is
// the default.
func durationVar(f *pflag.FlagSet, at *time.Duration, name, text string) {
	f.Var((*durationFlag)(at), name, text)
}

// sinceTime returns the value of --since as the API takes it. The flag holds a
// time, or a duration before now.
func sinceTime(text string, now time.Time) (string, error) {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		ago, err := config.ParseDuration(text)
		if err != nil || ago <= 0 {
			return "", usage("--since %s: it must be a time such as 2026-11-24T07:00:01Z, or a duration such as 1h or 30d", printable.Quote(text))
		}
		at = now.Add(-ago)
	}
	return at.UTC().Format(time.RFC3339Nano), nil
}
