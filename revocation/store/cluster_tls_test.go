package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"rescind/test/eventually"
	"rescind/test/syncbuffer"
	"rescind/test/testcert"
)

// mutual returns the TLS of a node whose certificate is from issuer and that
// trusts the nodes of trusted.
func mutual(t *testing.T, name string, issuer, trusted *testcert.Authority) *tls.Config {
	t.Helper()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{issuer.Issue(t, name)},
		RootCAs: trusted.Pool(), ClientCAs: trusted.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// logged is the log of a node.
type logged struct{ syncbuffer.Buffer }

func (l *logged) count(text string) int { return strings.Count(l.String(), text) }

// Three nodes form a cluster over mutual TLS. A node that knows the secret and
// has a certificate of another authority, or none, does not join.
func TestClusterOverMutualTLS(t *testing.T) {
	authority, foreign := testcert.NewAuthority(t, "the cluster's"), testcert.NewAuthority(t, "another")
	options := nodes(t, 3)
	for i := range options {
		options[i].Cluster.TLS = mutual(t, options[i].Cluster.Name, authority, authority)
	}
	var seen logged
	options[0].Logger = slog.New(slog.NewTextHandler(&seen, nil))
	three := start(t, options)
	for i, n := range three {
		if _, err := n.put(t, fmt.Sprint("from node ", i+1)); err != nil {
			t.Fatalf("append to node %d: got %v, want no error", i+1, err)
		}
	}
	last := three[2].Last()
	for i, n := range three {
		eventually.True(t, fmt.Sprintf("node %d reads revision %d", i+1, last), func() bool { return n.Last() >= last })
	}
	// A stranger takes the place of the third node.
	_ = three[2].Close()
	first := three[0].conn.server
	eventually.True(t, "the first node has lost its routes to the third", func() bool { return first.NumRemotes() == 1 })
	for _, c := range []struct {
		name string
		tls  *tls.Config
	}{
		{"a certificate of another authority", mutual(t, "n3", foreign, authority)},
		{"no certificate", &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authority.Pool(), ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}},
		{"no TLS", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			stranger := options[2]
			cluster := *stranger.Cluster
			cluster.TLS = c.tls
			stranger.Cluster, stranger.Dir = &cluster, t.TempDir()
			stranger.Logger = slog.New(slog.DiscardHandler)
			before := seen.count("TLS route handshake error")
			ctx, cancel := context.WithCancel(t.Context())
			opened := make(chan error, 1)
			go func() {
				l, err := Open(ctx, stranger)
				if err == nil {
					_ = l.Close()
				}
				opened <- err
			}()
			eventually.True(t, "a node refuses the stranger twice", func() bool {
				return len(opened) > 0 || seen.count("TLS route handshake error") >= before+2
			})
			if got := first.NumRemotes(); got != 1 {
				t.Errorf("a stranger with %s: the first node has routes to %d nodes, want 1 as before", c.name, got)
			}
			cancel()
			if err := <-opened; !errors.Is(err, errNoMajority) {
				t.Errorf("a node with %s opened the log: %v, want %v", c.name, err, errNoMajority)
			}
		})
	}
	third, err := open(t, options[2])
	if err != nil {
		t.Fatalf("the third node, back with its own certificate: got %v, want it to open", err)
	}
	if got := third.Last(); got < last {
		t.Errorf("the third node reads up to revision %d, want %d", got, last)
	}
}
