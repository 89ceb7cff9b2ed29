package node_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/cmd/internal/replica"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/testcert"
)

// Both servers, with certificates for all connections but the scraped one.
func TestFiguresAndLinesOfTheStart(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	dir := t.TempDir()
	a := testcert.NewAuthority(t, "ca")
	testcert.Replace(t, filepath.Join(dir, "ca.crt"), a.PEM())
	a.IssueFiles(t, "rescind", filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))

	controlFile := write(t, filepath.Join(dir, "control.yaml"), fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: ca.crt}, tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice"))))
	control, err := config.ReadControl(controlFile)
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, func(ctx context.Context, stderr io.Writer) error {
		return node.Run(ctx, node.Options{Path: controlFile, Config: control, Version: "1.2.3", Commit: "abc", Stderr: stderr})
	})

	write(t, filepath.Join(dir, "replica.token"), "of-replicas\n")
	good := fmt.Sprintf(`
grpc: {listen: "127.0.0.1:0", tls: {cert_file: tls.crt, key_file: tls.key}}
http: {listen: "127.0.0.1:0"}
issuers: [{issuer: %q, discovery: true, audiences: [api]}]
revocation: {control: [%q], token_file: replica.token, name: replica-a, tls: {ca_file: ca.crt, cert_file: tls.crt, key_file: tls.key}}
`, issuer.URL(), n.listening("feed"))
	authzFile := write(t, filepath.Join(dir, "authz.yaml"), good)
	data, err := config.ReadAuthz(authzFile)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, func(ctx context.Context, stderr io.Writer) error {
		return replica.Run(ctx, replica.Options{Path: authzFile, Config: data, Version: "1.2.3", Commit: "abc", Stdout: io.Discard, Stderr: stderr})
	})

	for _, s := range []struct {
		server          *process
		listener, file  string
		certificatesFor []string
	}{
		{n, "admin", controlFile, []string{"feed"}},
		{r, "http", authzFile, []string{"grpc", "revocation"}},
	} {
		url := "http://" + s.server.listening(s.listener) + "/metrics"
		s.server.wantLine(`"msg":"ready"`)
		_, text := ask(t, "GET", url, "")
		want := []string{
			fmt.Sprintf("rescind_build_info{commit=%q,go=%q,version=%q} 1\n", "abc", runtime.Version(), "1.2.3"),
			"rescind_config_last_reload_successful 1\n",
			"rescind_config_last_change_timestamp_seconds 1",
		}
		for _, name := range s.certificatesFor {
			want = append(want, fmt.Sprintf("rescind_certificate_expiry_timestamp_seconds{name=%q} ", name))
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: wanted %q in the metrics, got\n%s", s.listener, w, text)
			}
		}
		if got := strings.Count(text, "\nrescind_certificate_expiry_timestamp_seconds{"); got != len(s.certificatesFor) {
			t.Errorf("%s: wanted %d certificates in the metrics, got %d", s.listener, len(s.certificatesFor), got)
		}
		s.server.wantLine(fmt.Sprintf(`"msg":"started","version":"1.2.3","commit":"abc","go":%q,"config":%q}`, runtime.Version(), s.file))
	}

	url := "http://" + r.listening("http") + "/metrics"
	reloaded := func(want string) {
		t.Helper()
		eventually.True(t, "the last reload is "+want, func() bool {
			_, text := ask(t, "GET", url, "")
			return strings.Contains(text, "rescind_config_last_reload_successful "+want+"\n")
		})
	}
	begun := lastChange(t, url)
	write(t, authzFile, good+"nosuch: 1\n")
	reloaded("0")
	if at := lastChange(t, url); at != begun {
		t.Errorf("a refused configuration: got the last change at %f, want it still at %f", at, begun)
	}
	write(t, authzFile, good+"log: {level: debug}\n")
	reloaded("1")
	if at := lastChange(t, url); at <= begun {
		t.Errorf("a changed configuration left the last change at %f, want it later than %f", at, begun)
	}
	r.end()
	n.end()
	for name, s := range map[string]*process{"control": n, "replica": r} {
		for _, msg := range []string{"started", "ready"} {
			if got := s.log.count(msg); got != 1 {
				t.Errorf("%s: wanted one line %s, got %d:\n%s", name, msg, got, &s.log)
			}
		}
	}
}

// lastChange returns the time of the last change of the configuration, of the
// metrics at url.
func lastChange(t *testing.T, url string) (at float64) {
	t.Helper()
	_, text := ask(t, "GET", url, "")
	_, after, _ := strings.Cut(text, "\nrescind_config_last_change_timestamp_seconds ")
	if _, err := fmt.Sscan(after, &at); err != nil {
		t.Fatalf("the metric of the last change: got %v, want a number", err)
	}
	return at
}

// wantLine waits until the log of the process has this text.
func (p *process) wantLine(text string) {
	p.t.Helper()
	eventually.True(p.t, "the log has "+text, func() bool { return strings.Contains(p.log.String(), text) || p.hasEnded() })
	if p.hasEnded() {
		p.t.Fatalf("the process ended: %v\n%s", p.err, &p.log)
	}
}

// count returns the number of lines with this message.
func (l *logOf) count(msg string) (n int) {
	for line := range strings.Lines(l.String()) {
		var entry struct{ Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == msg {
			n++
		}
	}
	return n
}
