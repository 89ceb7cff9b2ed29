package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

func refreshed(t *testing.T, s *envoytest.Stack, g envoytest.Grant) envoytest.Grant {
	t.Helper()
	next, err := s.Refresh(t.Context(), g.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// A revoked session stays revoked: tokens that the issuer still refreshes into it
// are denied too. Another session of the same subject goes on.
func TestARefreshedTokenOfARevokedSession(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	first, err := s.LoginWithRefresh(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.LoginWithRefresh(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	second := refreshed(t, s, first)
	if claim(t, second.Access, "sid") != claim(t, first.Access, "sid") || claim(t, second.Access, "jti") == claim(t, first.Access, "jti") {
		t.Fatal("wanted a refreshed token of the same session with another jti, got another session or the same jti")
	}
	wantStatus(t, s, "refreshed, before", second.Access, 200)
	r := revoked(t, s, map[string]any{"claims": map[string]any{"sid": claim(t, first.Access, "sid")}})
	nextSecond()
	third := refreshed(t, s, second) // the issuer does not know of the revocation
	for what, token := range map[string]string{"the first token": first.Access, "refreshed before": second.Access, "refreshed after": third.Access, "refreshed again": refreshed(t, s, third).Access} {
		wantStatus(t, s, what, token, 401)
	}
	wantStatus(t, s, "another session", refreshed(t, s, other).Access, 200)
	a, err := s.Admin(t.Context(), http.MethodDelete, "/v1/revocations/"+r.ID+"?wait=all&timeout=10s", nil, nil)
	if err != nil || a.Status != 200 {
		t.Fatalf("restore %s: wanted 200, got %d %s %v", r.ID, a.Status, a.Body, err)
	}
	wantStatus(t, s, "restored", third.Access, 200)
}

// With issued_before a session ends for the tokens that it has: a refreshed token is
// allowed again.
func TestARefreshedTokenOfASessionWithACutOff(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	first, err := s.LoginWithRefresh(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	nextSecond()
	revoked(t, s, map[string]any{"claims": map[string]any{"sid": claim(t, first.Access, "sid")}, "issued_before": time.Now().Truncate(time.Second).Format(time.RFC3339)})
	wantStatus(t, s, "the token", first.Access, 401)
	wantStatus(t, s, "refreshed after the cut-off", refreshed(t, s, first).Access, 200)
}

// An issuer with a revocation_endpoint is told of a revoked token (RFC 7009).
func TestTheIssuerIsTold(t *testing.T) {
	t.Parallel()
	hook := newHook(t) // in the place of the issuer's endpoint, to see the call
	s := start(t, envoytest.Options{Replicas: 1})
	reconfigured(t, s, fmt.Sprintf("issuers: [{issuer: %q, revocation_endpoint: %q, client_id: rescind}]\n", s.Issuer.URL(), hook.URL))
	token := login(t, s, "alice")
	a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?wait=all", map[string]any{"token": token}, nil)
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("revoke: wanted 201, got %d %s %v", a.Status, a.Body, err)
	}
	if got := hook.next(t); !strings.Contains(string(got.body), "token="+token) || got.header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		t.Errorf("wanted a form with token=%s, got %s of the type %q", token, got.body, got.header.Get("Content-Type"))
	}
}
