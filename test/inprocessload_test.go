package test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rescind/test/eventually"
)

// knownLoad uses one token after the other over kept connections, as fast as Envoy
// answers. It counts the requests that begin after a token's revocation was
// acknowledged.
type knownLoad struct {
	connections []*keptConnection
	sent        atomic.Int64 // before the acknowledgement of their tokens
	after       atomic.Int64 // begun after it
	allowed     atomic.Int64 // begun after it, and answered 200
}

// keptConnection is a connection to a listener, with one request at a time.
type keptConnection struct {
	net.Conn
	in *bufio.Reader
}

func newKnownLoad(t *testing.T, addrs ...string) *knownLoad {
	t.Helper()
	l := &knownLoad{}
	for _, addr := range addrs {
		l.connections = append(l.connections, keep(t, addr))
	}
	return l
}

func keep(t *testing.T, addr string) *keptConnection {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &keptConnection{conn, bufio.NewReader(conn)}
}

// do sends a request and returns the status of the answer.
func (c *keptConnection) do(request []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	a, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, a.Body)
	return a.StatusCode, err
}

func requestWith(target, token string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n\r\n", target, token)
}

// round uses a token on all connections, calls revoke, and goes on until so many
// requests have begun after revoke has returned.
func (l *knownLoad) round(t *testing.T, token string, after int, revoke func()) {
	t.Helper()
	request := requestWith("/x", token)
	var acknowledged, stop atomic.Bool
	var all sync.WaitGroup
	for _, c := range l.connections {
		all.Go(func() {
			for !stop.Load() {
				isAfter := acknowledged.Load()
				status, err := c.do(request)
				switch {
				case err != nil:
					t.Errorf("a request under load: got %v, want an answer", err)
					return
				case !isAfter:
					l.sent.Add(1)
				default:
					l.after.Add(1)
					if status == http.StatusOK {
						l.allowed.Add(1)
					}
				}
			}
		})
	}
	defer all.Wait()
	defer stop.Store(true)
	sent := l.sent.Load()
	eventually.True(t, "all connections are busy", func() bool { return l.sent.Load() > sent+int64(4*len(l.connections)) || t.Failed() })
	before := l.after.Load()
	revoke()
	acknowledged.Store(true)
	eventually.True(t, fmt.Sprintf("%d requests begin after the acknowledgement", after), func() bool { return l.after.Load() >= before+int64(after) || t.Failed() })
}

// revocationOf returns a token, and a revocation that hits it. Each round has another
// kind of revocation.
func revocationOf(t *testing.T, g *moduleRig, round int) (token string, body map[string]any) {
	t.Helper()
	name := fmt.Sprintf("round-%d-%d", g.Workers, round)
	token = minted(t, g.Stack, map[string]any{"sub": name, "client_id": name})
	by := func(names ...string) map[string]any {
		claims := map[string]any{}
		for _, n := range names {
			claims[n] = claim(t, token, n)
		}
		return map[string]any{"claims": claims}
	}
	switch round % 7 {
	case 0:
		return token, by("sub")
	case 1:
		return token, by("jti")
	case 2:
		return token, by("sid")
	case 3:
		return token, by("sub", "client_id")
	case 4:
		return token, by("client_id")
	case 5:
		return token, by("sub", "aud")
	}
	return token, map[string]any{"token": token}
}

// revokeSurely returns when a revocation is acknowledged by every replica. A log that
// takes no writes for a moment, because the machine is busy, answers 503.
func (g *moduleRig) revokeSurely(body map[string]any) {
	g.t.Helper()
	full := map[string]any{"issuer": g.Issuer.URL()}
	maps.Copy(full, body)
	eventually.Succeeds(g.t, fmt.Sprintf("revoke %v", body), func() error {
		var r created
		a, err := g.Admin(g.t.Context(), http.MethodPost, "/v1/revocations?confirm=true&wait=all&timeout=10s", full, &r)
		if err == nil && (a.Status != http.StatusCreated && a.Status != http.StatusOK || r.Replicas.Total != 1 || r.Replicas.Applied != 1) {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
}

// nothingAfterTheAcknowledgement revokes tokens that are in use. Two of three
// connections go to a listener whose ext_authz has no server. There each 200 is the
// module's, and a denial costs least, so these connections send the most requests.
func nothingAfterTheAcknowledgement(g *moduleRig) {
	t, rounds, after := g.t, rounds(21, 1000), 200
	if longForm {
		after = 600
	}
	l := newKnownLoad(t, g.addrs[alone], g.addrs[alone], g.addrs[inFront], g.addrs[alone], g.addrs[alone], g.addrs[inFront])
	began := time.Now()
	defer func() {
		t.Logf("%d workers, %d rounds in %v: %d requests before the acknowledgement, %d after it, %d of these allowed", g.Workers, rounds, time.Since(began).Round(time.Millisecond), l.sent.Load(), l.after.Load(), l.allowed.Load())
	}()
	for round := range rounds {
		token, body := revocationOf(t, g, round)
		if round == rounds-1 {
			body = map[string]any{"all": true}
		}
		g.makeKnown(token, "/x")
		l.round(t, token, after, func() { g.revokeSurely(body) })
		if t.Failed() {
			return
		}
	}
	nextSecond() // tokens of the tests that follow are later than the last revocation
	if n := l.allowed.Load(); n != 0 {
		t.Errorf("%d of %d requests that began after the acknowledgement were allowed, want none", n, l.after.Load())
	}
}
