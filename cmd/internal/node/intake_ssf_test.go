package node_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/revocation/intake/ssftest"
	"rescind/test/eventually"
)

// TestSharedSignalsOfANode runs a control node that one transmitter pushes to, and
// that polls another one.
func TestSharedSignalsOfANode(t *testing.T) {
	pushing, polled := transmitter(t, "urn:ietf:rfc:8935"), transmitter(t, "urn:ietf:rfc:8936")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "client.secret"), ssftest.Secret)
	path := filepath.Join(dir, "control.yaml")
	c, err := config.ReadControl(write(t, path, fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
intake_http: {listen: "127.0.0.1:0"}
intake:
  - {name: pushing, kind: ssf_push, issuers: [%s], jwks_uri: "%s", audiences: [ssf-rx/%s], authorization_sha256: %x, %s}
  - {name: polled, kind: ssf_poll, issuers: [%s], jwks_uri: "%s", audiences: [ssf-rx/%s], poll_interval: 100ms, %s}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")),
		pushing.Issuer(), pushing.KeysURI(), pushing.StreamID(), sha256.Sum256([]byte("Bearer of-pushes")), managed(pushing),
		polled.Issuer(), polled.KeysURI(), polled.StreamID(), managed(polled))))
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(ctx context.Context, stderr io.Writer) error {
		return node.Run(ctx, node.Options{Path: path, Config: c, Stderr: stderr})
	})
	pushing.Deliver(map[string]any{"method": "urn:ietf:rfc:8935", "endpoint_url": "http://" + n.listening("intake") + "/intake/pushing/events", "authorization_header": "Bearer of-pushes"})
	admin := n.listening("admin")

	_, token := pushing.Mint(ssftest.SessionRevoked, map[string]any{}, pushing.Session("alice", "ALL"), nil)
	eventually.Succeeds(t, "the push is accepted", func() error {
		got, err := pushing.Push(token)
		if err == nil && got.Status != http.StatusAccepted {
			err = fmt.Errorf("%d %s", got.Status, got.Body)
		}
		return err
	})
	polled.Send(ssftest.SessionRevoked, map[string]any{}, polled.Session("bob", "ALL"))
	eventually.True(t, "the polled event is acknowledged", func() bool { return polled.Waiting() == 0 })
	for _, tx := range []*ssftest.Transmitter{pushing, polled} {
		eventually.True(t, "verification is asked for", func() bool { _, asked, _ := tx.Counts(); return asked > 0 })
	}
	got := revocations(t, admin)
	for _, want := range []string{`"created_by":"intake:pushing"`, `"sub":"alice"`, `"created_by":"intake:polled"`, `"sub":"bob"`} {
		if !strings.Contains(got, want) {
			t.Errorf("got the revocations %s, want %s in them", got, want)
		}
	}
	n.end()
}

func transmitter(t *testing.T, method string) *ssftest.Transmitter {
	t.Helper()
	tx, err := ssftest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tx.Close)
	tx.Open(map[string]any{"method": method})
	return tx
}

// managed returns the keys of an entry that watches the stream of a transmitter.
func managed(tx *ssftest.Transmitter) string {
	return fmt.Sprintf(`stream: %s, management: {token_url: "%s", client_id: %s, client_secret_file: client.secret}`, tx.StreamID(), tx.TokenURL(), ssftest.ClientID)
}

func revocations(t *testing.T, admin string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+admin+"/v1/revocations", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer of-alice")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("got %d %s and the error %v, want the revocations", res.StatusCode, body, err)
	}
	return string(body)
}
