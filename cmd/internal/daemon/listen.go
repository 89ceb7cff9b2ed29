package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rescind/cmd/internal/config"
)

// Open opens a listener of the configuration and reads its certificates. The
// returned TLS configuration is nil where the listener is plaintext. Open does
// not log that the listener is there, see [LogListening].
func Open(ctx context.Context, l config.Listener, log *slog.Logger) (net.Listener, *tls.Config, error) {
	var secure *tls.Config
	if l.TLS != nil {
		var err error
		if secure, err = ServerTLS(l.TLS.CertFile, l.TLS.KeyFile, l.TLS.ClientCAFile, log); err != nil {
			return nil, nil, err
		}
	}
	spec := l.Address
	if l.Network == "unix" {
		spec = "unix://" + spec
	}
	listener, err := Listen(ctx, spec, l.SocketMode)
	return listener, secure, err
}

// DefaultName returns the name of a process that its configuration does not
// name: the host's name, and the port or the socket at addr.
func DefaultName(addr net.Addr) string {
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return fmt.Sprintf("%s:%d", host, tcp.Port)
	}
	return host + ":" + filepath.Base(addr.String())
}

// Listen listens on host:port, or on the socket unix:///path with the given
// mode. A socket is removed when the listener closes. A socket that is there
// already is removed first, if no process answers on it.
func Listen(ctx context.Context, spec string, mode fs.FileMode) (net.Listener, error) {
	path, isSocket := strings.CutPrefix(spec, "unix://")
	if isSocket {
		return listenSocket(ctx, path, mode)
	}
	if _, _, err := net.SplitHostPort(spec); err != nil || strings.HasPrefix(spec, "unix:") {
		return nil, fmt.Errorf("cannot listen on %q: it must be host:port or unix:///path", spec)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", spec)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", spec, reason(err))
	}
	return l, nil
}

func listenSocket(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("cannot listen on %q: a socket's path is absolute, with three slashes: unix:///path", "unix://"+path)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { restrict(int(fd), mode) })
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, reason(err))
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set the mode of the socket: %w", err), l.Close())
	}
	return l, nil
}

// removeStale removes the socket of a process that was killed.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return errors.New("there is a file of that name that is not a socket")
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another process answers on it")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("there is a socket, and it cannot be asked whether it is in use: %w", reason(err))
	}
	return os.Remove(path)
}

// reason returns err without the address, which the caller names.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// LogListening logs where the named listener is bound. Tests and scripts that let
// the system choose the port read that line.
func LogListening(logger *slog.Logger, name string, l net.Listener) {
	addr := l.Addr().String()
	if l.Addr().Network() == "unix" {
		addr = "unix://" + addr
	}
	logger.Info("listening", "name", name, "addr", addr)
}
