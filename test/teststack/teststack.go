// Package teststack runs a whole rescind behind an Envoy for the time of a test.
package teststack

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

// Start runs a stack until the test ends. The test fails if the stack is not ready
// within a minute. A test that failed shows the end of each part's log.
func Start(t testing.TB, o envoytest.Options) *envoytest.Stack {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := envoytest.Start(ctx, o)
	t.Cleanup(func() {
		if s != nil {
			s.Close()
		}
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(o.Dir, "*.log"))
		for _, name := range logs {
			text, _ := os.ReadFile(name)
			t.Logf("== %s\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Login returns a token of the stack's issuer for a subject.
func Login(t testing.TB, s *envoytest.Stack, subject string) string {
	t.Helper()
	token, err := s.Login(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
