package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/renameio/v2"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// moduleDir returns a folder with the module, which is built once.
var moduleDir = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "module")
	return dir, makeModule("../envoy/module", dir)
})

// makeModule builds the module from its sources into a folder.
func makeModule(sources, to string) error {
	if out, err := exec.Command("make", "-s", "-C", sources, "OUT="+to).CombinedOutput(); err != nil {
		return fmt.Errorf("make: %w\n%s", err, out)
	}
	return nil
}

// moduleRig is a stack with one replica and one Envoy, which has the module in front
// of several ways to authorize a request. Envoy reads its listeners from a file.
type moduleRig struct {
	*envoytest.Stack
	t     *testing.T
	addrs map[string]string // of the listeners below
	file  string            // with the listeners
	now   []any             // the listeners as they are in the file
}

// The listeners of a moduleRig. Each but marked has the shipped filters, with the
// differences that stand beside it.
const (
	inFront       = "gateway" // no access log
	logged        = "logged"  // the access log has all metadata
	withoutModule = "asks"    // as logged, without the module
	alone         = "alone"   // ext_authz has no server, so a 200 is the module's
	marked        = "marked"  // as alone, and filters before the module say that each request is known
)

// in returns the rig for a part of its test.
func (g *moduleRig) in(t *testing.T) *moduleRig {
	part := *g
	part.t = t
	return &part
}

// startModuleRig starts a rig. The replica leaves no known request to ext_authz, so a
// token stays known from one request to the next.
func startModuleRig(t *testing.T, workers int) *moduleRig {
	t.Helper()
	needEnvoy(t)
	dir, err := moduleDir()
	if err != nil {
		t.Fatal(err)
	}
	g := &moduleRig{t: t, addrs: map[string]string{}}
	names := []string{inFront, logged, withoutModule, alone, marked}
	for i, addr := range freeport.Addrs(t, len(names)) {
		g.addrs[names[i]] = addr
	}
	behind := startPlainUpstream(t)
	g.Stack = start(t, envoytest.Options{Replicas: 1, Module: dir, Known: ", audit: 0", Workers: workers, Bootstrap: func(s *envoytest.Stack) ([]byte, error) {
		return g.bootstrap(s, behind, names)
	}})
	return g
}

// bootstrap returns the shipped configuration with the listeners of the rig.
func (g *moduleRig) bootstrap(s *envoytest.Stack, behind string, names []string) ([]byte, error) {
	g.now = nil
	var n node
	for _, name := range names {
		var err error
		if n, err = shippedBy(s); err != nil {
			return nil, err
		}
		g.now = append(g.now, g.listener(name, at(n, "static_resources", "listeners", 0).(node)))
	}
	clusters := at(n, "static_resources", "clusters").([]any)
	at(clusters[1], "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint").(node)["address"] = address(behind)
	n["static_resources"] = node{"clusters": append(clusters, node{"name": "nobody", "type": "STATIC", "load_assignment": node{"cluster_name": "nobody"}})}
	n["node"] = node{"id": "edge", "cluster": "edge"}
	g.file = filepath.Join(s.Dir, "listeners.json")
	n["dynamic_resources"] = node{"lds_config": node{"resource_api_version": "V3", "path_config_source": node{"path": g.file}}}
	if err := g.writeListeners(); err != nil {
		return nil, err
	}
	return json.Marshal(n)
}

// shippedBy returns a copy of the configuration that a stack ships, which the caller may
// change.
func shippedBy(s *envoytest.Stack) (n node, err error) {
	text, err := s.Shipped()
	if err != nil {
		return nil, err
	}
	err = yaml.Unmarshal(text, &n)
	return n, err
}

// listener changes the shipped listener into the one of this name.
func (g *moduleRig) listener(name string, l node) node {
	l["@type"], l["name"], l["address"] = "type.googleapis.com/envoy.config.listener.v3.Listener", name, address(g.addrs[name])
	manager := connectionManager(l)
	routes := at(manager, "route_config", "virtual_hosts", 0).(node)
	routes["routes"] = append(moreRoutes(), routes["routes"].([]any)...)
	if name == logged || name == withoutModule {
		format := at(manager, "access_log", 0, "typed_config", "log_format", "json_format").(node)
		format["target"], format["known"], format["metadata"] = "%REQ(:PATH)%", "%DYNAMIC_METADATA(rescind:known)%", "%DYNAMIC_METADATA(envoy.filters.http.ext_authz)%"
	} else {
		delete(manager, "access_log")
	}
	var filters []any
	if name == marked {
		filters = append(filters, marksAsKnown(), readsMark())
	}
	for _, f := range manager["http_filters"].([]any) {
		if name != withoutModule || f.(node)["name"] != "rescind" {
			filters = append(filters, f)
		}
	}
	manager["http_filters"] = filters
	if name == alone || name == marked {
		at(filterOf(l), "typed_config", "grpc_service", "envoy_grpc").(node)["cluster_name"] = "nobody"
	}
	return l
}

