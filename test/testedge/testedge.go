// Package testedge runs envoy/envoy-edge.yaml for the time of a test: a whole rescind
// whose replicas have addresses of their own on loopback, one DNS name for all of
// them, and mutual TLS between them and Envoy. The file changes in its addresses, in
// the folder of its certificates and in its DNS resolver alone.
package testedge

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/freeport"
	"rescind/test/testcert"
	"rescind/test/teststack"
)

// The names in the shipped file.
const (
	Host    = "api.example.com"        // of the gateway
	Replica = "authz.rescind.internal" // of every replica
)

// Edge is a running stack behind envoy-edge.yaml.
type Edge struct {
	*envoytest.Stack
	Clients *testcert.Authority // signs the gateway's certificate
	Parts   *testcert.Authority // signs the certificates of Envoy and of the replicas
	Names   *Names              // answers for [Replica]

	t   testing.TB
	dir string // of the certificates
}

// Start runs the stack. Changes are pairs of a text of envoy-edge.yaml and its
// replacement. A text that the file does not have fails the test.
func Start(t testing.TB, o envoytest.Options, changes ...string) *Edge {
	t.Helper()
	e := &Edge{t: t, dir: filepath.Join(o.Dir, "tls"), Clients: testcert.NewAuthority(t, "public"), Parts: testcert.NewAuthority(t, "parts")}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testcert.Replace(t, e.File("ca.crt"), e.Parts.PEM())
	e.IssueEdge()
	e.write("envoy", e.Parts.IssueFor(t, "envoy.rescind.internal"))
	e.IssueReplica(e.Parts, Replica)

	if o.Replicas == 0 {
		o.Replicas = 2
	}
	_, port, err := net.SplitHostPort(freeport.Addrs(t, 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for i := range o.Replicas {
		addrs = append(addrs, fmt.Sprintf("127.0.0.%d", i+1))
		o.ReplicaAddrs = append(o.ReplicaAddrs, net.JoinHostPort(addrs[i], port))
	}
	o.ReplicaGRPC = fmt.Sprintf(", tls: {cert_file: %q, key_file: %q, client_ca_file: %q}", e.File("replica.crt"), e.File("replica.key"), e.File("ca.crt"))
	e.Names = serveNames(t, Replica+".", addrs...)
	for _, name := range []string{"edge.yaml", "envoy.yaml", "replicas.yaml"} {
		text, err := os.ReadFile(shipped("edge-secrets/" + name))
		if err != nil {
			t.Fatal(err)
		}
		testcert.Replace(t, e.File(name), bytes.ReplaceAll(text, []byte("/etc/envoy/tls"), []byte(e.dir)))
	}
	o.Bootstrap = func(s *envoytest.Stack) ([]byte, error) { return e.bootstrap(s, port, changes) }
	e.Stack = teststack.Start(t, o)
	return e
}

// File returns the path of a file in the folder of the certificates.
func (e *Edge) File(name string) string { return filepath.Join(e.dir, name) }

// IssueEdge gives the gateway a new certificate for [Host], and returns it.
func (e *Edge) IssueEdge() tls.Certificate {
	e.t.Helper()
	return e.write("edge", e.Clients.IssueFor(e.t, Host))
}

// IssueReplica gives the replicas a new certificate for a name.
func (e *Edge) IssueReplica(by *testcert.Authority, name string) {
	e.t.Helper()
	e.write("replica", by.IssueFor(e.t, name))
}

// write puts a certificate and its key into the folder. The key is there first,
// because a reader begins when the certificate changes.
func (e *Edge) write(name string, c tls.Certificate) tls.Certificate {
	e.t.Helper()
	cert, key := testcert.PEM(e.t, c)
	testcert.Replace(e.t, e.File(name+".key"), key)
	testcert.Replace(e.t, e.File(name+".crt"), cert)
	return c
}

// bootstrap returns envoy-edge.yaml with the addresses of the stack.
func (e *Edge) bootstrap(s *envoytest.Stack, port string, changes []string) ([]byte, error) {
	file, err := os.ReadFile(shipped("envoy-edge.yaml"))
	if err != nil {
		return nil, err
	}
	text := string(file)
	upstream := strings.Replace(s.UpstreamAddr(), ":", ", port_value: ", 1)
	changes = append([]string{
		"path: /etc/envoy/secrets/", "path: " + e.dir + "/",
		"address: 0.0.0.0, port_value: 443}", "address: 127.0.0.1, port_value: 0}",
		"address: 0.0.0.0, port_value: 80}", "address: 127.0.0.1, port_value: 0}",
		"address: 127.0.0.1, port_value: 9901}", "address: 127.0.0.1, port_value: 0}",
		"address: 127.0.0.1, port_value: 8080}", "address: " + upstream + "}",
		"port_value: 9191}", "port_value: " + port + "}",
		"  layers:\n", "  layers:\n    - {name: admin, admin_layer: {}}\n", // the test sets limits while Envoy runs
	}, changes...)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			return nil, fmt.Errorf("envoy-edge.yaml does not have %q", changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	resolver := strings.Replace(e.Names.addr, ":", ", port_value: ", 1)
	return []byte(text + `
typed_dns_resolver_config:
  name: envoy.network.dns_resolver.cares
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig
    resolvers: [{socket_address: {address: ` + resolver + `}}]
`), nil
}

// shipped returns the path of a file in envoy/, for a test in any folder of the
// repository.
func shipped(name string) string {
	dir := ""
	for range 5 {
		path := filepath.Join(dir, "envoy", name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
		dir = filepath.Join(dir, "..")
	}
	return filepath.Join("envoy", name)
}

// TLS returns the configuration of a client that trusts the gateway's authority.
func (e *Edge) TLS(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: e.Clients.Pool(), ServerName: Host, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// Client returns a client that reaches the gateway under its name, by HTTP/2 or by
// HTTP/1.1 over TLS.
func (e *Edge) Client(http2 bool) *http.Client {
	dialer := &net.Dialer{}
	transport := &http.Transport{
		TLSClientConfig:     e.TLS(),
		ForceAttemptHTTP2:   http2,
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			listener := "https"
			if strings.HasSuffix(addr, ":80") {
				listener = "http"
			}
			return dialer.DialContext(ctx, network, e.Listeners[listener])
		},
	}
	e.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Timeout: 30 * time.Second, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
