package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"rescind/test/eventually"
)

// A demo whose output nobody reads any more (rescind demo | head -1) leaves no
// process and no folder behind.
func TestDemoLeavesNothingBehind(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	needEnvoy(t)
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	demo := exec.Command(rescind, "demo", "--port", "0")
	demo.Env, demo.Stdout, demo.Stderr = append(os.Environ(), "TMPDIR="+dir), w, &errs
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	defer demo.Process.Kill() //nolint:errcheck // it has ended unless the test fails
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	eventually.Succeeds(t, "the demo has started its parts", func() error {
		logs, err := filepath.Glob(filepath.Join(dir, "rescind-demo-*", "control-3.log"))
		if err == nil && len(logs) == 0 {
			err = errors.New("no log of control-3")
		}
		return err
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); demo.ProcessState.ExitCode() != 1 {
		t.Errorf("the demo ended with %v, want exit status 1: %s", err, &errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v (%v), want nothing", left, err)
	}
	for _, cmdline := range processes(t) {
		if bytes.Contains(cmdline, []byte(dir)) {
			t.Errorf("the demo left the process %q, want none", cmdline)
		}
	}
}

// The story with the module has the same answers, and some more: Envoy answers for
// a token by itself, and an open stream ends with its token.
func TestStoryInProcess(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	needEnvoy(t)
	needCompiler(t)
	dir := t.TempDir()
	demo := exec.CommandContext(t.Context(), rescind, "demo", "--once", "--in-process", "--port", "0")
	demo.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("rescind demo --once --in-process: got %v, want exit status 0\n%s", err, out)
	}
	for _, part := range []string{
		`200 OK, the upstream saw x-jwt-subject: alice; answered inside Envoy: 0 → 1 requests, asked of the replica: (\d+) → (\d+) `,
		`200 OK, a stream that the replica watches  `,
		`reset by Envoy \(1 of the replica's streams\), from revoke to reset:  `,
		`Revoked tokens were used 15 times: 15 denied, 0 let through\. `,
	} {
		if !regexp.MustCompile(part).Match(out) {
			t.Errorf("the story: got no line that matches %q in\n%s", part, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v (%v), want nothing", left, err)
	}
}

// needCompiler ends a test for which there is no C compiler: in CI as a failure.
func needCompiler(t *testing.T) {
	t.Helper()
	for _, program := range []string{"make", "cc"} {
		_, err := exec.LookPath(program)
		if err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("the module for Envoy cannot be built:", err)
	}
}

// processes returns the command lines of all processes.
func processes(t *testing.T) (lines [][]byte) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if line, err := os.ReadFile(path); err == nil { // the others have ended
			lines = append(lines, line)
		}
	}
	return lines
}
