package interop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testedge"
)

// The complete edge configuration decides over QUIC as it does over TCP.
func TestEdgeOverHTTP3(t *testing.T) {
	t.Parallel()
	e := testedge.Start(t, options(t, envoytest.Options{Replicas: 1}))
	config := e.TLS("h3")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	dial := func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddrEarly(ctx, e.Listeners["quic"], c, q)
	}
	transport := &http3.Transport{TLSClientConfig: config, Dial: dial}
	defer transport.Close()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	ask := func(path, token string, headers ...string) (envoytest.Answer, error) {
		// An opaque path is sent as it is written.
		req := (&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: testedge.Host, Opaque: path}, Header: http.Header{}}).WithContext(t.Context())
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Add(headers[i], headers[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			return envoytest.Answer{}, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return envoytest.Answer{Status: res.StatusCode, Header: res.Header, Body: body}, err
	}
	mint := func(claims map[string]any) string {
		t.Helper()
		token, err := e.Mint(claims)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	plain, reader, mallory := mint(nil), mint(map[string]any{"scope": "reports:read"}), mint(map[string]any{"sub": "mallory"})
	eventually.Succeeds(t, "the gateway allows a token", func() error {
		a, err := ask("/orders/x", mallory)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return err
	})
	revoke(t, e.Stack, map[string]any{"claims": map[string]any{"sub": "mallory"}})

	for _, c := range []struct {
		name, path, token string
		want              int
	}{
		{"a good token", "/orders/x", plain, 200}, {"no token", "/orders/x", "", 401}, {"nonsense", "/orders/x", "nonsense", 401}, {"a revoked token", "/orders/revoked", mallory, 401},
		{"the policy's scope is missing", "/reports/x", plain, 403}, {"the policy's scope is there", "/reports/x", reader, 200}, {"public", "/public/x", "", 200},
	} {
		if a, err := ask(c.path, c.token); err != nil || a.Status != c.want {
			t.Errorf("%s: got %d %s %v, want %d", c.name, a.Status, a.Body, err, c.want)
		}
	}
	a, err := ask("/public/x", "", "X-Jwt-Subject", "root", "x.jwt.subject", "root", "X-Original-Url", "root", "X-Forwarded-For", "root", "X-Envoy-Internal", "root")
	if err != nil || a.Status != http.StatusOK || strings.Contains(string(a.Body), "root") {
		t.Errorf("spoofed headers: got %d %s %v, want 200 and none of them at the upstream", a.Status, a.Body, err)
	}
	if a, err := ask("/public/x", "", "x_jwt_subject", "root"); err == nil {
		t.Errorf("an underscore in a name: got %d %s, want the stream reset", a.Status, a.Body)
	}
	testedge.ReadsPathsAsOne(t, func(path, token string) (int, string) {
		if strings.HasPrefix(path, "//") { // a URL of Go cannot say this one
			return http.StatusBadRequest, ""
		}
		a, err := ask(path, token)
		if err != nil {
			t.Errorf("%s: got %v, want an answer", path, err)
		}
		var seen envoytest.Seen
		if a.Status != http.StatusOK || json.Unmarshal(a.Body, &seen) != nil {
			return a.Status, ""
		}
		return a.Status, testedge.FolderRead(seen.Path)
	}, plain, reader)

	// A resumed session sends no request in its first flight, which anybody on the way
	// could send again. Each worker of Envoy resumes its own sessions alone.
	eventually.Succeeds(t, "Envoy resumes a session", func() error {
		conn, err := dial(t.Context(), "", config, &quic.Config{})
		if err != nil {
			return err
		}
		defer func() { _ = conn.CloseWithError(0, "") }()
		<-conn.HandshakeComplete()
		state := conn.ConnectionState()
		if state.Used0RTT {
			t.Error("a resumed session: got early data accepted, want it refused")
		}
		if !state.TLS.DidResume {
			return errors.New("the session is new")
		}
		return nil
	})

	eventually.True(t, "the access log has the revoked request over HTTP/3", func() bool {
		text, _ := os.ReadFile(filepath.Join(e.Dir, "envoy.log"))
		for line := range strings.Lines(string(text)) {
			var l map[string]any
			if json.Unmarshal([]byte(line), &l) == nil && l["path"] == "/orders/revoked" {
				return l["protocol"] == "HTTP/3" && l["reason"] == "revoked" && l["decision_id"] != nil
			}
		}
		return false
	})
}
