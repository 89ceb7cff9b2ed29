package test

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// figureOf returns a figure of the first replica, such as name{label="value"}. It is 0
// if there is none yet.
func figureOf(t *testing.T, s *envoytest.Stack, series string) (n int) {
	t.Helper()
	for line := range strings.Lines(replicaMetrics(t, s)) {
		if after, ok := strings.CutPrefix(line, series+" "); ok {
			_, _ = fmt.Sscan(after, &n)
		}
	}
	return n
}

// fromNetwork sends a request to the gateway from an address in 127.0.N.0/24.
func fromNetwork(t *testing.T, s *envoytest.Stack, n int, token string) {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(n), 1)}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.GatewayURL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	a, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if a.StatusCode != http.StatusOK {
		t.Errorf("a good token from 127.0.%d.1: got %s, want 200", n, a.Status)
	}
}

// Requests that Envoy answers by itself are in the metrics, the activity, the detectors
// and the decision log, as others are. With audit a share of them asks the replica.
func TestKnownRequestsAreSeen(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	needEnvoy(t)
	module, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "decisions.log")
	s := start(t, envoytest.Options{Replicas: 1, Module: module, Known: ", audit: 0", Authz: "log: {decisions: {allowed: 1, output: 'file:" + path + "'}}\n"})
	alice := login(t, s, "alice")
	becomeKnown(t, s, alice)
	asked := figureOf(t, s, "rescind_check_duration_seconds_count")
	for n := 1; n <= 6; n++ {
		fromNetwork(t, s, n, alice)
	}
	if now := figureOf(t, s, "rescind_check_duration_seconds_count"); now != asked {
		t.Errorf("six requests with a known token: got %d Checks, want %d, as many as before", now, asked)
	}
	inside := knownHits(t, s)

	// detectors
	id, err := envoytest.Claim(alice, "jti")
	if err != nil {
		t.Fatal(err)
	}
	wantAlert(t, s, "token_from_many_networks", id)
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	wantStatus(t, s, "a revoked token", alice, http.StatusUnauthorized)
	wantAlert(t, s, "revoked_token_used", id)

	// metrics
	checks := figureOf(t, s, "rescind_check_duration_seconds_count")
	if got, want := figureOf(t, s, `rescind_decisions_total{issuer="`+s.Issuer.URL()+`",policy="default",reason="ok"}`), checks-1+inside; got != want {
		t.Errorf("allowed decisions: got %d, want %d Checks and %d answers of Envoy", got, checks-1, inside)
	}

	// activity
	var seen struct {
		Networks, Outcomes map[string]int
	}
	if a, err := s.Admin(t.Context(), http.MethodGet, "/v1/activity?by=sub&value=alice", nil, &seen); err != nil || seen.Outcomes["ok"] != checks-1+inside || seen.Networks["127.0.6.0/24"] != 1 {
		t.Errorf("activity: got %s and %v, want %d requests that were ok, one of them from 127.0.6.0/24", a.Body, err, checks-1+inside)
	}

	audited(t, s)

	// decision log: of the replica that has stopped
	all, _ := decisions(t, path)
	byGateway := slices.DeleteFunc(all, func(d map[string]any) bool {
		return d["rescind.decision.by_gateway"] != true || d["user.id"] != "alice"
	})
	if len(byGateway) != inside {
		t.Fatalf("lines about alice's requests that Envoy answered: got %d, want %d", len(byGateway), inside)
	}
	// A ring belongs to a worker of Envoy, so the lines of two workers are in no order.
	of := slices.IndexFunc(byGateway, func(d map[string]any) bool { return d["client.address"] == "127.0.6.0/24" })
	if of < 0 {
		t.Fatalf("lines about alice's requests: got none from 127.0.6.0/24 in %v, want one", byGateway)
	}
	for name, want := range map[string]any{"rescind.decision.outcome": "allow", "rescind.decision.reason": "ok", "rescind.policy": "default", "rescind.token.id": id} {
		if byGateway[of][name] != want {
			t.Errorf("the line about 127.0.6.0/24: got %v as %s, want %v", byGateway[of][name], name, want)
		}
	}
}

// audited starts the replica again with audit: 0.5, and checks that about half of the
// known requests ask the replica.
func audited(t *testing.T, s *envoytest.Stack) {
	t.Helper()
	s.Known = ", audit: 0.5"
	if status := s.Replicas[0].Stop(); status != 0 {
		t.Errorf("the replica: got exit status %d, want 0", status)
	}
	if err := s.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	bob := login(t, s, "bob")
	becomes(t, s, "the replica started again", bob, http.StatusOK)
	const audits = `rescind_known_misses_total{reason="audit"}`
	eventually.True(t, "Envoy answers by itself, and has left a request to the replica for the comparison", func() bool {
		wantStatus(t, s, "a good token", bob, http.StatusOK)
		return knownHits(t, s) > 0 && figureOf(t, s, audits) > 0
	})
	before, hits, checks := figureOf(t, s, audits), knownHits(t, s), figureOf(t, s, "rescind_check_duration_seconds_count")
	const requests = 64
	for range requests {
		wantStatus(t, s, "a good token", bob, http.StatusOK)
	}
	audits64, hits64, checks64 := figureOf(t, s, audits)-before, knownHits(t, s)-hits, figureOf(t, s, "rescind_check_duration_seconds_count")-checks
	if audits64+hits64 != requests || checks64 != audits64 || audits64 < 8 || hits64 < 8 {
		t.Errorf("%d requests with audit: 0.5: got %d for the comparison, %d Checks and %d answers of Envoy, want some of both", requests, audits64, checks64, hits64)
	}
}

// wantAlert waits until the control endpoint has an alert of this detector about a
// token.
func wantAlert(t *testing.T, s *envoytest.Stack, detector string, tokenID any) {
	t.Helper()
	eventually.Succeeds(t, "there is an alert "+detector, func() error {
		var list struct{ Items []raisedAlert }
		a, err := s.Admin(t.Context(), http.MethodGet, "/v1/alerts", nil, &list)
		if err == nil && !slices.ContainsFunc(list.Items, func(r raisedAlert) bool { return r.Detector == detector && r.TokenID == tokenID }) {
			err = fmt.Errorf("the alerts are %s", a.Body)
		}
		return err
	})
}
