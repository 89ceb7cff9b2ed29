package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rescind/envoy/envoytest"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// withEnvoy finds an Envoy outside of the namespaces, where it can be fetched.
func withEnvoy(t *testing.T) {
	t.Helper()
	if os.Getenv("RELEASE_SCRATCH") != "" {
		return
	}
	envoy, err := envoytest.Find(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENVOY_BIN", envoy)
}

// addEnvoy adds an Envoy to a machine that is not booted, with a user of its own in
// the group of the sockets.
func (m *machine) addEnvoy() {
	m.t.Helper()
	m.run("useradd", "--system", "--no-create-home", "--groups=rescind-envoy", "envoy")
	m.write("usr/local/bin/envoy", "")
	m.host("mount", "--bind", os.Getenv("ENVOY_BIN"), m.root+"/usr/local/bin/envoy")
}

// knownTokens is the section of authz.yaml that hands tokens to the Envoy.
func (m *machine) knownTokens() string {
	m.t.Helper()
	return fmt.Sprintf("known_tokens: {socket: /run/rescind/known.sock, envoy_uid: %s, group: rescind-envoy}\n", m.run("id", "--user", "envoy"))
}

// inProcess runs the Envoy with the module and the example of the package. The Envoy
// answers for the token that inProcess returns by itself. Only the group of the Envoy
// reaches the socket.
func (m *machine) inProcess(issuer *jwkstest.Issuer) (token string) {
	m.t.Helper()
	for path, want := range map[string]string{"/run/rescind": "2750 rescind rescind-envoy", "/run/rescind/known.sock": "660 rescind rescind-envoy"} {
		if got := m.run("stat", "--format=%a %U %G", path); got != want {
			m.t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	wantOnlyTheGroup(m.t, m.root)

	m.run("install", "--mode=644", "/usr/share/doc/rescind/envoy-inprocess.yaml", "/etc/envoy.yaml")
	m.edit("etc/envoy.yaml", map[string]string{"uid=65532": "uid=" + m.run("id", "--user", "rescind")})
	m.run("systemd-run", "--unit=rescind-test-envoy", "--uid=envoy", "--setenv=ENVOY_DYNAMIC_MODULES_SEARCH_PATH=/usr/lib/rescind",
		"/usr/local/bin/envoy", "--disable-hot-restart", "--config-path", "/etc/envoy.yaml")
	return wantKnown(m.t, issuer)
}

// wantKnown sends requests with one token through the gateway until Envoy has answered
// one by itself. The test fails unless the gateway lets the token pass each time.
func wantKnown(t *testing.T, issuer *jwkstest.Issuer) (token string) {
	t.Helper()
	token, err := issuer.Mint(map[string]any{"sub": "alice"})
	if err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the gateway accepts connections", func() bool { status, _ := get("http://127.0.0.1:10000/", ""); return status != 0 })
	eventually.True(t, "an Envoy uses the known tokens", func() bool { return metric("rescind_known_envoys") == "1" })
	eventually.True(t, "Envoy has answered for a token by itself", func() bool {
		if status, body := get("http://127.0.0.1:10000/", token); status == http.StatusUnauthorized || status == http.StatusForbidden {
			t.Fatalf("the gateway answers %d %q to a good token", status, body)
		}
		n := metric(`rescind_known_requests_total{record="recorded"}`)
		return n != "" && n != "0"
	})
	return token
}

// stranger is a user and a group that nothing on the machine belongs to.
const stranger = 54321

// wantOnlyTheGroup fails the test unless the modes below a root folder let the group of
// the socket connect, whichever the user is, and nobody else.
func wantOnlyTheGroup(t *testing.T, root string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(root, knownSocket))
	if err != nil {
		t.Fatal(err)
	}
	if err := connectAs(root, int(info.Sys().(*syscall.Stat_t).Gid)); err != nil {
		t.Errorf("a user in the group of %s cannot connect: %v", knownSocket, err)
	}
	if err := connectAs(root, stranger); !errors.Is(err, unix.EACCES) {
		t.Errorf("a user outside the group of %s gets %v, want %v", knownSocket, err, unix.EACCES)
	}
}

// knownSocket is the socket of the known tokens below a root folder.
const knownSocket = "run/rescind/known.sock"

// connectAs connects to the socket as a stranger in a group. The modes above the root
// folder do not count.
func connectAs(root string, group int) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	// The user is that of this thread alone. The thread must not end, because an Envoy
	// ends with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer func() { _ = errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)) }()
	if err := errors.Join(unix.Setfsgid(group), unix.Setfsuid(stranger)); err != nil {
		return err
	}
	return unix.Connect(socket, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir, knownSocket)})
}

// wantRevoked fails the test unless the gateway denies a token whose revocation is in
// force.
func wantRevoked(t *testing.T, token string) {
	t.Helper()
	if status, body := get("http://127.0.0.1:10000/", token); status != http.StatusUnauthorized {
		t.Errorf("with the revoked token the gateway answers %d %q, want 401", status, body)
	}
}

// metric returns the value of a metric of the replica, or nothing if there is none.
func metric(name string) string {
	answer, err := http.Get("http://127.0.0.1:9192/metrics")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value
		}
	}
	return ""
}
