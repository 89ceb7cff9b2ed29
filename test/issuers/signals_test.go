package issuers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// Keycloak itself: the signals that it gives about each act are those that the
// intakes are made for.
func TestKeycloakSignals(t *testing.T) {
	needIssuers(t)
	var logouts atomic.Int64
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.FormValue("logout_token") != "" {
			logouts.Add(1)
		}
	}))
	t.Cleanup(sink.Close)
	k := startKeycloak(t)
	k.makeRealm(sink.URL, sink.URL+"/*")
	for i, a := range acts {
		t.Run(a.name, func(t *testing.T) {
			s, err := k.prepare(a, fmt.Sprint("user-", i))
			must(t, err)
			seen, since := logouts.Load(), time.Now()
			must(t, a.do(k, s))
			eventually.Succeeds(t, "the admin event is listed", func() error { return k.hasEvent(a.event, since) })
			eventually.True(t, fmt.Sprintf("%d back-channel logouts", a.logouts), func() bool { return logouts.Load() == seen+int64(a.logouts) })
			if a.after != nil {
				must(t, a.after(k, s))
				_, err := k.login(s.user, s.client, "")
				must(t, err)
			}
		})
	}
}

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
