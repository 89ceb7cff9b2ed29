package node_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/test/eventually"
	"rescind/test/freeport"
	"rescind/test/testcert"
)

// clusterFile returns the configuration of node i, whose files are in dir.
func clusterFile(dir string, i int, routes []string) string {
	peers := append(append([]string{}, routes[:i]...), routes[i+1:]...)
	return fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
store:
  dir: %q
  cluster:
    name: n%d
    listen: %q
    peers: [%q, %q]
    secret_file: cluster.secret
    tls: {cert_file: n%d.crt, key_file: n%d.key, ca_file: ca.pem}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice")), filepath.Join(dir, fmt.Sprint("data", i)), i, routes[i], peers[0], peers[1], i, i)
}

// Three nodes form a cluster over the TLS of their configuration files, and a
// revocation through one is listed by the others.
func TestClusterWithTLSFiles(t *testing.T) {
	dir, routes := t.TempDir(), freeport.Addrs(t, 3)
	authority := testcert.NewAuthority(t, "cluster")
	testcert.Replace(t, filepath.Join(dir, "ca.pem"), authority.PEM())
	write(t, filepath.Join(dir, "cluster.secret"), "0123456789abcdef\n")
	var nodes []*process
	for i := range routes {
		name := filepath.Join(dir, fmt.Sprint("n", i))
		authority.IssueFiles(t, fmt.Sprint("n", i), name+".crt", name+".key")
		c, err := config.ReadControl(write(t, name+".yaml", clusterFile(dir, i, routes)))
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, start(t, func(ctx context.Context, stderr io.Writer) error {
			return node.Run(ctx, node.Options{Config: c, Version: "test", Stderr: stderr})
		}))
	}
	var admin []string
	for i, n := range nodes {
		admin = append(admin, "http://"+n.listening("admin"))
		eventually.True(t, fmt.Sprintf("node %d is ready", i), func() bool {
			status, _ := ask(t, "GET", admin[i]+"/readyz", "")
			return status == 200
		})
	}
	body := `{"issuer": "https://idp.example.com/", "claims": {"sub": "mallory"}}`
	eventually.Succeeds(t, "a revocation through node 0", func() error {
		if status, text := ask(t, "POST", admin[0]+"/v1/revocations", body); status != 201 && status != 200 {
			return fmt.Errorf("answered with %d: %s", status, text)
		}
		return nil
	})
	for i := range nodes {
		eventually.True(t, fmt.Sprintf("node %d lists the revocation", i), func() bool {
			_, text := ask(t, "GET", admin[i]+"/v1/revocations", "")
			return strings.Contains(text, "mallory")
		})
	}
	for i, addr := range routes {
		if name, err := peerAt(addr, authority.Pool(), authority.Issue(t, "another node")); err != nil || name != fmt.Sprint("n", i) {
			t.Errorf("node %d shows the certificate of %q, %v, want n%d", i, name, err, i)
		}
		if name, err := peerAt(addr, authority.Pool()); err == nil {
			t.Errorf("node %d, as %q, talks to a client without a certificate, want it refused", i, name)
		}
	}
	for _, n := range nodes {
		n.end()
	}
}

// peerAt connects to the route of a node and returns the name in its
// certificate, once the node has sent something.
func peerAt(addr string, trusted *x509.CertPool, own ...tls.Certificate) (string, error) {
	c, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted, Certificates: own})
	if err != nil {
		return "", err
	}
	defer c.Close()
	name := c.ConnectionState().PeerCertificates[0].Subject.CommonName
	_, err = c.Read(make([]byte, 1)) // a client learns only then that it was refused
	return name, err
}
