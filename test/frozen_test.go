package test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testcert"
)

// frozenRow is a request through a gateway that other generators configured.
type frozenRow struct {
	name, path string
	as         string // a token of frozenTokens; empty: none
	headers    []string
	status     int
}

// Each frozen file is a configuration that Istio or Envoy Gateway made of the
// manifests in envoy/istio and envoy/gateway. test/mesh makes them again and compares.
// The rows hold for all of them, but for those that a file names.
var (
	frozenRows = []frozenRow{
		{"a good token", "/orders", "good", nil, 200},
		{"no token", "/orders", "", nil, 401},
		{"nonsense", "/orders", "nonsense", nil, 401},
		{"a revoked token", "/orders", "revoked", nil, 401},
		{"two Authorization headers", "/orders", "good", []string{"authorization: Bearer x"}, 400},
		{"no probe is excluded", "/healthz", "", nil, 401},
		{"an escaped slash behind a probe", "/healthz/..%2forders", "", nil, 0},
	}
	frozenPolicies = []frozenRow{
		{"the policy's scope is missing", "/reports/q3", "good", nil, 403},
		{"the policy's scope is there", "/reports/q3", "reader", nil, 200},
		{"in another case of letters", "/REPORTS/q3", "good", nil, 403},
		{"behind a doubled slash", "//reports/q3", "good", nil, 403},
		{"a path parameter", "/reports;a=b/q3", "good", nil, 400},
		{"an escaped path parameter", "/reports%3Ba=b/q3", "good", nil, 400},
		{"a doubly escaped slash", "/orders/..%252freports/q3", "good", nil, 400},
		{"a semicolon in the query", "/orders?a=1;b=2", "good", nil, 200},
	}
	frozenPublic = []frozenRow{
		{"public without a token", "/public", "", nil, 200},
		{"public with a bad token", "/public", "nonsense", nil, 401},
		{"not public", "/publications", "", nil, 401},
		{"dots in a path parameter", "/public/..;/reports/q3", "good", nil, 403}, // Envoy drops ";" behind plain dots itself
		{"escaped dots in a path parameter", "/public/%2e%2e;/reports/q3", "good", nil, 400},
		{"an escaped slash behind public", "/public/..%2freports/q3", "good", nil, 0},
		{"escaped dots behind public", "/public/%2e%2e/reports/q3", "good", nil, 403},
	}
)

// frozenFiles are the configurations of testdata/frozen.
var frozenFiles = []frozenFile{
	{"istio-gateway", [][]frozenRow{frozenRows, frozenPolicies, frozenPublic}, map[string]int{"/healthz/..%2forders": 401, "/public/..%2freports/q3": 403}},
	{"istio-gateway-api", [][]frozenRow{frozenRows, frozenPolicies, frozenPublic}, map[string]int{"/healthz/..%2forders": 401, "/public/..%2freports/q3": 403}},
	{"istio-sidecar", [][]frozenRow{frozenRows, frozenPolicies}, map[string]int{"/healthz/..%2forders": 401}},
	{"envoy-gateway", [][]frozenRow{frozenRows, frozenPolicies, frozenPublic}, map[string]int{"/healthz/..%2forders": 400, "/public/..%2freports/q3": 400}},
}

type frozenFile struct {
	name string
	rows [][]frozenRow
	// escaped is the answer to an escaped slash. Istio unescapes it and then resolves
	// dots, and Envoy Gateway refuses it.
	escaped map[string]int
}

// The manifests for Istio and Envoy Gateway hold against the product: their own
// generators configured these Envoys, and rescind answers their Checks.
func TestFrozenMeshes(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	replica := w.meshReplica("127.0.0.1:0")
	urls := make([]string, len(frozenFiles))
	for i, f := range frozenFiles {
		urls[i] = w.thaw(f.name, replica.addr("grpc"))
	}
	w.meshHolds(replica, frozenFiles, urls)
}

