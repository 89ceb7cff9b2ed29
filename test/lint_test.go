package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// shown is a request that tells a configuration with the fault of a rule from one
// without it.
type shown struct {
	file, good string // of envoy/lint/testdata; good is file where it is empty
	request    string // the path, and header lines behind it
	token      string // none, plain or subject (a token whose subject is alice)
	fault      func(a reply) bool
}

// reply is the answer to a request, and the request that reached the upstream.
type reply struct {
	status int
	header http.Header
	seen   *envoytest.Seen // nil if none did
}

func reached(a reply) bool    { return a.seen != nil }
func notReached(a reply) bool { return a.seen == nil }
func forged(a reply) bool {
	return a.seen != nil && slices.Contains(a.seen.Header["X-Jwt-Subject"], "mallory")
}

// holes are the rules that a real Envoy shows, with rescind behind it. A request
// without a token must not reach the upstream, and one with a plain token must not
// reach the policy reports.
var holes = []shown{
	{file: "fail-open", request: "/", fault: reached},
	{file: "status-on-error", request: "/", fault: func(a reply) bool { return a.status == http.StatusOK && a.seen == nil }},
	{file: "clear-route-cache", request: "/", token: "plain", fault: func(a reply) bool { return a.header.Get("X-Policy") == "reports" }},
	{file: "http-service", request: "/", token: "plain", fault: notReached},
	{file: "check-disabled", good: "normalize-path", request: "/public/x\nAuthorization: Bearer forged", fault: reached},
	{file: "check-disabled-host", good: "normalize-path", request: "/", fault: reached},
	{file: "check-disabled-filter", request: "/", fault: reached},
	{file: "check-disabled-exact", good: "normalize-path", request: "/public\nAuthorization: Bearer forged", fault: reached},
	{file: "check-conditional", request: "/", fault: reached},
	{file: "check-conditional-metadata", good: "normalize-path", request: "/", fault: reached},
	{file: "per-route-name", request: "/reports/x", token: "plain", fault: reached},
	{file: "unchecked-listener", request: "/healthz/x", fault: reached},
	{file: "unknown-policy", request: "/public/x", token: "plain", fault: notReached},
	{file: "normalize-path", request: "/public/../orders/x", fault: reached},
	{file: "merge-slashes", request: "//reports/x", token: "plain", fault: reached},
	{file: "escaped-slashes", request: "/public/..%2forders/x", fault: reached},
	{file: "path-parameters", request: "/public/%2e%2e;/orders/x", fault: reached},
	{file: "regex-case", request: "/Reports/x", token: "plain", fault: reached},
	{file: "cors-after-check", request: "OPTIONS /\nOrigin: https://app.example.com\nAccess-Control-Request-Method: GET", fault: func(a reply) bool { return a.status == http.StatusUnauthorized }},
	{file: "jwt-authn-before-check", request: "/", token: "plain", fault: notReached},
	{file: "cache-before-check", request: "/cached", fault: func(a reply) bool { return a.status == http.StatusOK }},
	{file: "changed-after-check", request: "/", token: "plain", fault: forged},
	{file: "managed-header-set", request: "/\nX-User: mallory", token: "plain", fault: forged},
	{file: "managed-header-set-mutation", good: "managed-header-set", request: "/\nX-User: mallory", token: "plain", fault: forged},
	{file: "allowed-headers", request: "/\nx.jwt.subject: mallory", token: "plain", fault: func(a reply) bool { return a.seen != nil && len(a.seen.Header["X.jwt.subject"]) > 0 }},
	{file: "allowed-headers-token", request: "/", token: "plain", fault: notReached},
	{file: "headers-not-stripped", request: "/public\nX-Jwt-Subject: mallory", fault: forged},
	{file: "cluster-missing", good: "normalize-path", request: "/", token: "plain", fault: notReached},
	{file: "no-check", request: "/", fault: reached},
	{file: "no-http2", request: "/", token: "plain", fault: notReached},
	{file: "module-alone-everywhere", good: "module-alone", request: "/", fault: reached},
	{file: "module-condition", request: "/", fault: reached},
	{file: "policy-not-sent", request: "/public/x", fault: notReached},
	{file: "two-policies-without", good: "two-policies", request: "/public/x", fault: notReached},
}

// Every rule whose fault a request can show is shown by a real Envoy: the bad file has
// the fault, and the good one has not.
func TestLintRulesInEnvoy(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	w := newRig(t, envoytest.Options{Replicas: 1})
	module, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	w.module = module
	w.upstream.Close()
	w.upstream = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "public, max-age=600")
		_ = json.NewEncoder(rw).Encode(envoytest.Seen{Path: r.URL.Path, Header: r.Header})
	}))
	t.Cleanup(w.upstream.Close)
	replica := w.replica("lint", w.config("lint", "{listen: 127.0.0.1:0}", "    audiences: [api]",
		"policies: {public: {token: optional}, reports: {scopes: [reports:read]}, default: {tokens_from: [{header: authorization}, {cookie: session}]}}\n"))
	added := map[string]bool{}
	for _, h := range holes {
		for _, name := range []string{"bad/" + h.file, "good/" + h.goodFile()} {
			if !added[name] {
				added[name] = true
				w.add(name, replica.addr("grpc"))
			}
		}
	}
	urls, plain := w.envoy(), minted(t, w.Stack, map[string]any{"sub": "alice"})
	eventually.True(t, "a gateway answers 401", func() bool {
		return w.send(urls["good/normalize-path"], "/", "").status == http.StatusUnauthorized
	})
	for _, h := range holes {
		for folder, want := range map[string]bool{"bad/" + h.file: true, "good/" + h.goodFile(): false} {
			url := urls[folder]
			if other, there := urls[folder+" health"]; there {
				url = other
			}
			token := ""
			if h.token != "" {
				token = plain
			}
			if h.file == "cache-before-check" { // somebody with a token has asked before
				w.send(url, "/cached\nCookie: session="+plain, "")
			}
			a := w.send(url, h.request, token)
			for range 50 { // a fault by chance
				if h.file == "check-conditional" && want && !h.fault(a) {
					a = w.send(url, h.request, token)
				}
			}
			if h.fault(a) != want {
				t.Errorf("%s, %q: the fault shows: %t (status %d, upstream reached %t), want %t", folder, h.request, !want, a.status, a.seen != nil, want)
			}
		}
	}
	w.lintDump(w.AdminURL)
	admin, err := os.ReadFile(w.file("envoy.admin"))
	if err != nil {
		t.Fatal(err)
	}
	w.lintDump("http://"+string(admin), "fail-open", "check-disabled", "unchecked-listener", "cache-before-check", "cluster-missing", "escaped-slashes", "module-alone", "policy-not-sent", "two-policies")
}

