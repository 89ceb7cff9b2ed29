package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/jwks/statuslist"
	"rescind/revocation"
	revset "rescind/revocation/replica"
	"rescind/test/testcert"
)

// testReplica is a real one, with one issuer of one key, which has revoked the
// subject mallory.
type testReplica struct {
	t       testing.TB
	private ed25519.PrivateKey
	addr    string
	socket  string // unix:///path of the same replica
}

func (r *testReplica) Generation() uint64 { return 1 }

func (r *testReplica) Find(_ context.Context, kid, _ string) ([]jwks.Key, error) {
	if kid != "k" {
		return nil, jwks.ErrUnknownKey
	}
	return []jwks.Key{{ID: "k", Public: r.private.Public()}}, nil
}

func (r *testReplica) token(changes map[string]any) string {
	r.t.Helper()
	now := time.Now().Unix()
	claims := jwt.MapClaims{"iss": idp, "sub": "alice", "aud": "api", "jti": "t1", "iat": now, "exp": now + 300}
	maps.Copy(claims, changes)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = "k"
	raw, err := token.SignedString(r.private)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

// must ends the test on an error.
func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Status ends the token at index 7 of every list but the one at /2, which is not
// there.
func (r *testReplica) Status(ref statuslist.Reference, _ time.Time) (statuslist.Status, error) {
	switch {
	case strings.HasSuffix(ref.URI, "/2"):
		return statuslist.Invalid, statuslist.ErrUnavailable
	case ref.Index == 7:
		return statuslist.Suspended, nil
	}
	return statuslist.Valid, nil
}

// listed returns claims with a place in a status list.
func listed(index int, uri string) map[string]any {
	return map[string]any{"status": map[string]any{"status_list": map[string]any{"idx": index, "uri": uri}}}
}

func startReplica(t testing.TB, config *tls.Config) *testReplica {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	r := &testReplica{t: t, private: must(t, private, err)}
	set := follower(t)
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: idp, Keys: r, Audiences: []string{"api"}, MaxLifetime: time.Hour, StatusLists: r}},
		Policies:    map[string]authz.Policy{"default": {}, "public": {TokenOptional: true}, "reports": {Scopes: []string{"reports:read"}}},
		Revocations: set,
	})
	g, err := gate.New(gate.Options{Authorizer: must(t, a, err), Logger: slog.New(slog.DiscardHandler)})
	s, err := envoy.NewServer(envoy.Options{Gate: must(t, g, err), TLS: config, Logger: slog.New(slog.DiscardHandler)})
	must(t, s, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.addr = must(t, l, err).Addr().String()
	path := filepath.Join(t.TempDir(), "s")
	socket, err := net.Listen("unix", path)
	unix := must(t, socket, err)
	r.socket = "unix://" + path
	done := make(chan error, 2)
	go func() { done <- s.Serve(l) }()
	go func() { done <- s.Serve(unix) }()
	t.Cleanup(func() { _ = s.Shutdown(context.Background()); <-done; <-done })
	return r
}

func follower(t testing.TB) *revset.Follower {
	t.Helper()
	f, err := revset.Open(revset.Options{})
	must(t, f, err)
	t.Cleanup(func() { _ = f.Close() })
	must(t, struct{}{}, f.Greet("log", 7, 720*time.Hour))
	loading, err := f.Load("log", 7, 0)
	must(t, struct{}{}, must(t, loading, err).Commit())
	value, _ := revocation.ValueOf("mallory")
	request := &revocation.Request{Issuer: idp, Claims: []revocation.Claim{{Name: "sub", Value: value}}, Block: true}
	revoked, faults := request.Accept(time.Now(), time.Hour, "test")
	if faults != nil {
		t.Fatalf("the revocation of mallory: got the faults %v, want it accepted", faults)
	}
	revoked.ID = revocation.ID{Revision: 8}
	must(t, struct{}{}, f.Apply([]revocation.Change{{Revision: 8, Added: []revocation.Entry{revoked.Entry()}}}))
	return f
}

