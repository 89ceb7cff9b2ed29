package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"rescind/revocation/feed/feedpb"
)

// wires is a network of pipes, so that a test can have its own clock.
type wires struct {
	incoming chan net.Conn
	closed   chan struct{}
	close    func()

	mu      sync.Mutex
	dialled int
	deaf    bool // nothing gets through any more, and neither end gets an error
}

func newWires() *wires {
	m := &wires{incoming: make(chan net.Conn), closed: make(chan struct{})}
	m.close = sync.OnceFunc(func() { close(m.closed) })
	return m
}

func (m *wires) Accept() (net.Conn, error) {
	select {
	case c := <-m.incoming:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *wires) Close() error   { m.close(); return nil }
func (m *wires) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (m *wires) dial(ctx context.Context, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	m.mu.Lock()
	m.dialled++
	from := fmt.Sprint("memory-", m.dialled)
	m.mu.Unlock()
	select {
	case m.incoming <- &socket{server, from}:
		return &plug{client, m}, nil
	case <-m.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *wires) setDeaf(deaf bool) {
	m.mu.Lock()
	m.deaf = deaf
	m.mu.Unlock()
}

// socket is the server's end of a pipe, with an address of its own.
type socket struct {
	net.Conn
	from string
}

func (s *socket) RemoteAddr() net.Addr { return &net.UnixAddr{Name: s.from} }

// plug is the client's end of a pipe.
type plug struct {
	net.Conn
	m *wires
}

// Read passes nothing on while the network is deaf.
func (p *plug) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		p.m.mu.Lock()
		deaf := p.m.deaf
		p.m.mu.Unlock()
		if err != nil || !deaf {
			return n, err
		}
	}
}

// serveInMemory is for tests in a bubble of synctest.
func serveInMemory(t *testing.T, src Source, o ServerOptions) (*Server, *wires) {
	t.Helper()
	m := newWires()
	return serveOn(t, m, src, o).Server, m
}

// connect returns a connection, and a function that cuts the connection.
func (m *wires) connect(t *testing.T) (*grpc.ClientConn, func()) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(m.dial),
		grpc.WithStaticStreamWindowSize(1<<16), grpc.WithStaticConnWindowSize(1<<16)) // a stream that is not read is full soon
	if err != nil {
		t.Fatalf("a client for the network in memory: got %v, want no error", err)
	}
	hangUp := sync.OnceFunc(func() { conn.Close() })
	t.Cleanup(hangUp)
	return conn, hangUp
}

// call returns a follower by hand, and a function that cuts its connection.
func (m *wires) call(t *testing.T, h *feedpb.Hello) (*raw, func()) {
	t.Helper()
	return m.callAs(t, secret, h)
}

// callAs is call with another feed token.
func (m *wires) callAs(t *testing.T, token string, h *feedpb.Hello) (*raw, func()) {
	t.Helper()
	conn, hangUp := m.connect(t)
	return followOver(t, conn, token, h), hangUp
}

// followOver returns a follower by hand over an open connection.
func followOver(t *testing.T, conn *grpc.ClientConn, token string, h *feedpb.Hello) *raw {
	t.Helper()
	stream, err := feedpb.NewFeedClient(conn).Follow(withToken(t.Context(), token))
	if err != nil {
		t.Fatalf("opening a Follow stream: got %v, want no error", err)
	}
	r := &raw{stream, t}
	r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}})
	return r
}

// severable returns a dialer for the network, and a function that cuts all of
// its connections and lets it make no other: the replica behind it is lost
// without a goodbye.
func (m *wires) severable() (dial func(context.Context, string) (net.Conn, error), sever func()) {
	var mu sync.Mutex
	var open []net.Conn
	severed := false
	dial = func(ctx context.Context, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if severed {
			return nil, errors.New("the connection is severed")
		}
		c, err := m.dial(ctx, addr)
		if err == nil {
			open = append(open, c)
		}
		return c, err
	}
	return dial, func() {
		mu.Lock()
		defer mu.Unlock()
		severed = true
		for _, c := range open {
			c.Close()
		}
	}
}

func newAck(revision uint64) *feedpb.Ack { return &feedpb.Ack{Revision: revision} }
