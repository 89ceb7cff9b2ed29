package test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testedge"
)

// edge is envoy-edge.yaml in a real Envoy, with the two replicas of a stack behind
// its one DNS name.
type edge struct {
	*testedge.Edge
	t      *testing.T
	client *http.Client // speaks HTTP/2
	plain  string       // a token
}

func startEdge(t *testing.T, changes ...string) *edge {
	t.Helper()
	needEnvoy(t)
	// Health checks come faster than in the file, and an ejected replica is back
	// earlier, so the test takes less time.
	changes = append([]string{"no_traffic_interval: 1s", "no_traffic_interval: 0.2s", "          interval: 1s\n", "          interval: 0.2s\n", "base_ejection_time: 5s", "base_ejection_time: 0.5s"}, changes...)
	e := &edge{t: t, Edge: testedge.Start(t, envoytest.Options{Binary: rescind, Envoy: gateway, Dir: t.TempDir()}, changes...)}
	e.client = e.Client(true)
	e.plain = minted(t, e.Stack, nil)
	e.becomes("at first", e.plain, http.StatusOK)
	return e
}

// ask sends a GET to the gateway.
func (e *edge) ask(client *http.Client, path, token string, headers ...string) (envoytest.Answer, error) {
	return askURL(e.t.Context(), client, "https://"+testedge.Host+path, token, headers...)
}

func askURL(ctx context.Context, client *http.Client, url, token string, headers ...string) (envoytest.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return envoytest.Answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	return do(client, req)
}

// wants demands a status of the gateway.
func (e *edge) wants(when, path, token string, want int, headers ...string) envoytest.Answer {
	e.t.Helper()
	a, err := e.ask(e.client, path, token, headers...)
	if err != nil || a.Status != want {
		e.t.Errorf("%s: got %d %s %v, want %d", when, a.Status, a.Body, err, want)
	}
	return a
}

