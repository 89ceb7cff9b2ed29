package daemon

import (
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/grpclog"

	"rescind/revocation/linelimit"
)

// connectionLines is how many lines a second the failed connections to one
// listener, or of gRPC, have. Strangers can cause them.
const connectionLines = 10

// grpcLog is the log of gRPC. It discards lines until [AdoptLibraries]. gRPC
// demands that its log is set before anything else uses gRPC.
var grpcLog grpcLogger

func init() { grpclog.SetLoggerV2(&grpcLog) }

// AdoptLibraries makes the lines of libraries with a global log, such as gRPC and
// the standard library's log, lines of logger. The last call counts.
func AdoptLibraries(logger *slog.Logger) {
	grpcLog.to.Store(&grpcTarget{logger, linelimit.New(logger, slog.LevelWarn, "connection failed", connectionLines)})
	slog.SetLogLoggerLevel(slog.LevelWarn)
	slog.SetDefault(logger)
}

type grpcTarget struct {
	logger      *slog.Logger
	connections *linelimit.Limit
}

// grpcLogger implements [grpclog.LoggerV2]. Of gRPC's many lines it keeps the
// errors, and the connections that a server refused.
type grpcLogger struct{ to atomic.Pointer[grpcTarget] }

func (g *grpcLogger) Info(args ...any)                    { g.info(fmt.Sprint(args...)) }
func (g *grpcLogger) Infoln(args ...any)                  { g.info(fmt.Sprintln(args...)) }
func (g *grpcLogger) Infof(format string, args ...any)    { g.info(fmt.Sprintf(format, args...)) }
func (g *grpcLogger) Warning(args ...any)                 { g.warn(fmt.Sprint(args...)) }
func (g *grpcLogger) Warningln(args ...any)               { g.warn(fmt.Sprintln(args...)) }
func (g *grpcLogger) Warningf(format string, args ...any) { g.warn(fmt.Sprintf(format, args...)) }
func (g *grpcLogger) Error(args ...any)                   { g.error(fmt.Sprint(args...)) }
func (g *grpcLogger) Errorln(args ...any)                 { g.error(fmt.Sprintln(args...)) }
func (g *grpcLogger) Errorf(format string, args ...any)   { g.error(fmt.Sprintf(format, args...)) }
func (g *grpcLogger) Fatal(args ...any)                   { g.error(fmt.Sprint(args...)); os.Exit(1) }
func (g *grpcLogger) Fatalln(args ...any)                 { g.error(fmt.Sprintln(args...)); os.Exit(1) }
func (g *grpcLogger) Fatalf(format string, args ...any) {
	g.error(fmt.Sprintf(format, args...))
	os.Exit(1)
}
func (g *grpcLogger) V(int) bool { return false }

func (g *grpcLogger) info(text string) {
	to := g.to.Load()
	_, why, refused := strings.Cut(text, "failed to create ServerTransport: ")
	if to == nil || !refused || gone(why) {
		return
	}
	to.connections.Log("component", "grpc", "error", strings.TrimSpace(why))
}

func (g *grpcLogger) warn(text string) {
	if to := g.to.Load(); to != nil {
		to.logger.Debug("gRPC warns", "component", "grpc", "error", strings.TrimSpace(text))
	}
}

func (g *grpcLogger) error(text string) {
	if to := g.to.Load(); to != nil {
		to.connections.Log("component", "grpc", "error", strings.TrimSpace(text))
	}
}

// gone reports whether a connection failed only because its client went away, as
// the probe of a load balancer does.
func gone(text string) bool {
	return strings.Contains(text, "EOF") || strings.Contains(text, "connection reset by peer")
}

// httpLog takes the lines of a [net/http.Server].
type httpLog struct {
	logger      *slog.Logger
	connections *linelimit.Limit
}

func newHTTPLog(logger *slog.Logger, connections *linelimit.Limit) *log.Logger {
	return log.New(&httpLog{logger, connections}, "", 0)
}

// Write logs one line of the server. A panic of a handler has its stack.
func (h *httpLog) Write(line []byte) (int, error) {
	text := strings.TrimPrefix(strings.TrimSpace(string(line)), "http: ")
	switch {
	case strings.HasPrefix(text, "panic serving"):
		what, stack, _ := strings.Cut(text, "\n")
		h.logger.Error("handler panicked", "component", "http", "panic", what, "stack", stack)
	case strings.HasPrefix(text, "TLS handshake error") && gone(text):
	default:
		h.connections.Log("component", "http", "error", text)
	}
	return len(line), nil
}

// plainListener is a listener without TLS. It logs a client that speaks TLS,
// because the server itself answers such a client without a word.
type plainListener struct {
	net.Listener
	connections *linelimit.Limit
}

// Accept implements [net.Listener].
func (l plainListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: c, connections: l.connections}, nil
}

type plainConn struct {
	net.Conn
	connections *linelimit.Limit
	looked      atomic.Bool
}

// tlsHandshake begins each connection of a TLS client.
const tlsHandshake = 0x16

// Read implements [net.Conn].
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.looked.Swap(true) && b[0] == tlsHandshake {
		c.connections.Log("component", "http", "error", fmt.Sprintf("the client at %s speaks TLS, and this listener does not", c.RemoteAddr()))
	}
	return n, err
}

// CloseWrite lets the server end its answer before it closes the connection.
func (c *plainConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
