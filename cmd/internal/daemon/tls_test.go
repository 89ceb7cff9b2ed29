package daemon

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/test/testcert"
)

// shake makes a connection over a pipe, so that it works under synctest, and
// says something over it: a client learns only then that it was refused.
func shake(t *testing.T, server, client *tls.Config) (c *tls.Conn, name string, err error) {
	t.Helper()
	a, b := net.Pipe()
	queue := queued{a, make(chan []byte, 100)}
	go queue.flush()
	far := tls.Server(queue, server)
	go func() {
		_, _ = io.Copy(far, far)
		close(queue.parts)
	}()
	c = tls.Client(b, client)
	if err := echo(c); err != nil {
		return c, "", err
	}
	return c, c.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func echo(c *tls.Conn) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}

// queued is an end of a pipe with room: a server sends its tickets before the
// client listens for them.
type queued struct {
	net.Conn
	parts chan []byte
}

func (q queued) Write(b []byte) (int, error) {
	q.parts <- slices.Clone(b)
	return len(b), nil
}

func (q queued) flush() {
	for b := range q.parts {
		_, _ = q.Conn.Write(b)
	}
	_ = q.Close()
}

type tlsFiles struct{ cert, key, ca string }

func newTLSFiles(t *testing.T) tlsFiles {
	dir := t.TempDir()
	return tlsFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
}

func TestCertificateRotation(t *testing.T) {
	f := newTLSFiles(t)
	a := testcert.NewAuthority(t, "ca")
	a.IssueFiles(t, "first", f.cert, f.key)
	testcert.Replace(t, f.ca, a.PEM())
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&b, nil))
		server, err := ServerTLS(f.cert, f.key, "", logger)
		if err != nil {
			t.Fatal(err)
		}
		client, err := ClientTLS(f.ca, "", "", "localhost", nil)()
		if err != nil {
			t.Fatal(err)
		}
		presents := func(want string) *tls.Conn {
			t.Helper()
			c, name, err := shake(t, server, client)
			if err != nil || name != want {
				t.Fatalf("presents %q, want %q: %v", name, want, err)
			}
			return c
		}
		live := presents("first")
		defer live.Close()
		time.Sleep(2 * recheck)

		a.IssueFiles(t, "second", f.cert, "") // the key comes later
		presents("first").Close()
		time.Sleep(2 * recheck)
		presents("first").Close()
		if n := strings.Count(b.String(), "faulty"); n != 1 {
			t.Errorf("a certificate without its key: got %d lines that say faulty, want 1:\n%s", n, b.String())
		}
		a.IssueFiles(t, "third", f.cert, f.key)
		presents("first").Close() // looked at less than a second ago
		time.Sleep(2 * recheck)
		presents("third").Close()
		if err := os.Remove(f.key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * recheck)
		presents("third").Close()
		time.Sleep(2 * recheck)
		presents("third").Close()
		if n := strings.Count(b.String(), "faulty"); n != 2 {
			t.Errorf("a missing key: got %d more lines that say faulty, want 1:\n%s", n-1, b.String())
		}
		a.IssueFiles(t, "fourth", f.cert, f.key)
		time.Sleep(2 * recheck)
		presents("fourth").Close()
		if err := echo(live); err != nil {
			t.Errorf("a connection older than the rotation: got %v, want nil", err)
		}
	})
}

func TestClientAuthorities(t *testing.T) {
	f, old, fresh := newTLSFiles(t), newTLSFiles(t), newTLSFiles(t)
	a, b := testcert.NewAuthority(t, "a"), testcert.NewAuthority(t, "b")
	a.IssueFiles(t, "server", f.cert, f.key)
	testcert.Replace(t, f.ca, a.PEM())
	a.IssueFiles(t, "old client", old.cert, old.key)
	b.IssueFiles(t, "new client", fresh.cert, fresh.key)
	testcert.Replace(t, old.ca, a.PEM())
	synctest.Test(t, func(t *testing.T) {
		server, err := ServerTLS(f.cert, f.key, f.ca, nil)
		if err != nil {
			t.Fatal(err)
		}
		client := func(cert, key string) *tls.Config {
			c, err := ClientTLS(old.ca, cert, key, "localhost", nil)()
			if err != nil {
				t.Fatal(err)
			}
			c.ClientSessionCache = tls.NewLRUClientSessionCache(8) // resuming must not help
			return c
		}
		first, second, none := client(old.cert, old.key), client(fresh.cert, fresh.key), client("", "")
		check := func(when string, firstOK, secondOK bool) {
			t.Helper()
			for _, c := range []struct {
				name   string
				config *tls.Config
				ok     bool
			}{{"old", first, firstOK}, {"new", second, secondOK}, {"no", none, false}} {
				conn, _, err := shake(t, server, c.config)
				if (err == nil) != c.ok {
					t.Errorf("%s, with the %s certificate: got %v, want accepted %v", when, c.name, err, c.ok)
				}
				_ = conn.Close()
			}
		}
		check("at first", true, false)
		check("resumed", true, false)
		testcert.Replace(t, f.ca, b.PEM())
		time.Sleep(2 * recheck)
		check("after the change", false, true)
		testcert.Replace(t, f.ca, []byte("nothing"))
		time.Sleep(2 * recheck)
		check("with a faulty file", false, true)
	})
}

