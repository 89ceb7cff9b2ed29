package main

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"rescind/revocation/control"
	"rescind/test/testcert"
)

// hinder puts something between the program and the endpoint: false means
// that the request was dealt with.
func (e *endpoint) hinder(hinder func(w http.ResponseWriter, r *http.Request, n int) bool) (url string, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hinder(w, r, int(asked.Add(1))) {
			e.api.ServeHTTP(w, r)
		}
	}))
	e.t.Cleanup(s.Close)
	return s.URL, asked
}

func drop(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

func TestRetries(t *testing.T) {
	e := serve(t)
	problem := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"detail":"not now"}`)
	}
	for _, c := range []struct {
		name   string
		hinder func(w http.ResponseWriter, r *http.Request, n int) bool
		status int
		asked  int32
		want   string
	}{
		{"busy, then not", func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n < 3 {
				problem(w, 503)
			}
			return n >= 3
		}, 0, 3, "revoked"},
		{"too many requests, then not", func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n < 2 {
				problem(w, 429)
			}
			return n >= 2
		}, 0, 2, "revoked"},
		{"cut off after it was done", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n == 1 {
				e.api.ServeHTTP(httptest.NewRecorder(), r)
				drop(w)
			}
			return n > 1
		}, 0, 2, "revoked already"},
		{"busy for good", func(w http.ResponseWriter, _ *http.Request, _ int) bool { problem(w, 503); return false },
			1, tries, "repeating the command is safe"},
		{"refused", func(w http.ResponseWriter, _ *http.Request, _ int) bool { problem(w, 422); return false }, 1, 1, "not now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, asked := e.hinder(c.hinder)
			env := map[string]string{"RESCIND_CONTROL": url, "RESCIND_TOKEN": tokenOf("operator")}
			rescind(t, env, "", "revoke", "--issuer", idp, "--jti", c.name).want(c.status, c.want)
			if asked.Load() != c.asked {
				t.Errorf("asked %d times, want %d", asked.Load(), c.asked)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	e := serve(t)
	as := func(token string) map[string]string {
		return map[string]string{"RESCIND_CONTROL": e.url, "RESCIND_TOKEN": token}
	}
	got := rescind(t, as("wrong-secret"), "", "list").want(1, "the credential is not known", "set RESCIND_TOKEN")
	if strings.Contains(got.errs, "wrong-secret") {
		t.Errorf("a refused credential: got %q, want no token", got.errs)
	}
	rescind(t, as(tokenOf("viewer")), "", "revoke", "--issuer", idp, "--sub", "a").want(1, "this takes the role revoker or operator", "control.yaml")
	rescind(t, as(tokenOf("revoker")), "", "revoke", "--issuer", idp, "--all").want(1, "all takes the role operator")
	e.rescind("revoke", "--issuer", "idp ", "--claim", "scope=a b", "--expires-in", "2000h").
		want(1, "refused it, and nothing has changed:\n", "  issuer: begins or ends with a space", "  claims.scope: ", "  expires_at: must be at most")
	e.rescind("show", "r999.0").want(1, "there is no such revocation", "rescind list shows the IDs")
	e.rescind("restore", "r999.0").want(1, "there is no such revocation", "rescind list shows the IDs")
}

func TestWhereNoEndpointIs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	for url, want := range map[string][]string{
		"http://" + l.Addr().String():  {"connection refused", "is rescind control running at http://" + l.Addr().String() + "?"},
		elsewhere.URL:                  {"answered 404 Not Found, and not as a control endpoint does"},
		"https://" + elsewhere.URL[7:]: {"does not speak TLS", "is it " + elsewhere.URL + "?"},
		secure.URL:                     {"is not trusted", "--ca-file"},
		"http://" + secure.URL[8:]:     {secure.URL[8:] + " speaks TLS", "is it " + secure.URL + "?"},
		"https://no-such-host.invalid": {"no-such-host.invalid", "--control or RESCIND_CONTROL"},
	} {
		rescind(t, map[string]string{"RESCIND_TOKEN": "x"}, "", "list", "--control", url).want(1, want...)
	}
}

// A server that demands a client certificate refuses in one of two ways: by an
// alert, or by the end of the connection while the request is sent.
func TestAServerThatDemandsACertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	got := rescind(t, map[string]string{"RESCIND_TOKEN": "x"}, "", "list", "--control", s.URL, "--ca-file", ca).want(1, "--cert-file and --key-file name one")
	if strings.Contains(got.errs, "Get ") {
		t.Errorf("a server that demands a certificate: got\n%swant it in words", got.errs)
	}
}

// The token goes where the operator said, and nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("got a request of a redirect, with the Authorization %q, want redirects not followed", r.Header.Get("Authorization"))
	}))
	defer thief.Close()
	s := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	for _, args := range [][]string{{"list"}, {"revoke", "--issuer", idp, "--sub", "a"}} {
		rescind(t, map[string]string{"RESCIND_TOKEN": "x", "RESCIND_CONTROL": s.URL}, "", args...).want(1, "answered 307")
	}
}

func TestOverTLS(t *testing.T) {
	e := serve(t)
	s := httptest.NewUnstartedServer(e.api)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	var presented atomic.Int32
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		presented.Store(int32(len(r.TLS.PeerCertificates)))
		e.api.ServeHTTP(w, r)
	})
	s.StartTLS()
	defer s.Close()
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := file("ca.pem", "CERTIFICATE", s.Certificate().Raw)
	tokenFile := file("token", "X", nil)
	if err := os.WriteFile(tokenFile, []byte(tokenOf("viewer")+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rescind(t, nil, "", "list", "--control", s.URL, "--ca-file", ca, "--token-file", tokenFile).want(0, "there is no revocation\n")
	if presented.Load() != 0 {
		t.Errorf("no --cert-file: got %d certificates presented, want none", presented.Load())
	}
	cert, key := filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	testcert.NewAuthority(t, "ca").IssueFiles(t, "client", cert, key)
	rescind(t, nil, "", "list", "--control", s.URL, "--ca-file", ca, "--cert-file", cert, "--key-file", key, "--token-file", tokenFile).want(0)
	env := map[string]string{"RESCIND_CONTROL": s.URL, "RESCIND_CA_FILE": ca, "RESCIND_CERT_FILE": cert, "RESCIND_KEY_FILE": key, "RESCIND_TOKEN_FILE": tokenFile}
	rescind(t, env, "", "list").want(0)
	env["RESCIND_CERT_FILE"] = "/no/such"
	rescind(t, env, "", "list", "--cert-file", cert).want(0) // a flag comes before the environment
	rescind(t, env, "", "list").want(statusUsage, "/no/such")
	env["RESCIND_TOKEN_FILE"] = "/no/token"
	rescind(t, env, "", "list", "--cert-file", cert).want(statusUsage, "RESCIND_TOKEN_FILE: open /no/token")
	if presented.Load() != 1 {
		t.Errorf("--cert-file: got %d certificates presented, want 1", presented.Load())
	}
}

// LOCALHOST is this machine, so the token may go there in plaintext.
func TestLoopbackInAnyCase(t *testing.T) {
	e := serve(t)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"LOCALHOST", "[::ffff:127.0.0.1]"} {
		rescind(t, map[string]string{"RESCIND_TOKEN": tokenOf("viewer")}, "", "list", "--control", "http://"+host+":"+port).want(0, "there is no revocation\n")
	}
}

func TestFaultOf(t *testing.T) {
	for want, e := range map[string]control.ProblemError{
		"is wrong":                       {Message: "is wrong"},
		"claims.sub: is wrong":           {Member: "claims.sub", Message: "is wrong"},
		`"claims.\x1b[2J": is wrong`:     {Member: "claims.\x1b[2J", Message: "is wrong"},
		"line 7: claims.sub: is missing": {Line: 7, Member: "claims.sub", Message: "is missing"},
	} {
		if got := faultOf(e, e.Line); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestUndecided(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&refusal{Problem: control.Problem{Status: 422}}, false},
		{&refusal{Problem: control.Problem{Status: 429}}, false},
		{&refusal{Problem: control.Problem{Status: 503}}, true},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, false},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, true},
		{&tls.CertificateVerificationError{Err: errors.New("unknown")}, false},
		{io.EOF, true},
	} {
		if got := undecided(c.err); got != c.want {
			t.Errorf("%v is undecided: %v, want %v", c.err, got, c.want)
		}
	}
}

// A revocation names any issuer that RFC 7519 allows.
func TestRevokeForIssuersThatAreNoURL(t *testing.T) {
	e := serve(t)
	for _, issuer := range []string{
		"acme.com", "accounts.google.com", "robot@project.iam.gserviceaccount.com", "kubernetes/serviceaccount",
		"urn:example:sts", "did:web:example.com", "spiffe://example.org",
	} {
		e.rescind("revoke", "--issuer", issuer, "--jti", "j1").want(0)
		e.rescind("list", "--issuer", issuer, "-o", "json").want(0, `"issuer": "`+issuer+`"`)
	}
}
