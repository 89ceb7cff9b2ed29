package known_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rescind/envoy/known"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// Each faulty place for the socket gets an error that names the key and the way to mend
// it. Files and folders at the place stay.
func TestFaultySocket(t *testing.T) {
	dir := t.TempDir()
	file, taken := filepath.Join(dir, "authz.yaml"), filepath.Join(dir, "taken.sock")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: taken, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, c := range []struct{ name, socket, group, want string }{
		{"no folder", filepath.Join(dir, "none", "known.sock"), "", "known_tokens.socket: the folder " + dir + "/none does not exist; create it for the user of the replica"},
		{"a file as the folder", filepath.Join(file, "known.sock"), "", "known_tokens.socket: "},
		{"a file", file, "", "known_tokens.socket: there is something else than a socket at " + file + "; name another path"},
		{"a folder", dir, "", "known_tokens.socket: there is something else than a socket at " + dir},
		{"a socket in use", taken, "", "known_tokens.socket: another process listens at " + taken + "; give each replica a socket of its own"},
		{"no group", filepath.Join(dir, "a.sock"), "no such group", `known_tokens.group: "no such group" is no group of this machine; create it, or write its number`},
	} {
		s, err := known.Listen(known.ServerOptions{Socket: c.socket, Group: c.group, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s…", c.name, err, c.want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file at the path of a socket: got %q and %v, want it as it was", text, err)
	}
}

// A folder in which every user can write is a warning, because a volume of a pod is one.
// A socket that nobody listens on is replaced.
func TestSocketInAnOpenFolder(t *testing.T) {
	dir, log := t.TempDir(), &syncbuffer.Buffer{}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the fault
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "known.sock")
	old, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	s, err := known.Listen(known.ServerOptions{Socket: socket, UID: -1, Streams: noStreams{}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(log.String(), "every user can write in the folder of known_tokens.socket") {
		t.Errorf("got the log %q, want a warning about the folder", log)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: got %v and %v, want mode 0660", info.Mode(), err)
	}
}

// An Envoy of another user gets nothing. It comes again twice a second, so the log says
// that once.
func TestRefusalIsLoggedOnce(t *testing.T) {
	socket, log := filepath.Join(t.TempDir(), "known.sock"), &syncbuffer.Buffer{}
	s, err := known.Listen(known.ServerOptions{Socket: socket, UID: os.Getuid() + 1, Streams: noStreams{}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go func() { _ = s.Serve() }()
	for range 5 {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 100)); n > 0 || err == nil {
			t.Errorf("another user: got %d bytes, %v, want the end of the connection", n, err)
		}
		_ = c.Close()
	}
	eventually.True(t, "the refusal is logged", func() bool { return strings.Contains(log.String(), "known_tokens.envoy_uid is") })
	if got := strings.Count(log.String(), "is refused"); got != 1 {
		t.Errorf("five refusals: got %d lines, want one\n%s", got, log)
	}
}
