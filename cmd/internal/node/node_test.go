package node_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
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
	"rescind/test/testcert"
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
	controlPath := filepath.Join(dir, "control.yaml")
	control, err := config.ReadControl(write(t, controlPath, fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")))))
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(ctx context.Context, stderr io.Writer) error {
		return node.Run(ctx, node.Options{Path: controlPath, Config: control, Version: "test", Stderr: stderr})
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
	r.wantLine(`"msg":"ready"`)
	n.wantLine(`"msg":"ready"`)
	r.end()
	n.end()
	r.wantLog(path)
	n.wantLog(controlPath)
}

// wantLog checks that each line of the log is one JSON object without an error as
// gRPC writes it, that the first line says started with version and file, and that
// there is one line ready.
func (p *process) wantLog(path string) {
	p.t.Helper()
	ready, number := 0, 0
	for line := range strings.Lines(p.log.String()) {
		var entry struct{ Time, Level, Msg, Version, Config string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" || strings.Contains(line, "rpc error") {
			p.t.Errorf("the line %s: %v, want JSON with time, level and msg, without an error of gRPC", line, err)
		}
		if started := entry.Msg == "started" && entry.Version == "test" && entry.Config == path; started != (number == 0) {
			p.t.Errorf("line %d is %s, want the first one to be started with the version and %s, and no other one", number+1, line, path)
		}
		if number++; entry.Msg == "ready" {
			ready++
		}
	}
	if ready != 1 {
		p.t.Errorf("the log has %d lines ready, want 1:\n%s", ready, &p.log)
	}
}

// A process that cannot start says why in a line of its log, beside its error.
func TestFailedStartIsALine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "replica.token"), "of-replicas\n")
	control, err := config.ReadControl(write(t, filepath.Join(dir, "control.yaml"), fmt.Sprintf(`
http: {listen: %q}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, taken.Addr(), sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")))))
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(dir, "authz.yaml"), fmt.Sprintf(`
grpc: {listen: %q}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: "https://idp.example/", jwks_uri: "http://127.0.0.1:1/", audiences: [api]}]
revocation: {control: ["127.0.0.1:1"], token_file: replica.token, dir: authz}
`, taken.Addr()))
	data, err := config.ReadAuthz(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func(context.Context, io.Writer) error{
		"node": func(ctx context.Context, stderr io.Writer) error {
			return node.Run(ctx, node.Options{Config: control, Stderr: stderr})
		},
		"replica": func(ctx context.Context, stderr io.Writer) error {
			return replica.Run(ctx, replica.Options{Path: path, Config: data, Stdout: io.Discard, Stderr: stderr})
		},
	} {
		p := start(t, run)
		if <-p.ended; p.err == nil || !p.log.has("failed", "address already in use") {
			t.Errorf("%s on a port that is taken: %v, and the log\n%swant an error, and a line failed with it", name, p.err, &p.log)
		}
	}
}

// Where the feed or the replica alone speaks TLS, both logs say so in words.
func TestFeedOfTwoProtocols(t *testing.T) {
	dir := t.TempDir()
	testcert.NewAuthority(t, "ca").IssueFiles(t, "server", filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	write(t, filepath.Join(dir, "replica.token"), "of-replicas\n")
	for _, c := range []struct{ name, feed, replica, nodeLog, replicaLog string }{
		{"secure", "tls: {cert_file: server.pem, key_file: server.key}, ", "", "the other end does not speak TLS", "perhaps because it speaks TLS and this end does not"},
		{"plain", "", "tls: {ca_file: server.pem}, ", "the client speaks TLS, and this listener does not", "the other end does not speak TLS"},
	} {
		control, err := config.ReadControl(write(t, filepath.Join(dir, c.name+"-control.yaml"), fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", %stokens: [{name: replicas, sha256: %x}]}
store: {dir: %s-control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, c.feed, sha256.Sum256([]byte("of-replicas")), c.name, sha256.Sum256([]byte("of-alice")))))
		if err != nil {
			t.Fatal(err)
		}
		n := start(t, func(ctx context.Context, stderr io.Writer) error {
			return node.Run(ctx, node.Options{Config: control, Stderr: stderr})
		})
		path := write(t, filepath.Join(dir, c.name+"-authz.yaml"), fmt.Sprintf(`
grpc: {listen: "127.0.0.1:0"}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: "https://idp.example/", jwks_uri: "http://127.0.0.1:1/", audiences: [api]}]
revocation: {control: [%q], %stoken_file: replica.token, dir: %s-authz}
`, n.listening("feed"), c.replica, c.name))
		data, err := config.ReadAuthz(path)
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, func(ctx context.Context, stderr io.Writer) error {
			return replica.Run(ctx, replica.Options{Path: path, Config: data, Stdout: io.Discard, Stderr: stderr})
		})
		eventually.True(t, c.name+": the replica says that "+c.replicaLog, func() bool { return r.log.has("control endpoint not followed", c.replicaLog) })
		// Both processes are this one, so the last of them has the lines of gRPC.
		eventually.True(t, c.name+": the node says that "+c.nodeLog, func() bool {
			return n.log.has("connection failed", c.nodeLog) || r.log.has("connection failed", c.nodeLog)
		})
		r.end()
		n.end()
	}
}

// has reports whether the log has a line with a message and a text.
func (l *logOf) has(message, text string) bool {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, text) {
			return true
		}
	}
	return false
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
