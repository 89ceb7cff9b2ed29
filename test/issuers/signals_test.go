package issuers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// hasEvent fails unless the poller's credential lists an admin event since then
// with this operation, this type and this end of its path.
func (k *keycloak) hasEvent(want string, since time.Time) error {
	if want == "" {
		return nil
	}
	bearer, err := k.serviceToken(pollerClient)
	if err != nil {
		return err
	}
	var events []struct {
		Time                                      int64
		OperationType, ResourceType, ResourcePath string
	}
	query := url.Values{"max": {"50"}, "dateFrom": {fmt.Sprint(since.UnixMilli())}}
	if err := exchange(bearer, http.MethodGet, k.url+"/admin/realms/"+realmName+"/admin-events?"+query.Encode(), nil, &events); err != nil {
		return err
	}
	fields := append(strings.Fields(want), "")
	for _, e := range events {
		if e.OperationType == fields[0] && e.ResourceType == fields[1] && strings.HasSuffix(e.ResourcePath, fields[2]) && e.Time >= since.UnixMilli() {
			return nil
		}
	}
	return fmt.Errorf("got the events %+v, want %s", events, want)
}

// oidc-provider sends a logout with the sid of the session, and its access tokens
// have no sid.
func TestProviderSignals(t *testing.T) {
	needIssuers(t)
	received := make(chan string, 10)
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { received <- r.FormValue("logout_token") }))
	t.Cleanup(sink.Close)
	p := startProvider(t, sink.URL)
	b, token, err := p.login("carla")
	must(t, err)
	if sid, err := envoytest.Claim(token, "sid"); err == nil {
		t.Errorf("the access token has the sid %v, want none", sid)
	}
	must(t, p.logout(b))
	logout := ""
	eventually.True(t, "a logout token arrives", func() bool {
		select {
		case logout = <-received:
			return true
		default:
			return false
		}
	})
	for name, want := range map[string]any{"sub": "carla", "aud": webClient, "iss": p.url} {
		if got, err := envoytest.Claim(logout, name); err != nil || got != want {
			t.Errorf("the logout token's %s: got %v (%v), want %v", name, got, err, want)
		}
	}
	if _, err := envoytest.Claim(logout, "sid"); err != nil {
		t.Error(err)
	}
}
