package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// raw sends a request with a path that no client library has touched, and
// returns the status and the body.
func raw(t *testing.T, url, path, token string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	header := "Host: localhost\r\nConnection: close\r\n"
	if token != "" {
		header += "Authorization: Bearer " + token + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%s\r\n", path, header); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: got %v, want an answer", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s: got %v, want a body", path, err)
	}
	return res.StatusCode, string(body)
}

// The gateway and a servlet container read a path alike, or the path does not
// reach the container. A servlet container drops path parameters (";x") and
// decodes once more than a gateway that looks at dot segments.
func TestOneReadingOfAPath(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	w.upstream.URL = w.tomcat(map[string]string{"/reports/x": "reports", "/public/x": "public", "/orders/x": "orders", "/x": "root"})
	replica := w.replica("paths", w.config("paths", "{listen: 127.0.0.1:0}", "    audiences: [api]", "policies: {reports: {scopes: [reports:read]}, public: {token: optional}}\n"))
	w.gateway("paths", replica.addr("grpc"), nil)
	url := w.envoy()["paths"]
	plain, reader := minted(t, w.Stack, nil), minted(t, w.Stack, map[string]any{"scope": "reports:read"})
	eventually.True(t, "the gateway answers 200", func() bool { status, _ := raw(t, url, "/orders/x", plain); return status == http.StatusOK })

	for _, c := range []struct{ path, token, want string }{
		{"/public/x", "", "public"}, {"/public/x?a=1;b=2", "", "public"}, {"/orders/x", plain, "orders"}, {"/orders/x?a=1;b=2&c=%252f%3b", plain, "orders"},
		{"/reports/x", reader, "reports"}, {"/reports/x?a=1;b=2", reader, "reports"}, {"/reports/../public/x", "", "public"}, {"/%70ublic/x", "", "public"},
	} {
		if status, body := raw(t, url, c.path, c.token); status != http.StatusOK || body != c.want {
			t.Errorf("%s: %d %q, want 200 %q", c.path, status, body, c.want)
		}
	}

	refused := []string{
		"/public/%2e%2e;/reports/x", "/public/.%2e;/reports/x", "/public/%2e%2e;a=b/reports/x", "/x/%2e%2e;/reports/x", "/public/%2e%2e;/orders/x",
		"/reports;/x", "/reports;a=b/x", "/;/reports/x", "/;a=b/reports/x", "/%2e;/reports/x", "/orders;/x",
		"/public/%2e%2e%3b/reports/x", "/public/..%3B/reports/x", "/reports%3b/x", "/%3b/reports/x", "/public/..%3b/x",
		"/public/..%253b/reports/x", "/public/..%253B/reports/x", "/public/..%252freports/x", "/public/..%252Freports%252fx", "/public/%252e%252e/reports/x",
		"/public/..%255creports/x", "/public/..%255Creports/x", "/public/..%25252freports/x", "/public/..%2525253b/reports/x",
		"/public/..%2freports/x", "/public/..%5creports/x", "/reports%2fx", "/public/..%00/reports/x",
	}
	// Envoy resolves these, so the upstream and the policy see the same path.
	resolved := []string{
		"/public/..;/reports/x", "/public/..;a=b;c/reports/x", "/.;/reports/x", "/x/..;/reports/x", "/public;/../reports/x", "/public/;/../reports/x", "/public/x;/../../reports/x",
		"/public/..;/orders/x", "/public/..;/x", `/public\..\reports\x`, `/public/..\reports/x`,
		"/public/../reports/x", "/public/%2e%2e/reports/x", "/public/.%2E/reports/x", "/./reports/x", "//reports/x", "/public//../reports/x", "/%72eports/x", "/report%73/x",
		"/reports/x", "/reports/", "/reports", "/reports/%2e/x", "/reports//x", "/public/..%09/reports/x", "/public/..%23/reports/x",
		"/Reports/x", "/REPORTS/x", "/rEPORTS/x?a=/public/", "/Public/../reports/x", "/PUBLIC/x", "/orders/x",
	}
	for _, path := range slices.Concat(refused, resolved) {
		for name, token := range map[string]string{"no token": "", "a token without the scope": plain} {
			status, body := raw(t, url, path, token)
			if body == "reports" || token == "" && (body == "orders" || body == "root") {
				t.Errorf("%s with %s reached %q (%d), want it kept away", path, name, body, status)
			}
			if slices.Contains(refused, path) && status != http.StatusBadRequest && (token != "" || status != http.StatusUnauthorized) {
				t.Errorf("%s with %s: %d, want 400, or 401 without a token", path, name, status)
			}
		}
	}

	// A route that demands more than the default does so in any case of letters.
	for _, path := range []string{"/Reports/x", "/REPORTS/x", "/reports/X", "/rEPORTS", "/R%45PORTS/x"} {
		if status, _ := raw(t, url, path, plain); status != http.StatusForbidden {
			t.Errorf("%s with a token that lacks the scope: %d, want 403", path, status)
		}
	}
	if status, _ := raw(t, url, "/PUBLIC/x", ""); status != http.StatusUnauthorized {
		t.Errorf("/PUBLIC/x without a token: %d, want 401, because public demands less than the default", status)
	}
}