// Every connection manager of the listener that serves requests asks rescind, waits at
// most half a second, and fails closed. The waypoint is among them: no test can run it,
// because it has filters of Istio's own Envoy.
func TestFrozenMeshesAskForEveryRequest(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	paths, err := filepath.Glob("testdata/frozen/*.json")
	if err != nil || len(paths) <= len(frozenFiles) {
		t.Fatalf("got the frozen files %v, %v, want all that run, and the waypoint", paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var bootstrap node
		if err := json.Unmarshal(text, &bootstrap); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		asking := 0
		for _, l := range at(bootstrap, "static_resources", "listeners").([]any) {
			text, _ := json.Marshal(l)
			if !strings.Contains(string(text), `filters.http.ext_authz.v3.ExtAuthz"`) {
				continue
			}
			asking++
			chains, _ := l.(node)["filter_chains"].([]any)
			if fallback := l.(node)["default_filter_chain"]; fallback != nil {
				chains = append(chains, fallback)
			}
			for _, chain := range chains {
				for _, filter := range chain.(node)["filters"].([]any) {
					if filter.(node)["name"] == "envoy.filters.network.http_connection_manager" {
						asks(t, path, filter.(node)["typed_config"].(node))
					}
				}
			}
		}
		if asking != 1 {
			t.Errorf("%s: got %d listeners that ask, want one", path, asking)
		}
	}
}

// asks fails the test if a connection manager does not ask for each of its requests.
func asks(t *testing.T, path string, manager node) {
	t.Helper()
	always := false
	for _, f := range manager["http_filters"].([]any) {
		config, _ := f.(node)["typed_config"].(node)
		if config["@type"] != "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz" {
			continue
		}
		always = always || f.(node)["disabled"] != true
		timeout, err := time.ParseDuration(at(config, "grpc_service", "timeout").(string))
		if err != nil || timeout > 500*time.Millisecond || config["failure_mode_allow"] == true || config["allowed_headers"] != nil {
			t.Errorf("%s: got %v (%v), want a timeout of at most 500ms, no failure_mode_allow and no allowed_headers", path, config, err)
		}
	}
	for _, host := range at(manager, "route_config", "virtual_hosts").([]any) {
		for _, route := range host.(node)["routes"].([]any) {
			// Envoy Gateway has one filter for each policy, and a route switches one on.
			switches, _ := json.Marshal(route.(node)["typed_per_filter_config"])
			on := always || strings.Contains(string(switches), `"envoy.filters.http.ext_authz/`)
			if !on || strings.Contains(string(switches), `"disabled":true`) {
				t.Errorf("%s: the route %v has the filter settings %s, want a check for it", path, route.(node)["name"], switches)
			}
		}
	}
}

// meshReplica runs a replica with mutual TLS, as the sidecar of one would have it.
func (w *rig) meshReplica(listen string) *child {
	w.t.Helper()
	certs := os.Getenv("RESCIND_MESH_CERTS")
	if certs == "" {
		certs = w.dir
		for name, of := range map[string][2]string{
			"replica": {"rescind-authz.rescind.svc", "spiffe://cluster.local/ns/rescind/sa/rescind-authz"},
			"proxy":   {"edge.shop.svc", "spiffe://cluster.local/ns/shop/sa/edge"},
		} {
			cert, key := testcert.PEM(w.t, w.ca.IssueFor(w.t, of[0], of[1]))
			testcert.Replace(w.t, w.file(name+".pem"), cert)
			testcert.Replace(w.t, w.file(name+".key"), key)
		}
	}
	grpc := fmt.Sprintf("{listen: %q, tls: {cert_file: %[2]s/replica.pem, key_file: %[2]s/replica.key, client_ca_file: %[2]s/ca.pem}}", listen, certs)
	return w.replica("mesh", w.config("mesh", grpc, "    audiences: [api]", "policies: {reports: {scopes: [reports:read]}, public: {token: optional}}\n"))
}

// meshHolds sends the rows of each file to the gateway with the URL beside it, and at
// last stops the replica.
func (w *rig) meshHolds(replica *child, files []frozenFile, urls []string) {
	t := w.t
	t.Helper()
	tokens := map[string]string{
		"nonsense": "nonsense", "good": minted(t, w.Stack, map[string]any{"sub": "alice"}),
		"reader": minted(t, w.Stack, map[string]any{"scope": "reports:read"}), "revoked": minted(t, w.Stack, map[string]any{"sub": "mallory"}),
	}
	for i, f := range files {
		eventually.Succeeds(t, f.name+" allows a token before its revocation", func() error {
			if a := askFrozen(t, urls[i], "/orders", tokens["revoked"]); a.Status != http.StatusOK {
				return fmt.Errorf("got %d %s, want 200", a.Status, a.Body)
			}
			return nil
		})
	}
	revoked(t, w.Stack, map[string]any{"claims": map[string]any{"sub": "mallory"}})
	for i, f := range files {
		t.Run(f.name, func(t *testing.T) { f.holds(t, urls[i], tokens) })
	}

	// The replica stands still. Without the timeout of the manifests there would be no
	// answer before the limit of the test's own client.
	t.Cleanup(func() { _ = replica.cmd.Process.Signal(syscall.SIGCONT) }) // or a failed test could not stop it
	if err := replica.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		eventually.Succeeds(t, f.name+" denies while the replica is slow", func() error {
			if a := askFrozen(t, urls[i], "/orders", tokens["good"]); a.Status != http.StatusServiceUnavailable {
				return fmt.Errorf("got %d %s, want 503", a.Status, a.Body)
			}
			return nil
		})
	}
	if err := replica.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	replica.stop()
	for i, f := range files {
		for _, path := range []string{"/orders", "/healthz", "/public", "/reports/q3"} {
			if a := askFrozen(t, urls[i], path, tokens["good"]); a.Status != http.StatusServiceUnavailable {
				t.Errorf("%s without a replica, %s: got %d %s, want 503", f.name, path, a.Status, a.Body)
			}
		}
	}
}

