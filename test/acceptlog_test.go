package test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// A replica keeps its set when the log is gone, and logs the remedy. It takes the
// new log once an operator has named the old one.
func TestALostLogIsReplacedByName(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	alice, bob := login(t, s, "alice"), login(t, s, "bob")
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	s.Control[0].Kill()
	if err := os.Rename(s.ControlDir(0), filepath.Join(s.Dir, "lost")); err != nil {
		t.Fatal(err)
	}
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	name := lostLog(t, s)
	wantStatus(t, s, "revoked in the log that is lost", alice, 401)
	wantStatus(t, s, "a good token", bob, 200)

	s.Control[0].Kill()
	accept(t, filepath.Join(s.Dir, "control-1.yaml"), name)
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "the new log knows nothing of her", alice, 200)
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "bob"}})
	wantStatus(t, s, "revoked in the new log", bob, 401)
}

var acceptLog = regexp.MustCompile(`--accept-log ([0-9a-f.]+)`)

// lostLog waits until the replica names the log that it holds and is not offered,
// and returns the name.
func lostLog(t *testing.T, s *envoytest.Stack) string {
	t.Helper()
	var offered string
	eventually.True(t, "the replica names the log that it holds and is not offered", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTP[0]+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		found := acceptLog.FindSubmatch(body)
		if found != nil {
			offered = string(found[1])
		}
		return found != nil && res.StatusCode == http.StatusOK
	})
	return offered
}

// accept starts the control endpoint once with --accept-log, and stops it when
// it listens.
func accept(t *testing.T, config, name string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rescind, "control", "--config", config, "--accept-log", name)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	buffer := make([]byte, 4096)
	for !bytes.Contains(said.Bytes(), []byte(`"name":"admin"`)) {
		n, err := stderr.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			t.Fatalf("rescind control --accept-log: wanted it to listen, its output ended: %v\n%s", err, &said)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, stderr)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
