package test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testcert"
)

// A replica from outside: its listeners, its answers to clients, its headers for
// the upstream, and changes of its configuration while Envoy asks.
func TestServerFace(t *testing.T) {
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})

	w.issue("server")
	client := w.issue("client")
	stranger := testcert.NewAuthority(t, "another-ca").IssueFiles(t, "stranger", w.file("stranger.pem"), w.file("stranger.key"))
	secure := w.replica("secure", w.config("secure",
		fmt.Sprintf("{listen: 127.0.0.1:0, tls: {cert_file: %q, key_file: %q, client_ca_file: %q}}", w.file("server.pem"), w.file("server.key"), w.file("ca.pem")),
		"    audiences: [api]", ""))
	w.gateway("tls", secure.addr("grpc"), func(_, cluster node) {
		cluster["transport_socket"] = transport("UpstreamTlsContext", node{"common_tls_context": node{
			"alpn_protocols":     []any{"h2"},
			"tls_certificates":   []any{node{"certificate_chain": node{"filename": w.file("client.pem")}, "private_key": node{"filename": w.file("client.key")}}},
			"validation_context": node{"trusted_ca": node{"filename": w.file("ca.pem")}},
		}})
		// So that it connects anew all the time.
		at(cluster, "typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions").(node)["common_http_protocol_options"] = node{"max_requests_per_connection": 10}
	})

	socket := filepath.Join(t.TempDir(), "authz.sock")
	local := w.replica("local", w.config("local", fmt.Sprintf("{listen: %q, socket_mode: '0600'}", "unix://"+socket),
		`    audiences: [api]
  - issuer: http://127.0.0.1:1/
    jwks_uri: http://127.0.0.1:1/jwks
    audiences: [api]`,
		`headers:
  prefix: x-auth-
  claims: {X-Auth-User: sub, x-tenant: tenant, x-auth-groups: groups, x-auth-address: address}
  authorization: remove
policies:
  default: {}
  reports: {scopes: [reports:read, openid]}
`))
	w.gateway("socket", local.addr("grpc"), nil)
	w.gateway("mtls", local.addr("grpc"), func(listener, _ node) {
		at(listener, "filter_chains", 0).(node)["transport_socket"] = transport("DownstreamTlsContext", node{"common_tls_context": node{
			"tls_certificates":   []any{node{"certificate_chain": node{"filename": w.file("server.pem")}, "private_key": node{"filename": w.file("server.key")}}},
			"validation_context": node{"trusted_ca": node{"filename": w.file("ca.pem")}},
		}})
	})

	behind := w.replica("behind", w.config("behind", "{listen: 127.0.0.1:0}", "    audiences: [api]", "headers: {trust_forwarded_client_cert: true}\n"))
	w.gateway("edge", behind.addr("grpc"), nil)
	w.gateway("hop", behind.addr("grpc"), func(listener, _ node) {
		connectionManager(listener)["forward_client_cert_details"] = "ALWAYS_FORWARD_ONLY"
	})
	urls := w.envoy()
	plain := &http.Client{Timeout: 20 * time.Second}
	token := func(claims map[string]any) string { return minted(t, w.Stack, claims) }
	good := token(nil)
	for _, name := range []string{"tls", "socket", "edge"} { // Envoy may have to find them healthy first
		eventually.True(t, "the gateway "+name+" answers 200", func() bool { return w.get(plain, urls[name], good).Status == http.StatusOK })
	}

	t.Run("TLS, certificates reread while Envoy asks", func(t *testing.T) {
		serial := func() string {
			conn, err := tls.Dial("tcp", secure.addr("grpc"), &tls.Config{RootCAs: w.ca.Pool(), Certificates: []tls.Certificate{client}, NextProtos: []string{"h2"}})
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		}
		before := serial()
		stop := hammer(func() error { return wants(plain, urls["tls"], good, http.StatusOK) })
		w.issue("server")
		eventually.True(t, "the replica serves another certificate than "+before, func() bool { return serial() != before })
		after := serial()
		w.write("server.pem", "not a certificate")
		faulty := after
		eventually.True(t, "the replica logs the faulty certificate", func() bool {
			faulty = serial()
			return faulty != after || strings.Contains(secure.text(), "a changed file is faulty")
		})
		sent, lost := stop()
		if after == before || len(after) > 20 || faulty != after {
			t.Errorf("wanted a new certificate after %s, kept with a faulty file; got %s, and %s with the faulty file", before, after, faulty)
		}
		w.nothingLost(t, sent, lost)
		w.issue("server")
	})
	t.Run("mTLS: the clients that may ask", func(t *testing.T) {
		addr := secure.addr("grpc")
		for _, c := range []struct {
			name string
			args []string
			ok   bool
		}{
			{"the right certificate", []string{"--ca-file", w.file("ca.pem"), "--cert-file", w.file("client.pem"), "--key-file", w.file("client.key")}, true},
			{"no certificate", []string{"--ca-file", w.file("ca.pem")}, false},
			{"one of another authority", []string{"--ca-file", w.file("ca.pem"), "--cert-file", w.file("stranger.pem"), "--key-file", w.file("stranger.key")}, false},
			{"in plaintext", nil, false},
		} {
			out, err := exec.CommandContext(t.Context(), rescind, append([]string{"check", "--authz", addr, "--timeout", "3s", good}, c.args...)...).CombinedOutput()
			if (err == nil) != c.ok || c.ok != strings.Contains(string(out), "allow") {
				t.Errorf("%s: wanted an allowed check: %t, got %v %s", c.name, c.ok, err, out)
			}
		}
	})
	t.Run("a socket with its mode", func(t *testing.T) {
		if a := w.get(plain, urls["socket"], good); a.Status != http.StatusOK {
			t.Errorf("over the socket: wanted 200, got %d %s", a.Status, a.Body)
		}
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
			t.Errorf("wanted a socket of mode 0600, got %v, %v", info, err)
		}
	})
	t.Run("headers of our own names", func(t *testing.T) {
		spoofs := []string{"X-Auth-User", "root", "x_auth_user", "root", "X-Tenant", "evil", "x_tenant", "evil", "x-auth-admin", "yes", "X-Auth-Address", "x", "X-Jwt-Subject", "mine", "X-Auth-Groups", "root"}
		a := w.get(plain, urls["socket"], token(map[string]any{"sub": "alice", "groups": []any{"a", 7, true}, "address": map[string]any{"city": "x"}}), spoofs...)
		seen, err := a.Seen()
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("wanted 200 from the upstream, got %d %s %v", a.Status, a.Body, err)
		}
		for name, want := range map[string]string{"X-Auth-User": "alice", "X-Auth-Groups": "a 7 true", "X-Tenant": "", "X-Auth-Address": "", "X-Auth-Admin": "", "X_auth_user": "", "X_tenant": "", "Authorization": "", "X-Jwt-Subject": "mine"} {
			if got := strings.Join(seen.Header[name], ","); got != want {
				t.Errorf("the upstream sees %s: wanted %q, got %q", name, want, got)
			}
		}
	})
	t.Run("the answer to a denied request", func(t *testing.T) {
		for _, c := range []struct {
			name, path, token string
			status            int
			challenge         string
			retry             bool
		}{
			{"no token", "/", "", 401, `Bearer realm="rescind"`, false},
			{"a bad token", "/", "x", 401, `Bearer realm="rescind", error="invalid_token", error_description="the token is not a well-formed signed JWT, or its arrays are too long"`, false},
			{"a scope is missing", "/reports", good, 403, `Bearer realm="rescind", error="insufficient_scope", error_description="the token's scope does not suffice", scope="reports:read openid"`, false},
			{"an issuer without keys", "/", token(map[string]any{"iss": "http://127.0.0.1:1/"}), 503, `Bearer realm="rescind"`, true},
			{"a policy that does not exist", "/public", good, 403, `Bearer realm="rescind"`, false},
		} {
			a := w.get(plain, urls["socket"]+c.path, c.token)
			h := a.Header
			if a.Status != c.status || h.Get("WWW-Authenticate") != c.challenge || h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || (h.Get("Retry-After") != "") != c.retry {
				t.Errorf("%s: wanted %d, the challenge %q, no-store, JSON and Retry-After %t; got %d %v %s", c.name, c.status, c.challenge, c.retry, a.Status, h, a.Body)
			}
			if !strings.HasPrefix(string(a.Body), "{") {
				t.Errorf("%s: wanted a JSON object as the body, got %s", c.name, a.Body)
			}
		}
	})
	t.Run("the answer to a gRPC caller", func(t *testing.T) {
		conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(urls["socket"], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, c := range []struct {
			name, method string
			tokens       []string
			want         codes.Code
		}{
			{"no token", "/a.B/C", nil, codes.Unauthenticated},
			{"a bad token", "/a.B/C", []string{"x"}, codes.Unauthenticated},
			{"two tokens", "/a.B/C", []string{good, good}, codes.InvalidArgument},
			{"a scope is missing", "/reports/C", []string{good}, codes.PermissionDenied},
			{"an unknown policy", "/public/C", []string{good}, codes.PermissionDenied},
			{"an issuer without keys", "/a.B/C", []string{token(map[string]any{"iss": "http://127.0.0.1:1/"})}, codes.Unavailable},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			for _, tok := range c.tokens {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tok)
			}
			err := conn.Invoke(ctx, c.method, &emptypb.Empty{}, &emptypb.Empty{})
			cancel()
			if status.Code(err) != c.want {
				t.Errorf("%s: wanted the code %s, got %v", c.name, c.want, err)
			}
		}
		// One that is let through meets an upstream that is no gRPC server.
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+good)
		if err := conn.Invoke(ctx, "/a.B/C", &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) == codes.Unauthenticated || err == nil {
			t.Errorf("a call with a good token: wanted an error of the upstream, got %v", err)
		}
	})
	t.Run("a token bound to a certificate", func(t *testing.T) {
		with := func(certs ...tls.Certificate) *http.Client {
			config := &tls.Config{RootCAs: w.ca.Pool()}
			if len(certs) > 0 { // sent even if Envoy asks for certificates of another authority
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
			}
			return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
		}
		other := w.issue("other")
		bound := token(map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint(client)}})
		url := strings.Replace(urls["mtls"], "http:", "https:", 1)
		spoof := []string{"X-Forwarded-Client-Cert", "Hash=" + fingerprint(client)}
		for _, c := range []struct {
			name    string
			client  *http.Client
			token   string
			headers []string
			want    int
		}{
			{"the right certificate", with(client), bound, nil, 200},
			{"another certificate", with(other), bound, nil, 401},
			{"no certificate", with(), bound, nil, 401},
			{"no certificate, and a header that claims one", with(), bound, spoof, 401},
			{"another certificate, and a header that claims the right one", with(other), bound, spoof, 401},
			{"not bound, no certificate", with(), good, nil, 200},
			{"not bound, a certificate", with(other), good, nil, 200},
			{"bound to a DPoP key too", with(client), token(map[string]any{"cnf": map[string]any{"x5t#S256": thumbprint(client), "jkt": "x"}}), nil, 401},
		} {
			if a := w.get(c.client, url, c.token, c.headers...); a.Status != c.want {
				t.Errorf("%s: wanted %d, got %d %s", c.name, c.want, a.Status, a.Body)
			}
		}
		if _, err := with(stranger).Get(url); err == nil {
			t.Error("a certificate of another authority: wanted Envoy to refuse it, the request was answered")
		}
		// A replica that trusts x-forwarded-client-cert, behind an Envoy that passes
		// the header on, and behind one that replaces it.
		if a := w.get(plain, urls["hop"], bound, spoof...); a.Status != 200 {
			t.Errorf("a certificate forwarded by a trusted hop: wanted 200, got %d %s", a.Status, a.Body)
		}
		if a := w.get(plain, urls["edge"], bound, spoof...); a.Status != 401 {
			t.Errorf("a certificate claimed by a client: wanted 401, got %d %s", a.Status, a.Body)
		}
		if a := w.get(plain, urls["socket"], bound, spoof...); a.Status != 401 {
			t.Errorf("a certificate claimed by a client of a replica that trusts no hop: wanted 401, got %d %s", a.Status, a.Body)
		}
	})
	t.Run("a request of the largest size", func(t *testing.T) {
		large := make([]string, 0, 24)
		for i := range 6 {
			large = append(large, fmt.Sprintf("x-large-%d", i), strings.Repeat("x", 9<<10))
		}
		if a := w.get(plain, urls["edge"], good, large...); a.Status != 200 {
			t.Errorf("large headers: wanted 200, got %d %s", a.Status, a.Body)
		}
		if a := w.get(plain, urls["edge"], strings.Repeat("x", 20<<10)); a.Status != 400 {
			t.Errorf("a token of 20 KiB: wanted 400, got %d %s", a.Status, a.Body)
		}
	})
	t.Run("a new configuration comes into force", func(t *testing.T) {
		reload(t, w, behind, urls["edge"])
	})
	t.Run("status lists", func(t *testing.T) { statusLists(t, w, urls["edge"]) })
	t.Run("no socket is left at the end", func(t *testing.T) {
		if status := local.stop(); status != 0 {
			t.Errorf("wanted exit status 0, got %d", status)
		}
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("wanted no socket after the end, got %v", err)
		}
	})
}

