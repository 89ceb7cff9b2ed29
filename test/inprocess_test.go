package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// startInProcess starts a gateway with the module and one replica.
func startInProcess(t *testing.T) *envoytest.Stack {
	t.Helper()
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, envoytest.Options{Replicas: 1, Module: dir})
	eventually.True(t, "Envoy is attached", func() bool { return strings.Contains(replicaMetrics(t, s), "rescind_known_envoys 1") })
	return s
}

func replicaMetrics(t *testing.T, s *envoytest.Stack) string {
	t.Helper()
	a, err := http.Get("http://" + s.HTTP[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// knownHits returns how many requests the gateway has answered by itself.
func knownHits(t *testing.T, s *envoytest.Stack) (n int) {
	t.Helper()
	for line := range strings.Lines(replicaMetrics(t, s)) {
		if after, ok := strings.CutPrefix(line, `rescind_known_requests_total{record="recorded"} `); ok {
			_, _ = fmt.Sscan(after, &n)
		}
	}
	return n
}

// becomeKnown sends requests until the gateway answers one by itself.
func becomeKnown(t *testing.T, s *envoytest.Stack, token string) {
	t.Helper()
	before := knownHits(t, s)
	eventually.True(t, "the gateway answers by itself", func() bool {
		wantStatus(t, s, "a good token", token, 200)
		return knownHits(t, s) > before
	})
}

func TestGatewayAnswersByItself(t *testing.T) {
	t.Parallel()
	s := startInProcess(t)
	alice, bob := login(t, s, "alice"), login(t, s, "bob")
	becomeKnown(t, s, alice)
	becomeKnown(t, s, bob)
	seen, err := got(t, s, "/x", alice).Seen()
	if err != nil || seen.Header.Get("X-Jwt-Subject") != "alice" {
		t.Errorf("the upstream saw %v, %v, want the headers of alice", seen, err)
	}
	seen, err = got(t, s, "/x", alice, "X-Jwt-Subject", "root").Seen()
	if err != nil || seen.Header.Get("X-Jwt-Subject") != "alice" {
		t.Errorf("a spoofed header: the upstream saw %v, %v, want the headers of alice", seen, err)
	}
	for path, want := range map[string]int{"/reports": 403, "/public": 200, "/x": 200} {
		if a := got(t, s, path, alice); a.Status != want {
			t.Errorf("GET %s: got %d, want %d", path, a.Status, want)
		}
	}
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	wantStatus(t, s, "a revoked token", alice, 401)
	wantStatus(t, s, "a good token", bob, 200)
	eventually.True(t, "all decisions are counted", func() bool {
		return strings.Contains(replicaMetrics(t, s), `rescind_decisions_total{issuer="`+s.Issuer.URL()+`",policy="default",reason="ok"}`)
	})
}

// The promises of the module that one Envoy can show, one after the other.
func TestModule(t *testing.T) {
	t.Parallel()
	g := startModuleRig(t, 2)
	t.Run("no 200 for a request that begins after the acknowledgement, with 2 workers", func(t *testing.T) { nothingAfterTheAcknowledgement(g.in(t)) })
	t.Run("the upstream and the access log see the same as from ext_authz", func(t *testing.T) { sameAsFromExtAuthz(g.in(t)) })
}

// The long form of this test and of its part of TestModule makes 1,000 rounds each,
// and begins 2,000,000 requests after acknowledgements:
// RESCIND_LONG=1 go test -run 'AfterTheAcknowledgement|Module$/acknowledgement' -timeout 60m -v ./test
func TestNothingIsAllowedAfterTheAcknowledgement(t *testing.T) {
	t.Parallel()
	nothingAfterTheAcknowledgement(startModuleRig(t, 1))
}

func TestOpenStreamEndsWhenItsTokenIsRevoked(t *testing.T) {
	t.Parallel()
	s := startInProcess(t)
	for _, known := range []bool{false, true} {
		name := fmt.Sprint("known-", known)
		token, other := login(t, s, name), login(t, s, "other-"+name)
		if known {
			becomeKnown(t, s, token)
		}
		open := func(token string) (body io.ReadCloser) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.GatewayURL+envoytest.StreamPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			a, err := http.DefaultClient.Do(r)
			if err != nil || a.StatusCode != http.StatusOK {
				t.Fatalf("%s: got %v, %v, want a stream", name, a, err)
			}
			t.Cleanup(func() { _ = a.Body.Close() })
			return a.Body
		}
		stream, spared := open(token), open(other)
		ended := make(chan time.Time, 1)
		go func() {
			_, _ = io.Copy(io.Discard, stream)
			ended <- time.Now()
		}()
		sparedEnded := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, spared)
			close(sparedEnded)
		}()
		eventually.True(t, "the replica watches both streams", func() bool { return strings.Contains(replicaMetrics(t, s), "rescind_streams 2") })
		revoked(t, s, map[string]any{"claims": map[string]any{"sub": name}})
		acknowledged := time.Now()
		select {
		case at := <-ended:
			t.Logf("%s: the stream ended %v after the acknowledgement", name, at.Sub(acknowledged))
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the stream goes on 10 s after its token was revoked", name)
		}
		select {
		case <-sparedEnded:
			t.Errorf("%s: the stream of another token ended too", name)
		default:
		}
		_ = spared.Close()
		eventually.True(t, "no stream is open", func() bool { return strings.Contains(replicaMetrics(t, s), "rescind_streams 0") })
	}
}

// A replica that stands still or has gone is given up within 1.1 s, and then nothing
// is known. It comes back with an empty table.
func TestGatewayGivesAReplicaUp(t *testing.T) {
	t.Parallel()
	s := startInProcess(t)
	token := login(t, s, "alice")
	for _, c := range []struct {
		name string
		stop func()
		back func() error
	}{
		{"stands still", func() { _ = s.Replicas[0].Pause() }, s.Replicas[0].Resume},
		{"killed", s.Replicas[0].Kill, func() error { return s.StartReplica(t.Context(), 0) }},
	} {
		becomeKnown(t, s, token)
		c.stop()
		eventually.TrueWithin(t, 5*time.Second, c.name+": the gateway denies", func() bool { return got(t, s, "/", token).Status == 503 })
		if err := c.back(); err != nil {
			t.Fatal(err)
		}
		becomes(t, s, c.name+" and back", token, 200)
	}
}
