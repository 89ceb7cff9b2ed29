package daemon

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListenOnAPort(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var b bytes.Buffer
	logger := NewLogger("json", slog.LevelInfo, &b)
	LogListening(logger, "grpc", l)
	var said struct{ Msg, Name, Addr string }
	if err := json.Unmarshal(b.Bytes(), &said); err != nil || said.Msg != "listening" || said.Name != "grpc" || said.Addr != l.Addr().String() {
		t.Errorf("logged %s (%v), want the listener grpc at %s", b.String(), err, l.Addr())
	}
	if _, err := Listen(t.Context(), l.Addr().String(), 0); err == nil || strings.Count(err.Error(), l.Addr().String()) != 1 || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second listener on %s: got %v, want address already in use, with the address once", l.Addr(), err)
	}
}

func TestListenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"":                     "it must be host:port or unix:///path",
		"9191":                 "it must be host:port or unix:///path",
		"unix:/run/x.sock":     "it must be host:port or unix:///path",
		"unix://run/x.sock":    "a socket's path is absolute",
		"unix://":              "a socket's path is absolute",
		"unix://" + file:       "not a socket",
		"unix:///no/such/x":    "no such file or directory",
		"127.0.0.1:notaport":   "cannot listen on 127.0.0.1:notaport",
		"198.51.100.7:1":       "cannot assign requested address",
		"unix://" + file + "/": "not a directory",
	} {
		l, err := Listen(t.Context(), spec, 0o600)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", spec, err, want)
		}
		if l != nil {
			_ = l.Close()
		}
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Errorf("after the refusal the file holds %q, want precious", b)
	}
}

func TestListenOnASocket(t *testing.T) {
	umask := syscall.Umask(0o077)
	defer syscall.Umask(umask)
	path := filepath.Join(t.TempDir(), "authz.sock")
	l, err := Listen(t.Context(), "unix://"+path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket: got mode %v, %v, want %v", info.Mode(), err, fs.ModeSocket|0o660)
	}
	var b bytes.Buffer
	LogListening(slog.New(slog.NewTextHandler(&b, nil)), "grpc", l)
	if !strings.Contains(b.String(), "addr=unix://"+path) {
		t.Errorf("logged %s, want addr=unix://%s", b.String(), path)
	}
	if _, err := Listen(t.Context(), "unix://"+path, 0o600); err == nil || !strings.Contains(err.Error(), "another process answers on it") {
		t.Errorf("a socket in use: got %v, want that another process answers on it", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("a connection after the refusal: got %v, want nil", err)
	} else {
		_ = c.Close()
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket after Close: got %v, want that it does not exist", err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authz.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false) // as kill -9 does
	_ = old.Close()
	l, err := Listen(t.Context(), "unix://"+path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// The mode holds from the moment the socket exists, under any umask.
func TestSocketIsNeverTooOpen(t *testing.T) {
	umask := syscall.Umask(0)
	defer syscall.Umask(umask)
	path := filepath.Join(t.TempDir(), "s")
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { restrict(int(fd), 0o600) })
	}}
	l, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: got mode %v, %v, want 0600 although the umask is 0", info.Mode(), err)
	}
}