func TestClientCertificateRotation(t *testing.T) {
	f, mine := newTLSFiles(t), newTLSFiles(t)
	a := testcert.NewAuthority(t, "ca")
	a.IssueFiles(t, "server", f.cert, f.key)
	testcert.Replace(t, f.ca, a.PEM())
	a.IssueFiles(t, "first", mine.cert, mine.key)
	synctest.Test(t, func(t *testing.T) {
		config := ClientTLS(f.ca, mine.cert, mine.key, "localhost", nil)
		presented := func() string {
			c, err := config()
			if err != nil {
				t.Fatal(err)
			}
			return c.Certificates[0].Leaf.Subject.CommonName
		}
		if got := presented(); got != "first" {
			t.Errorf("at first the client presents %q, want first", got)
		}
		a.IssueFiles(t, "second", mine.cert, mine.key)
		time.Sleep(recheck)
		if got := presented(); got != "second" {
			t.Errorf("after the rotation the client presents %q, want second", got)
		}
		testcert.Replace(t, mine.cert, []byte("half"))
		time.Sleep(recheck)
		if got := presented(); got != "second" {
			t.Errorf("with a faulty file the client presents %q, want second still", got)
		}
	})
}

func TestTLSFaultsNameTheFile(t *testing.T) {
	f := newTLSFiles(t)
	a := testcert.NewAuthority(t, "ca")
	a.IssueFiles(t, "server", f.cert, f.key)
	testcert.Replace(t, f.ca, []byte("nothing"))
	for _, c := range []struct{ cert, key, ca, want string }{
		{f.cert, f.key, f.ca, f.ca + " has no certificate"},
		{f.cert, f.key, f.ca + ".not", f.ca + ".not: no such file"},
		{f.ca, f.key, "", "certificate " + f.ca},
		{f.cert, "", "", "cert_file and key_file"},
		{"", "", f.ca, "cert_file and key_file"},
	} {
		if _, err := ServerTLS(c.cert, c.key, c.ca, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a server with %+v: got %v, want an error with %q", c, err, c.want)
		}
	}
	for _, c := range []struct{ ca, cert, key, want string }{
		{f.ca, "", "", f.ca + " has no certificate"},
		{"", f.cert, "", "a certificate and its key come together"},
		{"", f.cert, f.ca, "certificate " + f.cert},
	} {
		config := ClientTLS(c.ca, c.cert, c.key, "", nil)
		for range 2 {
			if _, err := config(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("a client with %+v: got %v, want an error with %q", c, err, c.want)
			}
		}
	}
}

// Either end of a connection between nodes shows its present certificate, and
// refuses the other end if another authority signed it.
func TestMutualTLS(t *testing.T) {
	f := newTLSFiles(t)
	a, foreign := testcert.NewAuthority(t, "ca"), testcert.NewAuthority(t, "another")
	a.IssueFiles(t, "first", f.cert, f.key)
	testcert.Replace(t, f.ca, a.PEM())
	if _, err := MutualTLS(f.cert, f.key, "", nil); err == nil {
		t.Error("MutualTLS without an authority: got nil, want an error, because it would check nobody")
	}
	synctest.Test(t, func(t *testing.T) {
		node, err := MutualTLS(f.cert, f.key, f.ca, nil)
		if err != nil {
			t.Fatal(err)
		}
		var shown string // by the client
		peer := &tls.Config{
			MinVersion: tls.VersionTLS12, ServerName: "localhost", Certificates: []tls.Certificate{a.Issue(t, "peer")},
			RootCAs: a.Pool(), ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
			VerifyConnection: func(s tls.ConnectionState) error { shown = s.PeerCertificates[0].Subject.CommonName; return nil },
		}
		dial := func(server, client *tls.Config) (string, error) {
			client = client.Clone()
			client.ServerName = "localhost"
			c, name, err := shake(t, server, client)
			_ = c.Close()
			return name, err
		}
		for _, want := range []string{"first", "second"} {
			a.IssueFiles(t, want, f.cert, f.key)
			time.Sleep(2 * recheck)
			if name, err := dial(node, peer); err != nil || name != want {
				t.Errorf("as a server the node shows %q, %v, want %q", name, err, want)
			}
			if _, err := dial(peer, node); err != nil || shown != want {
				t.Errorf("as a client the node shows %q, %v, want %q", shown, err, want)
			}
		}
		stranger := peer.Clone()
		stranger.Certificates = []tls.Certificate{foreign.Issue(t, "peer")}
		if _, err := dial(node, stranger); err == nil {
			t.Error("a client of another authority: got accepted, want refused by the node as a server")
		}
		if _, err := dial(stranger, node); err == nil {
			t.Error("a server of another authority: got accepted, want refused by the node as a client")
		}
		stranger.Certificates = nil
		if _, err := dial(node, stranger); err == nil {
			t.Error("a client without a certificate: got accepted, want refused by the node as a server")
		}
	})
}
