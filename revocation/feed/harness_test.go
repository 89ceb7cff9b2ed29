package feed

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/replica"
)

const secret = "replica-token"

func tokens() []Token { return []Token{{Name: "replicas", SHA256: sha256.Sum256([]byte(secret))}} }

// control is a control endpoint's feed on a listener.
type control struct {
	*Server
	addr string
	stop func()
}

func serve(t testing.TB, src Source, o ServerOptions, more ...grpc.ServerOption) *control {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
	}
	return serveOn(t, lis, src, o, more...)
}

func serveOn(t testing.TB, lis net.Listener, src Source, o ServerOptions, more ...grpc.ServerOption) *control {
	t.Helper()
	if o.Tokens == nil {
		o.Tokens = tokens()
	}
	s := NewServer(src, o)
	g := grpc.NewServer(append(s.Options(), more...)...)
	s.Register(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	stop := sync.OnceFunc(func() {
		s.Close()
		g.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve on %s: got %v, want no error", lis.Addr(), err)
		}
	})
	t.Cleanup(stop)
	return &control{Server: s, addr: lis.Addr().String(), stop: stop}
}

func options(addrs ...string) ClientOptions {
	return ClientOptions{
		Addresses: addrs, Name: "replica-a", Plaintext: true,
		Token: func() (string, error) { return secret, nil },
	}
}

// following runs Follow until the test ends, or stop is called.
func following(t testing.TB, f *replica.Follower, o ClientOptions) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Follow(ctx, f, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow as %s: got %v, want no error", o.Name, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func at(f *replica.Follower, revision uint64) func() bool {
	return func() bool {
		_, r := f.Position()
		return f.Status().Ready && r >= revision
	}
}

// everywhere waits until all replicas have the revision, n of them.
func everywhere(t testing.TB, s *Server, revision uint64, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if a := s.WaitApplied(ctx, Wanted{Revision: revision}); a.Applied != n || a.Total != n || len(a.Pending) != 0 {
		t.Fatalf("revision %d: got %+v, want it applied by %d of %d", revision, a, n, n)
	}
}

// raw is a follower by hand.
type raw struct {
	feedpb.Feed_FollowClient
	t testing.TB
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("a client for %s: got %v, want no error", addr, err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func newHello(name, logID string, revision uint64) *feedpb.Hello {
	h := &feedpb.Hello{Name: name, Instance: make([]byte, 16), LogId: logID, Revision: revision}
	rand.Read(h.Instance)
	return h
}

// call opens a stream and says hello.
func call(t testing.TB, addr string, h *feedpb.Hello) *raw {
	t.Helper()
	ctx, cancel := context.WithCancel(withToken(context.Background(), secret))
	t.Cleanup(cancel)
	stream, err := feedpb.NewFeedClient(dial(t, addr)).Follow(ctx)
	if err != nil {
		t.Fatalf("opening a Follow stream to %s: got %v, want no error", addr, err)
	}
	r := &raw{stream, t}
	r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}})
	return r
}

func (r *raw) say(m *feedpb.ClientMessage) {
	r.t.Helper()
	if err := r.Send(m); err != nil && !errors.Is(err, io.EOF) { // why it has ended is read, not written
		r.t.Fatalf("sending %v: got %v, want no error", m, err)
	}
}

func (r *raw) ack(revision uint64) {
	r.t.Helper()
	r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Revision: revision}}})
}

func (r *raw) receive() *feedpb.ServerMessage {
	r.t.Helper()
	m, err := r.Recv()
	if err != nil {
		r.t.Fatalf("receiving the next message: got %v, want a message", err)
	}
	return m
}

// end reads to the end of the stream.
func (r *raw) end() error {
	for {
		if _, err := r.Recv(); err != nil {
			return err
		}
	}
}

// lines collects the lines of a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, nil))
}

// text returns all lines.
func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "")
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}
