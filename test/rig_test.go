package test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/testcert"
)

// rig adds servers to a stack: replicas with configurations of their own, on the
// feed of the stack, and a second Envoy with a gateway for each of them.
type rig struct {
	*envoytest.Stack
	t        *testing.T
	dir      string
	ca       *testcert.Authority
	upstream *httptest.Server // answers with the request that it received

	listeners, clusters []any // of the Envoy
	change              func(bootstrap node)
	module              string // the folder of librescind.so; empty: none
	edge                *child
}

func newRig(t *testing.T, o envoytest.Options) *rig {
	t.Helper()
	w := &rig{Stack: start(t, o), t: t, dir: t.TempDir()}
	w.ca = testcert.NewAuthority(t, "ca")
	testcert.Replace(t, w.file("ca.pem"), w.ca.PEM())
	w.upstream = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(envoytest.Seen{Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header})
	}))
	t.Cleanup(w.upstream.Close)
	return w
}

func (w *rig) file(name string) string { return filepath.Join(w.dir, name) }

func (w *rig) write(name, text string) string {
	w.t.Helper()
	path := w.file(name)
	testcert.Replace(w.t, path, []byte(text))
	return path
}

// child is a process of the test. Its log is a file.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	log string
}

func (w *rig) run(name string, argv ...string) *child {
	w.t.Helper()
	c := &child{t: w.t, cmd: exec.Command(argv[0], argv[1:]...), log: w.file(name + ".log")}
	log, err := os.Create(c.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			text := c.text()
			w.t.Logf("== %s\n%s", name, text[max(0, len(text)-3000):])
		}
		_ = c.stop()
	})
	return c
}

func (c *child) text() string {
	text, _ := os.ReadFile(c.log)
	return string(text)
}

// said waits until the log matches, and returns the last submatch.
func (c *child) said(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	eventually.Succeeds(t, "the log matches "+pattern, func() error {
		if found = re.FindStringSubmatch(c.text()); found == nil {
			return fmt.Errorf("the log of %s is\n%s", c.cmd, c.text())
		}
		return nil
	})
	return found[len(found)-1]
}

// stop drains the process and returns its exit status.
func (c *child) stop() int {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		_ = c.cmd.Wait()
	}
	return c.cmd.ProcessState.ExitCode()
}

