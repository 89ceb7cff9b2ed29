package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// endpointURL is the URL of the endpoint of Global Token Revocation, as a proxy
// before it would have it.
const endpointURL = "https://signals.example.com/intake/okta/global-token-revocation"

// The events of identity providers and clients, posted to the real control node,
// are denied at a real Envoy.
func TestEventsThatArePushedAreDeniedAtTheGateway(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Intakes: func(issuer string) string {
		common := fmt.Sprintf("issuers: [%q], jwks_uri: %q", issuer, issuer+"/jwks")
		return strings.Join([]string{
			`  - {name: idp, kind: logout, ` + common + `, clients: [demo]}`,
			`  - {name: clients, kind: revocation_endpoint, ` + common + `, clients: [{client_id: demo, sha256: ` + envoytest.Digest("client secret") + `}]}`,
			fmt.Sprintf(`  - {name: okta, kind: global_token_revocation, %s, sender: %q, endpoint: %q, clients: [0oa1]}`, common, issuer, endpointURL),
		}, "\n")
	}})
	send := func(t *testing.T, path string, form url.Values, change func(*http.Request)) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.IntakeURLs[0]+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if change != nil {
			change(req)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}

	t.Run("the logout of a session", func(t *testing.T) {
		one, two := login(t, s, "alice"), login(t, s, "alice")
		wantStatus(t, s, "alice's", one, http.StatusOK)
		token, err := s.Issuer.LogoutToken(map[string]any{"sub": "alice", "sid": claim(t, one, "sid")})
		if err != nil {
			t.Fatal(err)
		}
		eventually.Succeeds(t, "the control node has the keys of the issuer", func() error {
			if status := send(t, "/intake/idp/logout", url.Values{"logout_token": {token}}, nil); status == http.StatusServiceUnavailable {
				return errors.New("the answer is 503")
			}
			return nil
		})
		for range 2 { // each is a replay
			if status := send(t, "/intake/idp/logout", url.Values{"logout_token": {token}}, nil); status != http.StatusOK {
				t.Errorf("POST of the logout token: got %d, want 200", status)
			}
		}
		wantDenied(t, s, "of the session", one)
		wantStatus(t, s, "of her other session", two, http.StatusOK)
	})
	t.Run("a user who is disabled", func(t *testing.T) {
		token := login(t, s, "bob")
		wantStatus(t, s, "bob's", token, http.StatusOK)
		s.Issuer.SendLogouts(s.IntakeURLs[0] + "/intake/idp/logout")
		if status, err := s.Issuer.Disable(t.Context(), "bob"); status != http.StatusOK || err != nil {
			t.Errorf("the answer to the logout token: got %d and %v, want 200", status, err)
		}
		wantDenied(t, s, "bob's", token)
	})
	t.Run("a client gives a token back", func(t *testing.T) {
		own, others := login(t, s, "carol"), minted(t, s, map[string]any{"sub": "carol", "client_id": "other"})
		basic := func(r *http.Request) { r.SetBasicAuth("demo", url.QueryEscape("client secret")) }
		if status := send(t, "/intake/clients/revoke", url.Values{"token": {others}}, basic); status != http.StatusBadRequest {
			t.Errorf("the token of another client: got %d, want 400", status)
		}
		if status := send(t, "/intake/clients/revoke", url.Values{"token": {own}}, basic); status != http.StatusOK {
			t.Errorf("a token of the client: got %d, want 200", status)
		}
		wantDenied(t, s, "that the client gave back", own)
		wantStatus(t, s, "of the other client", others, http.StatusOK)
	})
	t.Run("everything of a user", func(t *testing.T) {
		token := login(t, s, "dave")
		now := time.Now()
		credential, err := s.Issuer.MintWith(map[string]any{"typ": "global-token-revocation+jwt"}, map[string]any{
			"sub": "0oa1", "aud": endpointURL, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"sub_id":{"format":"iss_sub","iss":%q,"sub":"dave"}}`, s.Issuer.URL())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.IntakeURLs[0]+"/intake/okta/global-token-revocation", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+credential)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNoContent {
			t.Errorf("the request: got %d, want 204", res.StatusCode)
		}
		wantDenied(t, s, "dave's", token)
	})
	t.Run("a kill between the push and the answer", func(t *testing.T) { logoutsThroughAKill(t, s) })
	t.Run("the admin API is elsewhere", func(t *testing.T) {
		for _, path := range []string{"/", "/v1/revocations", "/metrics", "/intake/", "/intake/other/logout", "/intake/idp/revoke", "/intake/idp/logout/x"} {
			if status := send(t, path, url.Values{}, nil); status != http.StatusNotFound {
				t.Errorf("POST %s on the listener of the intakes: got %d, want 404", path, status)
			}
		}
	})
}

// wantDenied waits until the gateway denies a token as revoked.
func wantDenied(t *testing.T, s *envoytest.Stack, name, token string) {
	t.Helper()
	eventually.Succeeds(t, "the token "+name+" is denied", func() error {
		a, err := s.Get(context.WithoutCancel(t.Context()), "/", token)
		if err == nil && a.Status != http.StatusUnauthorized {
			err = fmt.Errorf("the gateway answered %d", a.Status)
		}
		return err
	})
}
