package known_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dchest/siphash"

	"rescind/envoy/envoytest"
	"rescind/envoy/known"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

var secrets = map[string][2]uint64{"default": {1, 2}, "reports": {3, 4}}

func keyOf(policy, token string) known.Key {
	s := secrets[policy]
	a, b := siphash.Hash128(s[0], s[1], []byte(token))
	return known.Key{a, b}
}

// gateway is a real Envoy with the module, whose ext_authz has no server: a request is
// allowed only if the module answers.
type gateway struct {
	t      *testing.T
	url    string
	server *known.Server
	table  *known.Table
	stop   context.CancelFunc
	mu     sync.Mutex
	uses   []known.Use
}

type noStreams struct{}

func (noStreams) Opened(known.StreamID, string, string, func()) {}
func (noStreams) Closed(known.StreamID)                         {}
func (noStreams) Gone(uint64)                                   {}

func newTable(t *testing.T) *known.Table {
	t.Helper()
	table, err := known.NewTable(known.Options{
		Entries: 1000, Prefix: "x-jwt-", Names: []string{"x-jwt-issuer", "x-jwt-subject", "x-jwt-id"},
		Policies: []known.Policy{{"default", secrets["default"]}, {"reports", secrets["reports"]}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func start(t *testing.T) *gateway {
	t.Helper()
	envoyBin, err := envoytest.Find(t.Context(), "", nil)
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("make", "-s", "-C", "../module", "OUT="+dir).CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Jwt") {
				fmt.Fprintln(w, strings.ToLower(name), values)
			}
		}
	}))
	t.Cleanup(upstream.Close)
	g := &gateway{t: t}
	socket := filepath.Join(dir, "known.sock")
	g.table = newTable(t)
	g.server, err = known.Listen(known.ServerOptions{Socket: socket, UID: os.Getuid(), Streams: noStreams{}, Logger: slog.New(slog.DiscardHandler), Uses: func(portion []known.Use) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.uses = append(g.uses, portion...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.server.Replace(g.table)
	go func() { _ = g.server.Serve() }()
	t.Cleanup(func() { _ = g.server.Close(); g.table.Close() })
	ctx, stop := context.WithCancel(t.Context())
	g.stop = stop
	g.table.Open(true)
	go func() {
		for ctx.Err() == nil {
			g.table.Beat(0)
			time.Sleep(known.BeatInterval)
		}
	}()
	go func() { // not the one that beats, because a test keeps this one waiting
		for t.Context().Err() == nil {
			g.server.Drain()
			time.Sleep(known.BeatInterval)
		}
	}()

	free := freeport.Addrs(t, 2) // of the listener, and of an ext_authz that is not there
	config := filepath.Join(dir, "envoy.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, bootstrap, portOf(free[0]), socket, os.Getuid(), portOf(upstream.Listener.Addr().String()), portOf(free[1])), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoyBin, "-c", config, "--concurrency", "2", "--use-dynamic-base-id", "-l", "warn")
	cmd.Env = append(os.Environ(), "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+dir)
	log := &strings.Builder{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	g.url = "http://" + free[0]
	eventually.True(t, "Envoy answers", func() bool { _, _, err := g.get("/", "x"); return err == nil })
	eventually.True(t, "Envoy is attached", func() bool { _, n := g.server.State(); return n == 1 })
	return g
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

func (g *gateway) get(path, token string, headers ...string) (int, string, error) {
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}

func (g *gateway) want(status int, path, token string, headers ...string) string {
	g.t.Helper()
	got, body, err := g.get(path, token, headers...)
	if err != nil || got != status {
		e, n := g.server.State()
		g.t.Errorf("GET %s with %s %q: got %d, %v, want %d (Envoy: %+v, %d connected)", path, token, headers, got, err, status, e, n)
	}
	return body
}

func (g *gateway) admit(policy, token string, digests ...uint64) bool {
	return g.table.Admit(&known.Token{
		Policy: policy, Key: keyOf(policy, token), Mark: g.table.Mark(), Ends: time.Now().Add(time.Hour), Digests: digests,
		Set:    []known.Header{{"x-jwt-issuer", "https://idp.example/"}, {"x-jwt-subject", token}},
		Issuer: "https://idp.example/", Subject: token, TokenID: "id-" + token,
	}, time.Now())
}

func only(digests ...uint64) iter.Seq[uint64] { return slices.Values(digests) }

func TestEnvoyAnswersForKnownTokensAlone(t *testing.T) {
	g := start(t)
	g.want(403, "/", "alice")
	if !g.admit("default", "alice", 17, 18) {
		t.Fatal("the token was not admitted")
	}
	eventually.True(t, "the table is used", func() bool { s, _, _ := g.get("/", "alice"); return s == 200 })
	if body := g.want(200, "/", "alice"); !strings.Contains(body, "x-jwt-subject [alice]") || !strings.Contains(body, "x-jwt-issuer [https://idp.example/]") {
		t.Errorf("the upstream saw %q, want the headers of the token", body)
	}
	g.want(403, "/", "alice2")
	g.want(403, "/", "alic")
	g.want(403, "/reports", "alice")
	g.want(403, "/none", "alice")
	g.want(403, "/unknown", "alice")
	g.want(403, "/", "alice", "X-Jwt-Subject", "root")
	g.want(403, "/", "alice", "x.jwt.subject", "root")
	g.want(403, "/", "alice", "Authorization", "Bearer bob")

	g.table.Revoke(only(18), 5)
	g.want(403, "/", "alice")
	g.admit("default", "alice", 17)
	g.want(200, "/", "alice")
	g.table.Void()
	g.want(403, "/", "alice")
	mark := g.table.Mark()
	g.table.Revoke(only(99), 6)
	if g.table.Admit(&known.Token{Policy: "default", Key: keyOf("default", "alice"), Mark: mark, Ends: time.Now().Add(time.Hour)}, time.Now()) {
		t.Error("a token that was decided about before a revocation is known after it")
	}
	g.admit("reports", "bob")
	g.want(200, "/reports", "bob")
	g.want(403, "/", "bob")
	eventually.True(t, "all uses are reported", func() bool {
		e, _ := g.server.State()
		g.mu.Lock()
		defer g.mu.Unlock()
		return e.Hits > 2 && len(g.uses) == int(e.Hits)
	})
	g.mu.Lock()
	last := g.uses[len(g.uses)-1]
	g.mu.Unlock()
	if last.Policy != "reports" || last.Key != keyOf("reports", "bob") || last.ID == [2]uint64{} || last.Source.String() != "127.0.0.1" {
		t.Errorf("the last use: got %+v, want bob's under reports", last)
	}
	// The replica is silent, and its process lives.
	g.stop()
	silent := time.Now()
	eventually.TrueWithin(t, 5*time.Second, "the module has given the replica up", func() bool { s, _, _ := g.get("/reports", "bob"); return s == 403 })
	t.Logf("the first denial came %v after the last beat", time.Since(silent).Round(time.Millisecond))
	g.want(403, "/reports", "bob")
}

const bootstrap = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %[1]s}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          upgrade_configs: [{upgrade_type: websocket}]
          http_filters:
          - name: known
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter
              dynamic_module_config: {name: rescind}
              filter_name: known
              filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: "socket=%[2]s uid=%[3]d"}
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service: {envoy_grpc: {cluster_name: authz}, timeout: 0.2s}
              filter_enabled_metadata: {filter: rescind, path: [{key: known}], value: {bool_match: true}, invert: true}
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {match: {prefix: /reports}, route: {cluster: upstream}, metadata: {filter_metadata: {rescind: {policy: reports}}}}
              - {match: {prefix: /unknown}, route: {cluster: upstream}, metadata: {filter_metadata: {rescind: {policy: other}}}}
              - {match: {prefix: /none}, route: {cluster: upstream}}
              - {match: {prefix: /}, route: {cluster: upstream}, metadata: {filter_metadata: {rescind: {policy: default}}}}
  clusters:
  - name: upstream
    load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[4]s}}}}]}]}
  - name: authz
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}
    load_assignment: {cluster_name: authz, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[5]s}}}}]}]}
`