// becomes waits until the gateway answers with this status.
func (e *edge) becomes(when, token string, want int) {
	e.t.Helper()
	eventually.Succeeds(e.t, fmt.Sprintf("%s, the gateway answers %d", when, want), func() error {
		a, err := e.ask(e.client, "/orders/x", token)
		if err == nil && a.Status != want {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
}

// figure returns a figure of Envoy's cluster of the replicas.
func (e *edge) figure(name string) int {
	e.t.Helper()
	figures := map[string]int{}
	for line := range strings.Lines(scraped(e.AdminURL + "/stats?filter=^cluster.rescind")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		var n int
		if _, err := fmt.Sscan(value, &n); err == nil {
			figures[name] = n
		}
	}
	n, there := figures["cluster.rescind."+name]
	if !there {
		e.t.Errorf("Envoy has no figure cluster.rescind.%s, want one", name)
	}
	return n
}

// The complete edge configuration, from a client's TLS to the replicas.
func TestEdge(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	e := startEdge(t)

	t.Run("decisions by HTTP/2 and HTTP/1.1", func(t *testing.T) {
		reader := minted(t, e.Stack, map[string]any{"scope": "reports:read"})
		for _, c := range []struct {
			name, path, token string
			want              int
		}{
			{"a good token", "/orders/x", e.plain, 200}, {"no token", "/orders/x", "", 401}, {"nonsense", "/orders/x", "nonsense", 401},
			{"the policy's scope is missing", "/reports/x", e.plain, 403}, {"the policy's scope is there", "/reports/x", reader, 200},
			{"public", "/public/x", "", 200}, {"public with a bad token", "/public/x", "nonsense", 401},
			{"the health of the gateway", "/edge-health", "", 200}, {"another path than that of the health", "/edge-health/x", "", 401},
		} {
			for http2, proto := range map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"} {
				a, err := e.ask(e.Client(http2), c.path, c.token)
				if err != nil || a.Status != c.want {
					t.Errorf("%s by %s: got %d %s %v, want %d", c.name, proto, a.Status, a.Body, err, c.want)
				}
				if alt := a.Header.Get("Alt-Svc"); c.want == 200 && c.path != "/edge-health" && !strings.HasPrefix(alt, `h3=":443"`) {
					t.Errorf("%s by %s: got Alt-Svc %q, want HTTP/3 in it", c.name, proto, alt)
				}
			}
		}
	})
	t.Run("one reading of a path", e.paths)
	t.Run("headers", e.headers)
	t.Run("TLS", e.handshakes)
	t.Run("port 80", func(t *testing.T) {
		a, err := askURL(t.Context(), e.client, "http://"+testedge.Host+"/reports/x?a=1", e.plain)
		if err != nil || a.Status != http.StatusMovedPermanently || a.Header.Get("Location") != "https://"+testedge.Host+"/reports/x?a=1" {
			t.Errorf("plain HTTP: got %d, Location %q, %v; want 301 to https", a.Status, a.Header.Get("Location"), err)
		}
	})
	t.Run("limits", func(t *testing.T) {
		stats := scraped(e.AdminURL + "/stats?filter=^overload")
		for _, name := range []string{"envoy.resource_monitors.fixed_heap.pressure", "envoy.resource_monitors.global_downstream_max_connections", "envoy.overload_actions.stop_accepting_requests.active: 0", "envoy.overload_actions.shrink_heap.active: 0"} {
			if !strings.Contains(stats, "overload."+name) {
				t.Errorf("Envoy's figures: got\n%s\nwant %s", stats, name)
			}
		}
	})
	t.Run("revoked, and the line in the access log", e.accessLog)
	t.Run("a renewed certificate", func(t *testing.T) {
		renewed := e.IssueEdge()
		eventually.Succeeds(t, "the gateway serves the new certificate", func() error {
			conn, err := tls.Dial("tcp", e.Listeners["https"], e.TLS())
			if err != nil {
				return err
			}
			defer conn.Close()
			if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(renewed.Leaf.SerialNumber) != 0 {
				return fmt.Errorf("its serial number is %v", got)
			}
			return nil
		})
	})
}

func manyHeaders(n int) (headers []string) {
	for i := range n {
		headers = append(headers, fmt.Sprint("x-many-", i), "1")
	}
	return headers
}

// paths sends the paths of the table over TLS, as they are written.
func (e *edge) paths(t *testing.T) {
	ask := func(path, token string) (int, string) {
		conn, err := tls.Dial("tcp", e.Listeners["https"], e.TLS("http/1.1"))
		if err != nil {
			t.Fatal(err)
		}
		status, body := rawOver(t, conn, testedge.Host, path, token)
		var seen envoytest.Seen
		if status != http.StatusOK || json.Unmarshal([]byte(body), &seen) != nil {
			return status, ""
		}
		return status, testedge.FolderRead(seen.Path)
	}
	testedge.ReadsPathsAsOne(t, ask, e.plain, minted(t, e.Stack, map[string]any{"scope": "reports:read"}))
}

// headers demands that the upstream sees no header by which a client names itself,
// its address, its path or its method.
func (e *edge) headers(t *testing.T) {
	spoofs := []string{"x-jwt-subject", "root", "x-jwt-admin", "yes", "x.jwt.subject", "root", "X!JWT~Subject", "root"}
	for _, name := range []string{
		"X-Original-URL", "x-rewrite-url", "x-original-uri", "X.Original.Url", "x-http-method-override", "x-method-override", "x-http-method", "x!http!method!override",
		"X-Forwarded-Host", "x-forwarded-prefix", "x-forwarded-uri", "x-forwarded-port", "x.forwarded.host", "Forwarded", "x-host", "X-Real-IP", "True-Client-IP", "client-ip", "x-client-ip", "Proxy",
		"x-forwarded-client-cert", "x-envoy-original-path", "x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on", "x-envoy-internal",
	} {
		spoofs = append(spoofs, name, "/evil")
	}
	spoofs = append(spoofs, "X-Forwarded-For", "10.1.2.3", "X-Forwarded-Proto", "http", "X-Request-Id", "11111111-1111-1111-1111-111111111111")
	for _, c := range []struct{ path, token, subject string }{{"/orders/x", minted(t, e.Stack, map[string]any{"sub": "alice"}), "alice"}, {"/public/x", "", ""}} {
		seen, err := e.wants(c.path+" with spoofed headers", c.path, c.token, http.StatusOK, spoofs...).Seen()
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range seen.Header {
			for _, value := range values {
				if value == "/evil" || value == "root" || value == "yes" || strings.Contains(value, "10.1.2.3") || strings.HasPrefix(value, "1111") {
					t.Errorf("%s: the upstream sees %s: %q, want the client's header removed", c.path, name, value)
				}
			}
		}
		// A client on loopback stands in the header with the address of Envoy's machine.
		if got := strings.Join(seen.Header["X-Forwarded-For"], ","); net.ParseIP(got) == nil {
			t.Errorf("%s: the upstream sees X-Forwarded-For: got %q, want one address", c.path, got)
		}
		for name, want := range map[string]string{"X-Forwarded-Proto": "https", "X-Envoy-Internal": "", "X-Jwt-Subject": c.subject} {
			if got := strings.Join(seen.Header[name], ","); got != want {
				t.Errorf("%s: the upstream sees %s: got %q, want %q", c.path, name, got, want)
			}
		}
	}
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"an underscore in a name": {[]string{"x_jwt_subject", "root"}, http.StatusBadRequest},
		"101 headers":             {manyHeaders(101), http.StatusRequestHeaderFieldsTooLarge},
	} {
		if a, err := e.ask(e.Client(false), "/public/x", "", c.headers...); err != nil || a.Status != c.want {
			t.Errorf("%s by HTTP/1.1: got %d %v, want %d", name, a.Status, err, c.want)
		}
		if a, err := e.ask(e.client, "/public/x", "", c.headers...); err == nil {
			t.Errorf("%s by HTTP/2: got %d, want the stream reset", name, a.Status)
		}
	}
	a := e.wants("a good token", "/orders/x", e.plain, http.StatusOK)
	for name, want := range map[string]string{"Strict-Transport-Security": "max-age=31536000", "Server": "edge", "X-Envoy-Upstream-Service-Time": ""} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("the answer's %s: got %q, want %q", name, got, want)
		}
	}
}

