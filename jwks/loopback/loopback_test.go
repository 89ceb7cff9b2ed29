package loopback_test

import (
	"testing"

	"rescind/jwks/loopback"
)

func TestIs(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost":         true,
		"LOCALHOST":         true,
		"LocalHost.":        true,
		"127.0.0.1":         true,
		"127.255.255.254":   true,
		"::1":               true,
		"0:0:0:0:0:0:0:1":   true,
		"::ffff:127.0.0.1":  true,
		"::ffff:7f00:1":     true,
		"::1%lo":            true,
		"":                  false,
		".":                 false,
		"localhost..":       false,
		"localhost.evil.io": false,
		"evil.localhost":    false, // a resolver may send it anywhere
		"localhost:80":      false,
		"127.0.0.1.":        false, // a name, which a resolver answers
		"127.1":             false,
		"2130706433":        false,
		"[::1]":             false,
		"0.0.0.0":           false, // a listener there serves everybody
		"::":                false,
		"128.0.0.1":         false,
		"::ffff:10.0.0.1":   false,
		"ⅼocalhost":         false,
		"localhoſt":         false,
	} {
		if got := loopback.Is(host); got != want {
			t.Errorf("Is(%q) = %v, want %v", host, got, want)
		}
	}
}
