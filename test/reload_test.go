package test

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// reload changes the configuration of a replica while it is asked.
func reload(t *testing.T, w *rig, c *child, url string) {
	good, other := minted(t, w.Stack, nil), minted(t, w.Stack, map[string]any{"aud": "other"})
	client := &http.Client{Timeout: 20 * time.Second}
	write := func(issuer, rest string) {
		w.write("behind.yaml", w.config("behind", "{listen: 127.0.0.1:0}", issuer, rest))
	}
	becomes := func(when, path, token string, want int) {
		t.Helper()
		eventually.Succeeds(t, fmt.Sprintf("%s, %s answers %d", when, path, want), func() error { return wants(client, url+path, token, want) })
	}
	stop := hammer(func() error { return wants(client, url, good, http.StatusOK) })

	write("    audiences: [api, other]", "")
	becomes("with another audience in the changed file", "", other, http.StatusOK)

	write("    audiences: [api]\n    leeway: 10s", "policies: {reports: {scopes: [nobody]}}\n")
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	becomes("with another policy, after SIGHUP", "/reports", good, http.StatusForbidden)
	becomes("with the first audience again", "", other, http.StatusUnauthorized)

	write("    audiences: [api]\n    audiencez: [other]", "polices: {}\n")
	c.said(t, `(?s)the new configuration is refused; the one in force stays.*behind\.yaml:8:5: issuers\[0\]\.audiencez: .*behind\.yaml:\d+:1: polices: `)
	becomes("with a faulty configuration", "/reports", good, http.StatusForbidden)

	write("    audiences: [api, third]", "")
	becomes("with a repaired configuration", "", minted(t, w.Stack, map[string]any{"aud": "third"}), http.StatusOK)
	sent, lost := stop()
	w.nothingLost(t, sent, lost)
}

// A Check that has to wait for a key is waited for by Envoy, and not asked
// again and again.
func TestFirstTokenOfANewKey(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	wantStatus(t, s, "before", login(t, s, "alice"), http.StatusOK)
	for round := range 2 {
		s.Issuer.BreakKeys(jwkstest.Fault{Delay: 200 * time.Millisecond})
		if err := s.Rotate(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // min_refresh_interval
		begun := time.Now()
		wantStatus(t, s, fmt.Sprintf("rotation %d", round), minted(t, s, nil), http.StatusOK)
		if took := time.Since(begun); took < 150*time.Millisecond {
			t.Errorf("rotation %d: wanted a fetch from the issuer, which takes at least 150ms, got the key after %s", round, took)
		}
	}
}
