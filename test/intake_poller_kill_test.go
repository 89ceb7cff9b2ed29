package test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/revocation/intake/ssftest"
	"rescind/test/eventually"
)

// The control node that polls is killed while events come. Another node goes on
// from there: every event is one revocation, and the transmitter has the
// acknowledgement of each.
func TestNodeThatPollsIsKilled(t *testing.T) {
	t.Parallel()
	withoutRace(t)
	const events = 60
	transmitter, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transmitter.Close)
	transmitter.Open(map[string]any{"method": "urn:ietf:rfc:8936"})
	secret := filepath.Join(t.TempDir(), "client.secret")
	if err := os.WriteFile(secret, []byte(ssftest.Secret), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, envoytest.Options{ControlNodes: 3, Replicas: 1, Intakes: func(issuer string) string {
		return fmt.Sprintf(`  - {name: idp, kind: logout, issuers: [%[1]q], jwks_uri: %[1]q, clients: [demo]}
  - name: signals
    kind: ssf_poll
    issuers: [%[1]q]
    transmitter: %[2]q
    jwks_uri: %[3]q
    any_audience: true
    stream: %[4]s
    poll_interval: 100ms
    subject_issuers: {%[2]q: %[1]q}
    management: {token_url: %[5]q, client_id: %[6]s, client_secret_file: %[7]q}`,
			issuer, transmitter.Issuer(), transmitter.KeysURI(), transmitter.StreamID(), transmitter.TokenURL(), ssftest.ClientID, secret)
	}})
	ctx := context.WithoutCancel(t.Context())
	send := func(session string) {
		transmitter.Send(ssftest.SessionRevoked, map[string]any{}, transmitter.Session("erin", session))
	}

	send("first")
	polling := -1
	eventually.True(t, "a node has polled", func() bool { polling = nodeThatPolls(t, s); return polling >= 0 })
	token := login(t, s, "erin")
	wantStatus(t, s, "erin's", token, http.StatusOK)
	for i := range events / 2 {
		send(fmt.Sprint("killed-", i))
	}
	eventually.True(t, "some events are acknowledged", func() bool { acked, _ := transmitter.Settled(); return len(acked) > 5 })
	for i := range events / 2 {
		send(fmt.Sprint("killed-", events/2+i))
	}
	s.Control[polling].Kill()
	send(claim(t, token, "sid"))

	wantDenied(t, s, "whose session ended while no node polled", token)
	eventually.True(t, "all events are acknowledged", func() bool { return transmitter.Waiting() == 0 })
	if acked, refused := transmitter.Settled(); len(acked) < events+2 || len(refused) > 0 { // one more verifies the stream
		t.Errorf("got %d events acknowledged and %v refused, want at least %d and none", len(acked), refused, events+2)
	}
	for i := range events {
		var list struct{ Items []struct{ ID string } }
		path := "/v1/revocations?claim=" + url.QueryEscape(fmt.Sprint("sid=killed-", i))
		if a, err := s.Admin(ctx, http.MethodGet, path, nil, &list); err != nil || a.Status != http.StatusOK {
			t.Fatalf("GET %s: got %d and %v, want 200", path, a.Status, err)
		}
		if len(list.Items) != 1 {
			t.Errorf("the session of event %d: got %d revocations, want one", i, len(list.Items))
		}
	}
	if now := nodeThatPolls(t, s); now < 0 || now == polling {
		t.Errorf("got the polls of node %d after node %d was killed, want those of another node", now, polling)
	}
}

// nodeThatPolls returns the running control node that polled last for the intake
// signals, by its own metrics. It returns -1 if no node has polled.
func nodeThatPolls(t *testing.T, s *envoytest.Stack) int {
	t.Helper()
	node, latest := -1, 0.0
	for _, i := range s.Running() {
		res, err := http.Get(s.ControlURLs[i] + "/metrics")
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(res.Body)
		for lines.Scan() {
			text, ok := strings.CutPrefix(lines.Text(), `rescind_intake_last_poll_timestamp_seconds{intake="signals"} `)
			if at, err := strconv.ParseFloat(text, 64); ok && err == nil && at > latest {
				node, latest = i, at
			}
		}
		res.Body.Close()
	}
	return node
}