// The dump of a running Envoy is read like its files. The one of the shipped
// configuration is clean, and the one of the bad files has their faults.
func (w *rig) lintDump(admin string, want ...string) {
	w.t.Helper()
	dump := w.get(http.DefaultClient, admin+"/config_dump", "")
	cmd := exec.Command(rescind, "lint", "-o", "json", "--fail-on", "none", "-")
	cmd.Stdin = bytes.NewReader(dump.Body)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("rescind lint of %d bytes of a dump: got %v\n%s\nwant findings", len(dump.Body), err, out)
	}
	var findings struct{ Findings []struct{ Rule string } }
	if err := json.Unmarshal(out, &findings); err != nil {
		w.t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range findings.Findings {
		found[f.Rule] = true
	}
	for _, rule := range want {
		if !found[rule] {
			w.t.Errorf("rescind lint of the dump: got no finding of %s, want one\n%s", rule, out)
		}
	}
	if len(want) == 0 && len(found) > 0 {
		w.t.Errorf("rescind lint of the dump: got\n%s\nwant no finding", out)
	}
}

func (h shown) goodFile() string {
	if h.good != "" {
		return h.good
	}
	return h.file
}

// add adds the listeners of a file of the linter's to the Envoy, with the addresses of
// the rig.
func (w *rig) add(name, replica string) {
	w.t.Helper()
	text, err := os.ReadFile("../envoy/lint/testdata/" + name + ".yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	keys := w.get(http.DefaultClient, w.Issuer.URL()+"/jwks", "")
	changed := strings.NewReplacer("https://idp.example.com/", w.Issuer.URL(), `{"keys": []}`, strings.TrimSpace(string(keys.Body)), "cluster_name: rescind}", "cluster_name: rescind "+name+"}", "cluster: rescind,", "cluster: rescind "+name+",").Replace(string(text))
	var n node
	if err := yaml.Unmarshal([]byte(changed), &n); err != nil {
		w.t.Fatal(err)
	}
	cluster := at(n, "static_resources", "clusters", 0).(node)
	cluster["name"] = "rescind " + name
	if strings.HasSuffix(name, "fail-open") || strings.HasSuffix(name, "status-on-error") {
		replica = freeport.Addrs(w.t, 1)[0] // nobody answers there
	}
	at(cluster, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint").(node)["address"] = address(replica)
	w.clusters = append(w.clusters, cluster)
	for _, l := range at(n, "static_resources", "listeners").([]any) {
		listener := l.(node)
		if listener["name"] == "gateway" {
			listener["name"] = name
		} else {
			listener["name"] = name + " " + listener["name"].(string)
		}
		listener["address"] = address("127.0.0.1:0")
		for _, r := range at(connectionManager(listener), "route_config", "virtual_hosts", 0, "routes").([]any) {
			route := r.(node)
			if text := fmt.Sprint(route); strings.Contains(text, "policy:reports") {
				route["response_headers_to_add"] = []any{node{"header": node{"key": "x-policy", "value": "reports"}}}
			}
		}
		w.listeners = append(w.listeners, listener)
	}
}

// send sends a request whose path no library has touched. Its first line is the path,
// perhaps with a method before it, and the others are headers.
func (w *rig) send(url, request, token string) (a reply) {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	first, headers, _ := strings.Cut(request, "\n")
	if method, path, found := strings.Cut(first, " "); found {
		first = method + " " + path
	} else {
		first = "GET " + first
	}
	lines := []string{first + " HTTP/1.1", "Host: localhost", "Connection: close"}
	if headers != "" {
		lines = append(lines, strings.Split(headers, "\n")...)
	}
	if token != "" {
		lines = append(lines, "Authorization: Bearer "+token)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatalf("%s %s: got %v, want an answer", url, request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: got %v, want a body", url, request, err)
	}
	a.status, a.header = res.StatusCode, res.Header
	var seen envoytest.Seen
	if json.Unmarshal(body, &seen) == nil && seen.Path != "" {
		a.seen = &seen
	}
	return a
}

// Envoy itself refuses the files of these rules.
func TestLintRulesThatEnvoyRefuses(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	needEnvoy(t)
	for _, name := range []string{"bad/api-version", "bad/unknown-field", "good/normalize-path"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(gateway, "--mode", "validate", "--disable-hot-restart", "-c", "../envoy/lint/testdata/"+name+".yaml").CombinedOutput()
			if refused, want := err != nil, strings.HasPrefix(name, "bad/"); refused != want {
				t.Errorf("%s: Envoy refuses it: %t, want %t\n%s", name, refused, want, out)
			}
		})
	}
}
