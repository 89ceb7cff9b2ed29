package test

import (
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/teststack"
)

// got returns the answer to a request through Envoy.
func got(t *testing.T, s *envoytest.Stack, path, token string, headers ...string) envoytest.Answer {
	t.Helper()
	a, err := s.Get(t.Context(), path, token, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantStatus(t *testing.T, s *envoytest.Stack, what, token string, want int) {
	t.Helper()
	if a := got(t, s, "/", token); a.Status != want {
		t.Fatalf("%s: wanted %d, got %d %s", what, want, a.Status, a.Body)
	}
}

func login(t *testing.T, s *envoytest.Stack, subject string) string {
	t.Helper()
	return teststack.Login(t, s, subject)
}

// minted returns a token of the issuer. The claims replace the usual ones, and nil
// removes a claim.
func minted(t *testing.T, s *envoytest.Stack, claims map[string]any) string {
	t.Helper()
	token, err := s.Mint(claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// created is the answer to a revocation.
type created struct {
	ID       string
	Revision uint64
	Replicas struct {
		Applied, Total int
		Pending        []string
	}
}

// revoked posts a revocation and demands that it is in force on every replica.
func revoked(t *testing.T, s *envoytest.Stack, body map[string]any) created {
	t.Helper()
	var r created
	full := map[string]any{"issuer": s.Issuer.URL()}
	maps.Copy(full, body)
	a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?confirm=true&wait=all&timeout=10s", full, &r)
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("revoke %v: wanted 201, got %d %s %v", body, a.Status, a.Body, err)
	}
	return r
}

func claim(t *testing.T, token, name string) string {
	t.Helper()
	value, err := envoytest.Claim(token, name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(value)
}

// nextSecond waits for the next second, so that a login is later than a revocation
// made before.
func nextSecond() {
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second + 5*time.Millisecond)))
}

// becomes waits until the gateway answers a request with this status: Envoy may
// have to notice a change first.
func becomes(t *testing.T, s *envoytest.Stack, when, token string, want int) {
	t.Helper()
	eventually.Succeeds(t, fmt.Sprintf("%s, the gateway answers %d", when, want), func() error {
		if a := got(t, s, "/", token); a.Status != want {
			return fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return nil
	})
}
