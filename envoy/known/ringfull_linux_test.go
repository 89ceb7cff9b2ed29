package known_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"rescind/envoy/known"
	"rescind/test/eventually"
)

// A replica that does not read the records of Envoy loses records and nothing else.
// Requests go on, the records without room are counted, and a revocation works.
func TestRingFull(t *testing.T) {
	g := start(t)
	g.admit("default", "alice", 17)
	g.admit("default", "bob", 18)
	eventually.True(t, "the table is used", func() bool { s, _, _ := g.get("/", "alice"); return s == http.StatusOK })
	g.mu.Lock() // so the reader of the ring waits
	const most, wanted = 40_000, 500
	sent := 0
	for ask := g.kept("bob"); g.state().Drops < wanted && sent < most; sent++ {
		if status := ask(); status != http.StatusOK {
			t.Fatalf("request %d, with %d records dropped: got %d, want 200", sent, g.state().Drops, status)
		}
	}
	if drops := g.state().Drops; drops < wanted {
		t.Errorf("%d requests that nobody read of: got %d dropped records, want %d", sent, drops, wanted)
	}
	g.table.Revoke(only(17), 5)
	g.want(http.StatusForbidden, "/", "alice")
	g.want(http.StatusOK, "/", "bob")
	g.table.Void()
	g.want(http.StatusForbidden, "/", "bob")
	g.mu.Unlock()
	eventually.True(t, "all other records are read", func() bool {
		e := g.state()
		g.mu.Lock()
		defer g.mu.Unlock()
		return uint64(len(g.uses)) == e.Hits-e.Drops
	})
	g.admit("default", "alice", 17)
	before := g.state()
	g.want(http.StatusOK, "/", "alice")
	if after := g.state(); after.Hits != before.Hits+1 || after.Drops != before.Drops {
		t.Errorf("a request after the ring was read: got %+v, want one more hit than %+v, and no drop", after, before)
	}
	t.Logf("%d requests, %d of them without a record", sent, before.Drops)
}

func (g *gateway) state() known.Envoy {
	e, _ := g.server.State()
	return e
}

// kept returns a function that sends requests with a token over one connection, so all
// of them are for one worker of Envoy.
func (g *gateway) kept(token string) func() int {
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	in := bufio.NewReader(conn)
	return func() int {
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n\r\n", token); err != nil {
			g.t.Fatal(err)
		}
		a, err := http.ReadResponse(in, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			g.t.Fatal(err)
		}
		return a.StatusCode
	}
}
