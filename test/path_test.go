package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testedge"
)

// raw sends a request with a path that no client library has touched, and
// returns the status and the body.
func raw(t *testing.T, url, path, token string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return rawOver(t, conn, "localhost", path, token)
}

// rawOver is raw over a connection of the caller's, which it closes.
func rawOver(t *testing.T, conn net.Conn, host, path, token string) (int, string) {
	t.Helper()
	headers := []string{"Host: " + host, "Connection: close"}
	if token != "" {
		headers = append(headers, "Authorization: Bearer "+token)
	}
	a := rawGet(t, conn, path, headers)
	return a.Status, string(a.Body)
}

// rawGet sends a request as it is written over conn, and returns the answer. It closes
// conn.
func rawGet(t *testing.T, conn net.Conn, path string, headers []string) envoytest.Answer {
	t.Helper()
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%s\r\n\r\n", path, strings.Join(headers, "\r\n")); err != nil {
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
	return envoytest.Answer{Status: res.StatusCode, Header: res.Header, Body: body}
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
	testedge.ReadsPathsAsOne(t, func(path, token string) (int, string) { return raw(t, url, path, token) }, plain, reader)
}
