package jwkstest

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestADisabledUser(t *testing.T) {
	i := start(t, Options{Algorithm: "EdDSA"})
	_, alice := post(t, i, "/token", "grant_type", "password", "username", "alice")
	_, bob := post(t, i, "/token", "grant_type", "password", "username", "bob")

	var sent []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.PostFormValue("logout_token"))
	}))
	defer receiver.Close()
	if status, err := i.Disable(t.Context(), "nobody"); status != 0 || err != nil || len(sent) > 0 {
		t.Errorf("without an address for logouts: got the status %d, the error %v and %d logouts, want none", status, err, len(sent))
	}
	i.SendLogouts(receiver.URL)
	if status, _ := post(t, i, "/disable", "username", "alice"); status != http.StatusOK || len(sent) != 1 {
		t.Fatalf("POST /disable: got %d and %d logouts, want 200 and one", status, len(sent))
	}
	c := claims(t, i, sent[0])
	events, _ := c["events"].(map[string]any)
	if _, ok := events["http://schemas.openid.net/event/backchannel-logout"].(map[string]any); !ok || c["sub"] != "alice" || c["iss"] != i.URL() || c["aud"] != "demo" || c["sid"] != nil {
		t.Errorf("the logout token: got %v, want a logout of alice for the client demo, without sid", c)
	}
	for _, c := range []struct {
		name string
		form []string
		want int
	}{
		{"a new login of alice", []string{"grant_type", "password", "username", "alice"}, http.StatusBadRequest},
		{"a refresh of alice", []string{"grant_type", "refresh_token", "refresh_token", alice.Refresh}, http.StatusBadRequest},
		{"a refresh of bob", []string{"grant_type", "refresh_token", "refresh_token", bob.Refresh}, http.StatusOK},
	} {
		if status, g := post(t, i, "/token", c.form...); status != c.want {
			t.Errorf("%s: got %d %v, want %d", c.name, status, g, c.want)
		}
	}
	receiver.Close()
	if status, _ := post(t, i, "/disable", "username", "bob"); status != http.StatusBadGateway {
		t.Errorf("POST /disable while the receiver is down: got %d, want 502", status)
	}
}
