package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// A revocation that would deny nobody, because its issuer has a slash too many,
// is refused and names the issuer that was meant.
func TestUnknownIssuerThroughTheProduct(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	token := login(t, s, "alice")
	wantStatus(t, s, "alice's", token, 200)
	wrong := map[string]any{"issuer": s.Issuer.URL() + "/", "claims": map[string]any{"jti": claim(t, token, "jti")}}
	var problem struct{ Type, Detail string }
	eventually.Succeeds(t, "an unknown issuer is refused, once the control endpoint is up for five seconds", func() error {
		a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations", wrong, nil)
		if err == nil && a.Status != http.StatusUnprocessableEntity {
			return fmt.Errorf("status %d: %s", a.Status, a.Body)
		}
		if err == nil {
			err = json.Unmarshal(a.Body, &problem)
		}
		return err
	})
	if problem.Type != "unknown_issuer" || !strings.Contains(problem.Detail, fmt.Sprintf("%q", s.Issuer.URL())) {
		t.Errorf("got %+v, want unknown_issuer that names %s", problem, s.Issuer.URL())
	}
	wantStatus(t, s, "alice's, still", token, 200)

	var got struct {
		Replicas struct{ Applied, Accepting, Total int }
		Warnings []string
	}
	post := func(query string, body map[string]any) {
		t.Helper()
		a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?wait=all&timeout=10s"+query, body, &got)
		if err != nil || a.Status/100 != 2 {
			t.Fatalf("POST %+v with %q: got status %d, %s, %v, want 2xx", body, query, a.Status, a.Body, err)
		}
	}
	post("&unknown_issuer=true", wrong)
	if r := got.Replicas; r.Applied != r.Total || r.Total != 2 || r.Accepting != 0 || len(got.Warnings) != 1 {
		t.Errorf("of the unknown issuer: got %+v, want 2 of 2 replicas, 0 of which accept it, and a warning", got)
	}
	got.Warnings = nil
	post("", map[string]any{"issuer": s.Issuer.URL(), "claims": wrong["claims"]})
	if r := got.Replicas; r.Applied != 2 || r.Accepting != 2 || len(got.Warnings) != 0 {
		t.Errorf("of the issuer: got %+v, want 2 replicas that accept it, without a warning", got)
	}
	wantStatus(t, s, "alice's, revoked", token, 401)
	if out := commandOf(t, s, "replicas"); strings.Count(out, s.Issuer.URL()) != 2 {
		t.Errorf("rescind replicas: got\n%swant the issuer of both replicas", out)
	}
}

// The limits that are on by default, with traffic through Envoy.
func TestGuardThroughTheProduct(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	service, user := login(t, s, "service"), login(t, s, "user")
	body := func(subject string) map[string]any {
		return map[string]any{"issuer": s.Issuer.URL(), "claims": map[string]any{"sub": subject}}
	}
	for range 900 {
		wantStatus(t, s, "the service's", service, 200)
	}
	for range 150 {
		wantStatus(t, s, "the user's", user, 200)
	}
	post := func(query string, body map[string]any) (status int, seen map[string]any) {
		t.Helper()
		var got struct{ Seen map[string]any }
		a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?"+query, body, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(a.Body, &got); err != nil {
			t.Fatalf("POST %+v with %q: got %s, %v, want JSON", body, query, a.Body, err)
		}
		return a.Status, got.Seen
	}
	eventually.True(t, "the replicas have taken in all traffic", func() bool {
		var d struct{ Total int }
		_, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?dry_run=true", body("service"), &d)
		return err == nil && d.Total == 1050
	})
	if status, _ := post("", body("service")); status != http.StatusConflict {
		t.Errorf("a subject with 900 of 1050 requests: got status %d, want 409", status)
	}
	wantStatus(t, s, "the service's, still", service, 200)
	if status, seen := post("wait=all", body("user")); status != http.StatusCreated || seen["requests"] != 150.0 || seen["tokens"] != 1.0 || seen["partial"] != false {
		t.Errorf("a subject with 150 of 1051 requests: got status %d and seen %v, want 201 and 150 requests with 1 token", status, seen)
	}
	session := map[string]any{"issuer": s.Issuer.URL(), "claims": map[string]any{"jti": claim(t, service, "jti")}}
	if status, seen := post("wait=all", session); status != http.StatusCreated || seen != nil {
		t.Errorf("the loud token itself: got status %d and seen %v, want 201 without a weight", status, seen)
	}
	wantStatus(t, s, "the service's, revoked", service, 401)
	all := map[string]any{"issuer": s.Issuer.URL(), "all": true}
	if status, _ := post("", all); status != http.StatusConflict {
		t.Errorf("all: got status %d, want 409", status)
	}
	if status, _ := post("confirm=true", all); status != http.StatusCreated {
		t.Errorf("all, confirmed: got status %d, want 201", status)
	}
}