// handshakes demands TLS 1.2 or later, under the name of the gateway.
func (e *edge) handshakes(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*tls.Config)
		want   bool
	}{
		{"TLS 1.3", func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"TLS 1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, false},
		{"CBC", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		{"another name", func(c *tls.Config) { c.ServerName = "internal.example.com" }, false},
		{"no name", func(c *tls.Config) {
			c.ServerName, c.InsecureSkipVerify = "", true
		}, false},
	} {
		config := e.TLS("h2")
		c.change(config)
		conn, err := tls.Dial("tcp", e.Listeners["https"], config)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != c.want {
			t.Errorf("%s: got %v, want a connection: %t", c.name, err, c.want)
		}
	}
}

// accessLog demands that one decision is found in the logs of both sides by its ID.
func (e *edge) accessLog(t *testing.T) {
	token := minted(t, e.Stack, map[string]any{"sub": "logged"})
	e.wants("before the revocation", "/orders/allowed", token, http.StatusOK)
	r := revoked(t, e.Stack, map[string]any{"claims": map[string]any{"sub": "logged"}})
	for range 4 { // both replicas
		e.wants("revoked", "/orders/revoked?secret=1", token, http.StatusUnauthorized)
	}
	var line map[string]any
	find := func(file, name, value string) map[string]any {
		t.Helper()
		eventually.Succeeds(t, fmt.Sprintf("%s has a line with %s %q", file, name, value), func() error {
			text, err := os.ReadFile(filepath.Join(e.Dir, file))
			if err != nil {
				return err
			}
			for l := range strings.Lines(string(text)) {
				var members map[string]any
				if json.Unmarshal([]byte(l), &members) == nil && members[name] == value {
					line = members
					return nil
				}
			}
			return fmt.Errorf("the log has %d bytes", len(text))
		})
		return line
	}
	allowed := find("envoy.log", "path", "/orders/allowed")
	denied := find("envoy.log", "path", "/orders/revoked")
	for name, want := range map[string]any{"decision": "allow", "reason": "ok", "status": 200.0, "protocol": "HTTP/2", "tls": "TLSv1.3", "method": "GET", "host": testedge.Host, "policy": "default"} {
		if allowed[name] != want {
			t.Errorf("the line of the allowed request: %s: got %v, want %v", name, allowed[name], want)
		}
	}
	for name, want := range map[string]any{"decision": "deny", "reason": "revoked", "status": 401.0, "revocation_id": r.ID, "details": "ext_authz_denied", "flags": "UAEX"} {
		if denied[name] != want {
			t.Errorf("the line of the revoked request: %s: got %v, want %v", name, denied[name], want)
		}
	}
	id, _ := denied["decision_id"].(string)
	if id == "" {
		t.Fatalf("the line of the revoked request: got %v, want a decision_id", denied)
	}
	eventually.True(t, "a replica logged the decision "+id, func() bool {
		for i := range e.Replicas {
			text, _ := os.ReadFile(filepath.Join(e.Dir, envoytest.ReplicaName(i)+".log"))
			if strings.Contains(string(text), `"rescind.decision.id":"`+id+`"`) {
				return true
			}
		}
		return false
	})
}
