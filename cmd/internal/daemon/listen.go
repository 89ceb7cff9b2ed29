package daemon

import (
	"context"
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
)

// Listen listens on host:port, or on the socket unix:///path with the given
// mode. A socket is removed when the listener closes. One that is there
// already is removed first, if nobody answers on it.
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

// removeStale removes what a process that was killed has left behind.
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
		return fmt.Errorf("there is a socket, and whether it is in use cannot be told: %w", reason(err))
	}
	return os.Remove(path)
}

// reason is err without the address, which the caller names.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// LogListening says where the named listener is bound. Tests and scripts that
// let the system choose the port read it.
func LogListening(logger *slog.Logger, name string, l net.Listener) {
	addr := l.Addr().String()
	if l.Addr().Network() == "unix" {
		addr = "unix://" + addr
	}
	logger.Info("listening", "name", name, "addr", addr)
}