// config returns the configuration of a replica on the feed of the stack. grpc is
// the section of that name, in braces. issuer continues the issuer, and rest the
// top level.
func (w *rig) config(name, grpc, issuer, rest string) string {
	w.t.Helper()
	known, err := os.ReadFile(filepath.Join(w.Dir, envoytest.ReplicaName(0)+".yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	feed := regexp.MustCompile(`(?m)^  (control|token_file): .*$`).FindAllString(string(known), -1)
	return fmt.Sprintf("grpc: %s\nhttp: {listen: 127.0.0.1:0}\nissuers:\n  - issuer: %q\n    discovery: true\n    min_refresh_interval: 1s\n%s\nrevocation:\n%s\n  name: %s\n%s",
		grpc, w.Issuer.URL(), issuer, strings.Join(feed, "\n"), name, rest)
}

// replica runs one and waits until it is ready.
func (w *rig) replica(name, config string) *child {
	w.t.Helper()
	c := w.run(name, rescind, "authz", "--config", w.write(name+".yaml", config))
	ready := "http://" + c.addr("http") + "/readyz"
	eventually.Succeeds(w.t, name+" is ready", func() error {
		res, err := http.Get(ready)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
	return c
}

// addr returns the address of a replica's listener of this name.
func (c *child) addr(name string) string {
	c.t.Helper()
	return c.said(c.t, `"msg":"listening","name":"`+name+`","addr":"([^"]+)"`)
}

// node is an object of Envoy's configuration.
type node = map[string]any

// at goes down a path of keys and indices.
func at(of any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			of = of.(node)[step]
		case int:
			of = of.([]any)[step]
		}
	}
	return of
}

// shipped returns a copy of envoy.yaml that the caller may change.
func (w *rig) shipped() node {
	w.t.Helper()
	text, err := os.ReadFile("../envoy/envoy.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	var n node
	if err := yaml.Unmarshal(text, &n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func address(hostPort string) node {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		panic(err)
	}
	return node{"socket_address": node{"address": host, "port_value": json.Number(port)}}
}

// gateway adds the shipped listener and its cluster to the Envoy, asking the
// replica at addr. change may change both.
func (w *rig) gateway(name, addr string, change func(listener, cluster node)) {
	w.t.Helper()
	n := w.shipped()
	listener, cluster := at(n, "static_resources", "listeners", 0).(node), at(n, "static_resources", "clusters", 0).(node)
	listener["name"], cluster["name"] = name, "rescind-"+name
	listener["address"] = address("127.0.0.1:0")
	log := at(connectionManager(listener), "access_log", 0, "typed_config", "log_format", "json_format").(node)
	log["flags"], log["took"] = "%RESPONSE_FLAGS%", "%DURATION%"
	at(filterOf(listener), "typed_config", "grpc_service", "envoy_grpc").(node)["cluster_name"] = cluster["name"]
	at(cluster, "load_assignment").(node)["cluster_name"] = cluster["name"]
	endpoint := at(cluster, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint").(node)
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		endpoint["address"] = node{"pipe": node{"path": path}}
	} else {
		endpoint["address"] = address(addr)
	}
	if change != nil {
		change(listener, cluster)
	}
	w.listeners, w.clusters = append(w.listeners, listener), append(w.clusters, cluster)
}

// connectionManager returns the configuration of a listener's HTTP filter chain.
func connectionManager(listener node) node {
	return at(listener, "filter_chains", 0, "filters", 0, "typed_config").(node)
}

// filterOf returns the ext_authz filter of a listener.
func filterOf(listener node) node {
	for _, f := range at(connectionManager(listener), "http_filters").([]any) {
		if f.(node)["name"] == "envoy.filters.http.ext_authz" {
			return f.(node)
		}
	}
	panic("envoy.yaml has no ext_authz filter")
}

func transport(typ string, of node) node {
	config := node{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3." + typ}
	maps.Copy(config, of)
	return node{"name": "envoy.transport_sockets.tls", "typed_config": config}
}

// envoy runs the Envoy and returns the URLs of its gateways, by name.
func (w *rig) envoy() map[string]string {
	w.t.Helper()
	n := w.shipped()
	resources := at(n, "static_resources").(node)
	upstream := at(resources, "clusters", 1).(node)
	at(upstream, "load_assignment", "endpoints", 0, "lb_endpoints", 0, "endpoint").(node)["address"] = address(strings.TrimPrefix(w.upstream.URL, "http://"))
	resources["listeners"], resources["clusters"] = w.listeners, append(w.clusters, upstream)
	n["admin"] = node{"address": address("127.0.0.1:0")}
	if w.change != nil {
		w.change(n)
	}
	text, err := json.Marshal(n)
	if err != nil {
		w.t.Fatal(err)
	}
	admin := w.file("envoy.admin")
	w.edge = w.run("envoy", "env", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+w.module, gateway, "-c", w.write("envoy.json", string(text)), "--disable-hot-restart", "--admin-address-path", admin,
		"--concurrency", "2", "--log-level", "warning", "--base-id", "0", "--drain-time-s", "1", "--file-flush-interval-msec", "200")
	urls := map[string]string{}
	eventually.Succeeds(w.t, fmt.Sprintf("Envoy serves %d listeners", len(w.listeners)), func() error {
		if addr, err := os.ReadFile(admin); err == nil {
			w.bound("http://"+string(addr), urls)
		}
		if len(urls) != len(w.listeners) {
			return fmt.Errorf("Envoy serves %v, its log is\n%s", urls, w.edge.text())
		}
		return nil
	})
	return urls
}

// nothingLost fails the test if a request was lost, and shows Envoy's log of it.
func (w *rig) nothingLost(t *testing.T, sent int, lost []error) {
	t.Helper()
	if len(lost) == 0 && sent >= 20 {
		return
	}
	time.Sleep(2 * time.Second) // Envoy writes its log five times a second
	said := regexp.MustCompile(`(?m)^.*"status":503.*$`).FindAllString(w.edge.text(), -1)
	t.Errorf("wanted at least 20 requests, none lost; %d of %d lost: %v\n%s", len(lost), sent, lost[:min(3, len(lost))], strings.Join(said[max(0, len(said)-5):], "\n"))
}

// bound fills in the URLs of the listeners that Envoy has bound, once every cluster
// has an endpoint.
func (w *rig) bound(admin string, urls map[string]string) {
	var status struct {
		Listeners []struct {
			Name  string `json:"name"`
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	for _, path := range []string{"/ready", "/listeners?format=json"} {
		res, err := http.Get(admin + path)
		if err != nil || res.StatusCode != http.StatusOK {
			return
		}
		if path != "/ready" {
			_ = json.NewDecoder(res.Body).Decode(&status)
		}
		res.Body.Close()
	}
	for _, l := range status.Listeners {
		urls[l.Name] = fmt.Sprintf("http://%s:%d", l.Local.Socket.Address, l.Local.Socket.Port)
	}
}

// get sends a request to a gateway of the rig.
func (w *rig) get(c *http.Client, url, token string, headers ...string) envoytest.Answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = append(req.Header[headers[i]], headers[i+1])
	}
	a, err := do(c, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func do(c *http.Client, req *http.Request) (envoytest.Answer, error) {
	res, err := c.Do(req)
	if err != nil {
		return envoytest.Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return envoytest.Answer{Status: res.StatusCode, Header: res.Header, Body: body}, err
}

// hammer asks without a pause, from several goroutines, until stop is called. stop
// returns the number of requests and the errors of the lost ones.
func hammer(ask func() error) (stop func() (sent int, lost []error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var all sync.WaitGroup
	sent, lost := 0, []error(nil)
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				err := ask()
				mu.Lock()
				if sent++; err != nil {
					lost = append(lost, err)
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, []error) { cancel(); all.Wait(); return sent, lost }
}

// issue writes NAME.pem and NAME.key, signed by the rig's authority, and returns
// the certificate too.
func (w *rig) issue(name string) tls.Certificate {
	w.t.Helper()
	return w.ca.IssueFiles(w.t, name, w.file(name+".pem"), w.file(name+".key"))
}

// thumbprint returns the x5t#S256 of a certificate.
func thumbprint(c tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// fingerprint returns the Hash of a certificate in x-forwarded-client-cert.
func fingerprint(c tls.Certificate) string {
	return fmt.Sprintf("%x", sha256.Sum256(c.Certificate[0]))
}
