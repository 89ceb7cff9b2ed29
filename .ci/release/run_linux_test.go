package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// A container of the image, without a container engine: its files as the root
// folder, its user, its environment, its entry point. A deployment that init
// wrote there becomes ready, and a revocation is in force.
func TestTheImageRuns(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()

	begun := time.Now()
	c := container{root: rootOf(t, runtime.GOARCH)}
	t.Logf("the image unpacks in %s, to %d bytes", time.Since(begun).Round(time.Millisecond), sizeOf(t, c.root))

	if got, want := c.run(t, "version"), "rescind "+version+"\ncommit  "; !strings.HasPrefix(got, want) {
		t.Errorf("rescind version prints %q, want it to begin with %q", got, want)
	}
	c.run(t, "init", "edge", "--issuer", issuer.URL(), "--audience", "api")

	started := time.Now()
	c.start(t, "edge", "control", "--config", "control.yaml")
	c.start(t, "edge", "authz", "--config", "authz.yaml")
	eventually.True(t, "the replica is ready", func() bool { return ready("http://127.0.0.1:9192/readyz") })
	t.Logf("the control endpoint and the replica are ready %s after their start, %s after the unpacking began", time.Since(started).Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))

	c.env = []string{
		"RESCIND_CONTROL=https://127.0.0.1:9390", "RESCIND_TOKEN_FILE=edge/operator.token",
		"RESCIND_CA_FILE=edge/ca.crt", "RESCIND_CERT_FILE=edge/operator.crt", "RESCIND_KEY_FILE=edge/operator.key",
	}
	if got := c.run(t, "revoke", "--issuer", issuer.URL(), "--sub", "alice", "--wait"); !strings.Contains(got, "in force") {
		t.Errorf("rescind revoke --wait prints %q, want it to say that the revocation is in force", got)
	}
}

// container runs the image as a container engine does.
type container struct {
	root string
	env  []string
}

// command returns a process of the container, in a folder below the working
// directory of the image.
func (c *container) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/usr/local/bin/rescind", args...)
	cmd.Dir = filepath.Join("/var/lib/rescind", dir)
	cmd.Env = append([]string{"PATH=/usr/local/bin", "HOME=/var/lib/rescind"}, c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Credential: &syscall.Credential{Uid: nonroot, Gid: nonroot}}
	return cmd
}

// run runs a command to its end, and returns its output. The test fails if the
// exit status is not 0.
func (c *container) run(t *testing.T, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := c.command(t.Context(), "", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rescind %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
	}
	return string(out)
}

// start starts a server. It ends with the test, by SIGTERM, and must then exit
// with status 0.
func (c *container) start(t *testing.T, dir string, args ...string) {
	t.Helper()
	var log syncbuffer.Buffer
	cmd := c.command(context.Background(), dir, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("rescind %s ended with %v after SIGTERM, want status 0", strings.Join(args, " "), err)
		}
		if t.Failed() {
			t.Logf("rescind %s logged\n%s", strings.Join(args, " "), log.String())
		}
	})
}

// ready reports whether an address answers 200.
func ready(url string) bool {
	answer, err := http.Get(url) //nolint:gosec // loopback
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// sizeOf returns the bytes of all files below a folder.
func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(fmt.Errorf("the size of %s: %w", dir, err))
	}
	return size
}
