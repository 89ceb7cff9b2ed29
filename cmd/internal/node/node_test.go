package node_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/authz"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/cmd/internal/replica"
	"rescind/envoy"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// logOf is the log of a process.
type logOf struct{ syncbuffer.Buffer }

// address returns the address that the process has logged for a listener.
func (l *logOf) address(name string) string {
	for line := range strings.Lines(l.String()) {
		var entry struct{ Msg, Name, Addr string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" && entry.Name == name {
			return entry.Addr
		}
	}
	return ""
}

// process is a running process of the test's own.
type process struct {
	t     *testing.T
	log   logOf
	stop  context.CancelFunc
	ended chan struct{} // closed when err is set
	err   error
}

func start(t *testing.T, run func(ctx context.Context, stderr io.Writer) error) *process {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &process{t: t, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = run(ctx, &p.log)
	}()
	t.Cleanup(func() { stop(); <-p.ended })
	return p
}

// listening waits until the process listens, and returns the address.
func (p *process) listening(name string) (addr string) {
	p.t.Helper()
	eventually.True(p.t, "the process listens on "+name, func() bool {
		addr = p.log.address(name)
		return addr != "" || p.hasEnded()
	})
	if addr == "" {
		p.t.Fatalf("the process ended: %v\n%s", p.err, &p.log)
	}
	return addr
}

// end stops the process, which must end without an error.
func (p *process) end() {
	p.t.Helper()
	p.stop()
	if <-p.ended; p.err != nil {
		p.t.Errorf("the process ended with %v\n%s", p.err, &p.log)
	}
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A control node and a replica run in this process, a revocation is in force on
// the replica, and both end when they are told to.
func TestEmbeddedNodeAndReplica(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	dir := t.TempDir()
	control, err := config.ReadControl(write(t, filepath.Join(dir, "control.yaml"), fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")))))
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(ctx context.Context, stderr io.Writer) error {
		return node.Run(ctx, node.Options{Config: control, Version: "test", Stderr: stderr})
	})
	admin := n.listening("admin")

	write(t, filepath.Join(dir, "replica.token"), "of-replicas\n")
	path := write(t, filepath.Join(dir, "authz.yaml"), fmt.Sprintf(`
grpc: {listen: "127.0.0.1:0"}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: %q, discovery: true, audiences: [api]}]
revocation: {control: [%q], token_file: replica.token, name: replica-a, dir: authz}
`, issuer.URL(), n.listening("feed")))
	data, err := config.ReadAuthz(path)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(ctx context.Context, stderr io.Writer) error {
		return replica.Run(ctx, replica.Options{Path: path, Config: data, Version: "test", Stdout: io.Discard, Stderr: stderr})
	})
	grpc, http := r.listening("grpc"), r.listening("http")
	eventually.True(t, "the replica is ready", func() bool { status, _ := ask(t, "GET", "http://"+http+"/readyz", ""); return status == 200 })

	token, err := issuer.Mint(map[string]any{"sub": "mallory"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(want authz.Reason) {
		t.Helper()
		o, err := envoy.Check(t.Context(), grpc, nil, envoy.Question{Token: token})
		if err != nil || o.Reason() != string(want) {
			t.Fatalf("the Check is answered with %v, %v, want %s", o, err, want)
		}
	}
	check(authz.OK)
	body := fmt.Sprintf(`{"issuer": %q, "claims": {"sub": "mallory"}, "block": true}`, issuer.URL())
	if status, text := ask(t, "POST", "http://"+admin+"/v1/revocations?wait=all", body); status != 201 {
		t.Fatalf("the revocation is answered with %d, want 201: %s", status, text)
	}
	check(authz.Revoked)
	r.end()
	n.end()
}

// ask makes one call, as the operator alice.
func ask(t *testing.T, method, url, body string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer of-alice")
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}
