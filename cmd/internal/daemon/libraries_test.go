package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"rescind/test/eventually"
	"rescind/test/syncbuffer"
	"rescind/test/testcert"
)

// wantShape checks that each line of a log is one JSON object with a time, a level
// and a message, and without an error of gRPC.
func wantShape(t *testing.T, text string) {
	t.Helper()
	for l := range strings.Lines(text) {
		var m struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(l), &m); err != nil || m.Time == "" || m.Level == "" || m.Msg == "" {
			t.Errorf("line %q: %v, want JSON with time, level and msg", l, err)
		}
		if strings.Contains(l, "rpc error") || strings.Contains(l, "desc = ") {
			t.Errorf("line %q, want no error as gRPC writes it", l)
		}
	}
}

// No error of gRPC reaches a line as gRPC writes it, wherever it stands.
func TestErrorsOfGRPCInALine(t *testing.T) {
	err := fmt.Errorf("asking: %w", status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.5:1: connect: connection refused"`))
	for format, want := range map[string]string{"json": `"error":"asking: dial tcp 10.0.0.5:1: connect: connection refused"`, "text": `error="asking: dial tcp 10.0.0.5:1: connect: connection refused"`} {
		var b syncbuffer.Buffer
		l := NewLogger(format, slog.LevelInfo, &b)
		l.Info("feed lost", "error", err)
		l.Info("feed lost", "error", err.Error())
		l.With("error", err).Info("feed lost")
		l.Info("feed lost", slog.Group("of", slog.Any("error", errors.Join(err))))
		l.Info("feed lost: " + err.Error())
		text := b.String()
		if strings.Contains(text, "rpc error") || strings.Contains(text, "desc =") || strings.Count(text, want) < 3 || strings.Count(text, "connection refused") != 5 {
			t.Errorf("%s: got\n%swant %s in the lines, and no error as gRPC writes it", format, text, want)
		}
	}
}

func TestLinesArePrintable(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var b syncbuffer.Buffer
		NewLogger(format, slog.LevelInfo, &b).Info("ev\u202eil", "error", errors.New("ev\u202eil\x1b[31m"), "stack", "a\n\tb")
		if text := b.String(); strings.ContainsAny(text, "\u202e\x1b") || strings.Contains(text, "202e") || strings.Contains(text, "001b") || !strings.Contains(text, `a\n\tb`) {
			t.Errorf("%s: %q, want no bidirectional or control character, and the line breaks of the stack", format, text)
		}
	}
}

// A library with a global log, and a handler that panics, write lines of our shape.
func TestLibrariesLogInOneShape(t *testing.T) {
	var b syncbuffer.Buffer
	AdoptLibraries(NewLogger("json", slog.LevelInfo, &b))
	log.Print("unsolicited response received")
	grpclog.Error("a frame is odd: ", status.Error(codes.Internal, "odd"))
	grpclog.Warning("left out at this level")
	grpclog.Info("left out")
	page := NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("5ecret") }), nil, NewLogger("json", slog.LevelInfo, &b))
	url := serving(t, page)
	if res, err := http.Get(url); err == nil {
		_ = res.Body.Close()
		t.Errorf("a handler that panics answered %d, want no answer", res.StatusCode)
	}
	eventually.True(t, "the panic is logged", func() bool { return strings.Contains(b.String(), "handler panicked") })
	wantShape(t, b.String())
	for _, want := range []string{`"msg":"unsolicited response received"`, `"error":"a frame is odd: odd"`, `"stack":"goroutine `} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%swant %s in it", b.String(), want)
		}
	}
	if strings.Contains(b.String(), "left out") {
		t.Errorf("got\n%swant no warning and no information of gRPC", b.String())
	}
}

// serving serves on a port of its own until the test ends, and returns the URL.
func serving(t *testing.T, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Errorf("stopping the server: got %v, want nil", err)
		}
	})
	return "http://" + l.Addr().String()
}

// Where one end alone speaks TLS, the log of the server says so in words.
func TestTwoProtocolsInTheLog(t *testing.T) {
	certificate := testcert.NewAuthority(t, "ca").Issue(t, "server")
	var b syncbuffer.Buffer
	logger := NewLogger("json", slog.LevelInfo, &b)
	AdoptLibraries(logger)
	secure := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	trusting := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the protocol is under test
	get := func(url string) {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting}}
		if res, err := c.Get(url); err == nil {
			_ = res.Body.Close()
		}
	}
	ask := func(addr string, client credentials.TransportCredentials) {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(client))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err == nil {
			t.Error("a Check between two protocols succeeded, want an error")
		}
	}
	say := func(addr, text string) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, text); err != nil {
			t.Errorf("sending %q: got %v, want nil", text, err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	grpcOn := func(options ...grpc.ServerOption) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(options...)
		healthpb.RegisterHealthServer(s, health.NewServer())
		go func() { _ = s.Serve(l) }()
		t.Cleanup(s.Stop)
		return l.Addr().String()
	}
	nothing := http.NotFoundHandler()
	for _, c := range []struct {
		name string
		call func()
		want string
	}{
		{"HTTP, a client with TLS", func() {
			get(strings.Replace(serving(t, NewServer(nothing, nil, logger)), "http://", "https://", 1))
		}, "speaks TLS, and this listener does not"},
		{"HTTP, a client without TLS", func() { get(serving(t, NewServer(nothing, secure, logger))) }, "the client does not speak TLS"},
		{"gRPC, a client with TLS", func() { ask(grpcOn(), credentials.NewTLS(trusting)) }, "the client speaks TLS, and this listener does not"},
		{"gRPC, a client without TLS", func() { ask(grpcOn(grpc.Creds(credentials.NewTLS(secure))), insecure.NewCredentials()) }, "the other end does not speak TLS"},
		{"gRPC, a client of HTTP/1.1", func() { say(grpcOn(), "GET / HTTP/1.1\r\nHost: replica\r\n\r\n") }, "the client does not speak gRPC"},
	} {
		before := len(b.String())
		c.call()
		eventually.True(t, c.name+": a line with "+c.want+" in "+b.String()[before:], func() bool {
			return strings.Contains(b.String()[before:], `"msg":"connection failed"`) && strings.Contains(b.String()[before:], c.want)
		})
	}
	wantShape(t, b.String())
}

// Strangers can cause lines about failed connections, so these are bounded, and
// none is left uncounted. Probes that say nothing cause none.
func TestLinesOfConnectionsAreBounded(t *testing.T) {
	var b syncbuffer.Buffer
	s := NewServer(http.NotFoundHandler(), nil, NewLogger("json", slog.LevelInfo, &b))
	w := s.http.ErrorLog
	const n = 500
	for i := range n {
		w.Printf("http: TLS handshake error from 192.0.2.1:%d: tls: unsupported SSLv2 handshake received", i)
		w.Printf("http: TLS handshake error from 192.0.2.1:%d: EOF", i)
	}
	s.connections.Close()
	lines, suppressed := 0, 0
	for l := range strings.Lines(b.String()) {
		var m struct{ Suppressed int }
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatal(err)
		}
		if suppressed += m.Suppressed; m.Suppressed == 0 {
			lines++
		}
	}
	if lines+suppressed != n || lines > 3*connectionLines {
		t.Errorf("%d lines and %d suppressed, want %d together and at most %d lines a second", lines, suppressed, n, connectionLines)
	}
}