// holds sends the rows of the file.
func (f frozenFile) holds(t *testing.T, url string, tokens map[string]string) {
	for _, rows := range f.rows {
		for _, row := range rows {
			want := row.status
			if want == 0 {
				want = f.escaped[row.path]
			}
			a := askFrozen(t, url, row.path, tokens[row.as], row.headers...)
			if a.Status != want {
				t.Errorf("%s: %s with the token %q: got %d %s, want %d", row.name, row.path, row.as, a.Status, a.Body, want)
			}
			if challenge := a.Header.Get("WWW-Authenticate"); a.Status == 401 && !strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("%s: got the challenge %q with 401, want the one of rescind", row.name, challenge)
			}
		}
	}
	notSpoofed(t, url, "/orders", tokens["good"], "alice")
	if len(f.rows) > 2 {
		notSpoofed(t, url, "/public", "", "")
	}
}

// notSpoofed fails the test if a header of the client under the managed prefix reaches
// the service.
func notSpoofed(t *testing.T, url, path, token, subject string) {
	t.Helper()
	for _, headers := range [][]string{{"x-jwt-subject: root", "x.jwt.subject: root", "x-jwt-admin: root"}, {"X_JWT_Subject: root"}} {
		a := askFrozen(t, url, path, token, headers...)
		if a.Status == http.StatusBadRequest && len(headers) == 1 {
			continue // Envoy Gateway refuses a name with an underscore
		}
		seen, err := a.Seen()
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("%s with %q: got %d %s, want 200 from the service", path, headers, a.Status, a.Body)
		}
		for name, values := range seen.Header {
			if strings.Contains(strings.Join(values, ","), "root") {
				t.Errorf("%s: the service saw %s: %q of the client, want it removed", path, name, values)
			}
		}
		if got := seen.Header.Get("x-jwt-subject"); got != subject {
			t.Errorf("%s: the service saw x-jwt-subject %q, want %q", path, got, subject)
		}
	}
}

// askFrozen sends a request for shop.example.com with a path that no library has
// touched. It fails the test if there is no answer within 20 seconds.
func askFrozen(t *testing.T, url, path, token string, headers ...string) envoytest.Answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		headers = append(headers, "Authorization: Bearer "+token)
	}
	return rawGet(t, conn, path, append(headers, "Host: shop.example.com", "Connection: close"))
}

// thaw runs an Envoy with a frozen file and returns the URL of the listener that asks
// the replica. Of the file only addresses, ports and the names of certificates change.
func (w *rig) thaw(name, replica string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "frozen", name+".json"))
	if err != nil {
		w.t.Fatal(err)
	}
	moved := map[string]string{
		"10.244.0.11:9191": replica, // a pod of rescind-authz
		"10.244.0.12:8080": strings.TrimPrefix(w.upstream.URL, "http://"),
		"127.0.0.1:8081":   strings.TrimPrefix(w.upstream.URL, "http://"), // the service beside its sidecar
	}
	var bootstrap node
	if err := json.Unmarshal(text, &bootstrap); err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	asking := ""
	for _, l := range at(bootstrap, "static_resources", "listeners").([]any) {
		listener := l.(node)
		if listener["address"] != nil {
			listener["address"] = address("127.0.0.1:0")
			chains, _ := listener["filter_chains"].([]any)
			for _, chain := range chains {
				if match, ok := chain.(node)["filter_chain_match"].(node); ok {
					delete(match, "destination_port")
				}
			}
		}
		if text, _ := json.Marshal(l); strings.Contains(string(text), "filters.http.ext_authz.v3.ExtAuthz\"") {
			asking = listener["name"].(string)
		}
	}
	w.move(bootstrap, moved)
	admin := w.file(name + ".admin")
	bootstrap["admin"] = node{"address": address("127.0.0.1:0")}
	bootstrap["node"] = node{"id": name, "cluster": "frozen"}
	envoy := w.run(name, gateway, "-c", w.writeJSON(name+".json", bootstrap), "--disable-hot-restart", "--admin-address-path", admin,
		"--concurrency", "1", "--log-level", "warning", "--drain-time-s", "1")
	urls := map[string]string{}
	eventually.Succeeds(w.t, name+" serves "+asking, func() error {
		if addr, err := os.ReadFile(admin); err == nil {
			w.bound("http://"+string(addr), urls)
		}
		if urls[asking] == "" {
			return fmt.Errorf("Envoy serves %v, its log is\n%s", urls, envoy.text())
		}
		return nil
	})
	return urls[asking]
}

func (w *rig) writeJSON(name string, of node) string {
	w.t.Helper()
	text, err := json.Marshal(of)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.write(name, string(text))
}

// move gives the parts of a bootstrap below x the addresses and files of this test.
func (w *rig) move(x any, addresses map[string]string) {
	switch x := x.(type) {
	case []any:
		for _, v := range x {
			w.move(v, addresses)
		}
	case node:
		if socket, ok := x["socket_address"].(node); ok {
			if to := addresses[fmt.Sprintf("%v:%v", socket["address"], socket["port_value"])]; to != "" {
				x["socket_address"] = address(to)["socket_address"]
			}
		}
		if file, ok := x["filename"].(string); ok && regexp.MustCompile(`^(proxy|ca)\.(pem|key)$`).MatchString(file) {
			x["filename"] = w.file(file)
		}
		for _, v := range x {
			w.move(v, addresses)
		}
	}
}