func TestCheck(t *testing.T) {
	r := startReplica(t, nil)
	env := map[string]string{"RESCIND_AUTHZ": r.addr}
	good := r.token(nil)
	for _, c := range []struct {
		name, in string
		args     []string
		want     []string
	}{
		{"allowed", "", []string{good}, []string{"allow  ok\n", "subject         alice\n", "header set      x-jwt-subject: alice\n", "header removed  x-jwt-scope\n"}},
		{"over a socket", "", []string{good, "--authz", r.socket}, []string{"allow  ok\n"}},
		{"from standard input", good + "\n", []string{"-"}, []string{"allow  ok\n"}},
		{"revoked", "", []string{r.token(map[string]any{"sub": "mallory"})}, []string{"deny  revoked\n", "401 Unauthorized", "revocation_id    r8.0\n", `response header  www-authenticate: Bearer realm="rescind", error="invalid_token"`, "body"}},
		{"ended by a status list", "", []string{r.token(listed(7, "https://idp/lists/1"))}, []string{"deny  revoked\n", "401 Unauthorized", "detail           status_list\n", `idx 7 of the list "https://idp/lists/1"`, "rescind restore does not undo it"}},
		{"without its status list", "", []string{r.token(listed(0, "https://idp/lists/2"))}, []string{"deny  status_unavailable\n", "503 Service Unavailable", `idx 0 of the list "https://idp/lists/2"`, "retry-after"}},
		{"with a broken status", "", []string{r.token(listed(-1, "https://idp/lists/1"))}, []string{"deny  status_refused\n", "401 Unauthorized", `status: {"status_list":{"idx":-1,"uri":"https://idp/lists/1"}}`}},
		{"nonsense", "", []string{"nonsense"}, []string{"deny  malformed\n"}},
		{"no token", "", []string{""}, []string{"deny  no_token\n"}},
		{"no token where it is optional", "", []string{"", "--policy", "public"}, []string{"allow  no_token_allowed\n", "policy          public\n"}},
		{"a policy that asks for more", "", []string{good, "--policy", "reports"}, []string{"deny  insufficient_scope\n", "403 Forbidden"}},
		{"no such policy", "", []string{good, "--policy", "nosuch"}, []string{"deny  unknown_policy\n"}},
		{"a spoofed header", "", []string{good, "--header", "X-JWT-Admin=yes=no"}, []string{"header removed  x-jwt-admin\n"}},
		{"two Authorization headers", "", []string{good, "--header", "authorization=Bearer x"}, []string{"deny  bad_request\n", "400 Bad Request"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := rescind(t, env, c.in, append([]string{"check"}, c.args...)...).want(0, c.want...)
			if strings.Contains(got.out+got.errs, good[len(good)-20:]) {
				t.Errorf("got %q and %q, want no output that shows the token", got.out, got.errs)
			}
		})
	}
}

func TestCheckAsJSON(t *testing.T) {
	r := startReplica(t, nil)
	var o struct {
		Decision, Reason string
		Allowed          bool
		Status           int
		Metadata         map[string]any
	}
	token := r.token(map[string]any{"sub": "mallory"})
	got := rescind(t, nil, "", "check", "--authz", r.addr, "-o", "json", token).want(0, `"reason": "revoked"`)
	got.json(&o)
	if o.Decision != "deny" || o.Reason != "revoked" || o.Allowed || o.Status != 401 || o.Metadata["revocation_id"] != "r8.0" {
		t.Errorf("check of a revoked token prints %+v, want deny, revoked, 401 and revocation r8.0", o)
	}
	if !json.Valid([]byte(got.out)) {
		t.Errorf("check -o json: got %s, want JSON", got.out)
	}
}

// A claim can hold any text. It must not control the terminal.
func TestCheckQuotesClaims(t *testing.T) {
	r := startReplica(t, nil)
	got := rescind(t, map[string]string{"RESCIND_AUTHZ": r.addr}, "", "check", r.token(map[string]any{"sub": "a\x1b[2Jb"})).want(0, `"a\x1b[2Jb"`)
	if strings.ContainsRune(got.out, '\x1b') {
		t.Errorf("a sub with an escape sequence: got %q, want it escaped", got.out)
	}
}

func TestFieldOf(t *testing.T) {
	for want, v := range map[string]any{"12345678": 12345678.0, "0": 0.0, "true": true, "x": "x", `"\x1b"`: "\x1b"} {
		if got := fieldOf(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestCheckOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	authority := testcert.NewAuthority(t, "ca")
	testcert.Replace(t, ca, authority.PEM())
	authority.IssueFiles(t, "client", cert, key)
	r := startReplica(t, &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, "replica")}, ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert})
	check := func(args ...string) said {
		return rescind(t, nil, "", append([]string{"check", r.token(nil), "--timeout", "5s", "--authz", r.addr}, args...)...)
	}
	check("--ca-file", ca, "--cert-file", cert, "--key-file", key).want(0, "allow  ok")
	if got := check("--ca-file", ca).want(1, "--cert-file and --key-file a client certificate"); strings.Contains(got.errs, "write tcp") {
		t.Errorf("without a client certificate: got\n%swant it in words", got.errs)
	}
	check("--tls", "--cert-file", cert, "--key-file", key).want(1, "certificate")
	check().want(1, "it closed the connection, as a replica with TLS does", "--ca-file names the authority")
	check("--ca-file", ca, "--tls=false").want(1, "it closed the connection, as a replica with TLS does")
	plain := startReplica(t, nil)
	rescind(t, nil, "", "check", plain.token(nil), "--authz", plain.addr, "--tls").want(1, "it does not speak TLS", "--tls=false")
	rescind(t, nil, "", "check", plain.token(nil), "--authz", plain.addr, "--ca-file", ca, "--tls=false").want(0, "allow  ok")
}

func TestCheckWithoutAReplica(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	mute := must(t, l, err)
	defer mute.Close()
	rescind(t, nil, "", "check", "x", "--authz", mute.Addr().String(), "--timeout", "100ms").want(1, "it does not answer", "is rescind authz running there?")
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	rescind(t, nil, "", "check", "x", "--authz", page.Listener.Addr().String()).want(1, "it speaks HTTP/1.1, so it is not the gRPC listener of a replica")
	rescind(t, nil, "", "check", "x", "--authz", "unix:///no/such.sock").want(1, "the replica at unix:///no/such.sock: ")
	rescind(t, map[string]string{"RESCIND_AUTHZ": "127.0.0.1:1"}, "", "check", "x").want(1, "the replica at 127.0.0.1:1: ", "connection refused")
}
