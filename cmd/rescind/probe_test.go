package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"rescind/test/testcert"
)

func TestProbe(t *testing.T) {
	dir := t.TempDir()
	authority := testcert.NewAuthority(t, "probe")
	ca, cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	testcert.Replace(t, ca, authority.PEM())
	client := authority.IssueFiles(t, "operator", cert, key)
	answers := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz":
		case "/readyz":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"ready":false,"missing":["the durable log is not open yet","\u202e"]}`))
		case "/moved":
			http.Redirect(w, r, "/healthz", http.StatusFound)
		default:
			http.NotFound(w, r)
		}
	})
	plain := httptest.NewServer(answers)
	defer plain.Close()
	mutual := httptest.NewUnstartedServer(answers)
	mutual.Config.ErrorLog = log.New(io.Discard, "", 0)
	mutual.TLS = &tls.Config{Certificates: []tls.Certificate{client}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool()}
	mutual.StartTLS()
	defer mutual.Close()

	files := map[string]string{"RESCIND_CA_FILE": ca, "RESCIND_CERT_FILE": cert, "RESCIND_KEY_FILE": key}
	for _, c := range []struct {
		name   string
		args   []string
		env    map[string]string
		status int
		want   string // in the text that is printed
	}{
		{"alive", []string{plain.URL + "/healthz"}, nil, 0, "ok\n"},
		{"not ready", []string{plain.URL + "/readyz"}, nil, 1, "  the durable log is not open yet\n"},
		{"an odd character in the answer", []string{plain.URL + "/readyz"}, nil, 1, `\u202e`},
		{"another path", []string{plain.URL + "/"}, nil, 1, "answered 404\nname /healthz or /readyz"},
		{"a redirect is not followed", []string{plain.URL + "/moved"}, nil, 1, "answered 302"},
		{"with a client certificate", []string{mutual.URL + "/healthz"}, files, 0, "ok\n"},
		{"with flags", []string{mutual.URL + "/healthz", "--ca-file", ca, "--cert-file", cert, "--key-file", key}, nil, 0, "ok\n"},
		{"without the client certificate", []string{mutual.URL + "/healthz", "--ca-file", ca}, nil, 1, "certificate required"},
		{"an unknown authority", []string{mutual.URL + "/healthz"}, nil, 1, "unknown authority"},
		{"no such file", []string{mutual.URL + "/healthz", "--ca-file", filepath.Join(dir, "none")}, nil, 2, "no such file"},
		{"no URL", []string{"localhost:9390"}, nil, 2, "is not the URL of a server's health"},
		{"no time", []string{plain.URL + "/healthz", "--timeout", "0s"}, nil, 2, "--timeout must be more than 0"},
		{"nothing", nil, nil, 2, "is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			status := run(append([]string{"probe"}, c.args...), strings.NewReader(""), &out, &errs, func(name string) string { return c.env[name] })
			if text := out.String() + errs.String(); status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("exit status %d and %q, want %d and %q", status, text, c.status, c.want)
			}
		})
	}
}