// wants returns an error if the answer has another status.
func wants(c *http.Client, url, token string, status int) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	a, err := do(c, req)
	if err == nil && a.Status != status {
		err = fmt.Errorf("%d %s", a.Status, a.Body)
	}
	return err
}

// A replica that dies with many requests in flight costs none of them: Envoy
// asks the other.
func TestKilledReplicaLosesNoRequest(t *testing.T) {
	s := start(t, envoytest.Options{})
	token := login(t, s, "alice")
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var stops []func() (int, []error)
	for range 8 {
		stops = append(stops, hammer(func() error { return wants(client, s.GatewayURL, token, http.StatusOK) }))
	}
	time.Sleep(300 * time.Millisecond)
	s.Replicas[0].Kill()
	time.Sleep(2500 * time.Millisecond) // until Envoy knows by its health checks
	sent := 0
	for _, stop := range stops {
		n, lost := stop()
		sent += n
		if len(lost) > 0 {
			t.Errorf("wanted no lost request during the reloads, lost %d of %d: %v", len(lost), n, lost[0])
		}
	}
	if sent < 20 {
		t.Errorf("wanted at least 20 requests during the reloads, got %d", sent)
	}
}

func TestCheckOfAConfiguration(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "authz.yaml")
	if err := os.WriteFile(filepath.Join(dir, "replica.token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // it starts nothing: the port may be taken
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := fmt.Sprintf("grpc: {listen: %q}\nissuers: [{issuer: https://idp.example.com/, discovery: true, audiences: [api]}]\nrevocation: {control: [127.0.0.1:1], token_file: replica.token}\n", l.Addr())
	for _, c := range []struct {
		name, text string
		status     int
		said       []string
	}{
		{"in order", good, 0, []string{path + ": in order"}},
		{"two faults", strings.Replace(good, "audiences: [api]", "audiences: [], algorithms: [HS256]", 1), 2, []string{path + ":2:", "issuers[0].audiences", "issuers[0].algorithms"}},
		{"no YAML", "issuers: [", 2, []string{path + ":1:"}},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), rescind, "authz", "--config", path, "--check")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.status {
			t.Errorf("%s: wanted exit status %d, got %d\n%s", c.name, c.status, cmd.ProcessState.ExitCode(), out)
		}
		for _, part := range c.said {
			if !strings.Contains(string(out), part) {
				t.Errorf("%s: wanted %s in the output, got\n%s", c.name, part, out)
			}
		}
	}
}