// moreRoutes returns routes whose policies are faulty, missing, or change on the way.
func moreRoutes() []any {
	route := func(path string, more node) node {
		r := node{"match": node{"prefix": path}, "route": node{"cluster": "upstream"}}
		maps.Copy(r, more)
		return r
	}
	names := func(policy any) node { return node{"filter_metadata": node{"rescind": node{"policy": policy}}} }
	return []any{
		route("/no-policy", nil),
		route("/unknown-policy", node{"metadata": names("other")}),
		route("/number", node{"metadata": names(7)}),
		route("/known-in-metadata", node{"metadata": node{"filter_metadata": node{"rescind": node{"known": true}}}}),
		route("/two-policies", node{"metadata": names("default"), "typed_per_filter_config": node{"envoy.filters.http.ext_authz": node{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "check_settings": node{"context_extensions": node{"policy": "reports"}},
		}}}),
		route("/redirect", node{"metadata": names("default"), "route": node{"cluster": "upstream", "internal_redirect_policy": node{"max_internal_redirects": 1}}}),
	}
}

// marksAsKnown returns a filter that says of each request that it is known.
func marksAsKnown() node {
	return node{"name": "envoy.filters.http.set_metadata", "typed_config": node{
		"@type":    "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
		"metadata": []any{node{"metadata_namespace": "rescind", "value": node{"known": true, "policy": "default"}, "allow_overwrite": true}},
	}}
}

// readsMark returns a filter that takes the mark from a header of the client.
func readsMark() node {
	return node{"name": "envoy.filters.http.header_to_metadata", "typed_config": node{
		"@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
		"request_rules": []any{node{"header": "x-known", "on_header_present": node{
			"metadata_namespace": "rescind", "key": "known", "type": "PROTOBUF_VALUE", "encode": "BASE64",
		}}},
	}}
}

// writeListeners writes the file of the listeners, and Envoy takes them over.
func (g *moduleRig) writeListeners() error {
	text, err := json.Marshal(node{"resources": g.now})
	if err != nil {
		return err
	}
	return renameio.WriteFile(g.file, text, 0o600)
}

// startPlainUpstream starts a service that answers with the header of each request as
// it came. It sends a request for /redirect to the target that the query names.
func startPlainUpstream(t *testing.T) (addr string) {
	t.Helper()
	return accepting(t, answerPlainly)
}

// accepting returns the address of a service that gives each connection to serve, on a
// goroutine of its own. serve closes the connection.
func accepting(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

func answerPlainly(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var head strings.Builder
		first := ""
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
			if first == "" {
				first = line
				continue
			}
			head.WriteString(line)
		}
		status := "200 OK"
		if _, to, ok := strings.Cut(strings.Fields(first)[1], "/redirect?to="); ok {
			status = "302 Found\r\nLocation: http://gateway" + to
		}
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, head.Len(), head.String()); err != nil {
			return
		}
	}
}

// status returns the status of the answer of a listener to a request.
func (g *moduleRig) status(listener, target, token string, headers ...string) int {
	g.t.Helper()
	return g.raw(listener, target, append([]string{"Authorization: Bearer " + token}, headers...)).Status
}

// raw sends a request with these header lines to a listener, over a connection of its
// own.
func (g *moduleRig) raw(listener, target string, headers []string) envoytest.Answer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.addrs[listener])
	if err != nil {
		g.t.Fatal(err)
	}
	return rawGet(g.t, conn, target, append([]string{"Host: gateway"}, headers...))
}

// makeKnown uses a token until Envoy answers for it without ext_authz.
func (g *moduleRig) makeKnown(token, target string) {
	g.t.Helper()
	eventually.Succeeds(g.t, "Envoy answers by itself", func() error {
		asked, answered := g.status(inFront, target, token), g.status(alone, target, token)
		if asked != http.StatusOK || answered != http.StatusOK {
			return fmt.Errorf("with ext_authz the answer is %d, and without %d", asked, answered)
		}
		return nil
	})
}

// figure returns a metric of the replica, by its name with labels.
func (g *moduleRig) figure(name string) string {
	g.t.Helper()
	for line := range strings.Lines(replicaMetrics(g.t, g.Stack)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
