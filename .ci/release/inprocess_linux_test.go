package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

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
// the group of the sockets, and a user outside of the group.
func (m *machine) addEnvoy() {
	m.t.Helper()
	m.run("useradd", "--system", "--no-create-home", "--groups=rescind-envoy", "envoy")
	m.run("useradd", "--system", "--no-create-home", "stranger")
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
	const connect = `import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("/run/rescind/known.sock")`
	m.run("runuser", "--user=envoy", "--", "python3", "-c", connect)
	if got := m.fails("runuser", "--user=stranger", "--", "python3", "-c", connect); !strings.Contains(got, "PermissionError") {
		m.t.Errorf("a user outside the group gets %q, want PermissionError", got)
	}

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
