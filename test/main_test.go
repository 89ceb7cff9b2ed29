// Package test plays rescind from outside: the real binary, a real Envoy and a
// real issuer, over real connections. It imports the code that runs them, the
// client of Envoy's protocol, and the wire format of the feed.
package test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/teststack"
)

var (
	scratch string // a folder that is removed at the end
	rescind string // the binary under test
	gateway string // an Envoy; empty if there is none
	noEnvoy error  // why
	skipped atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "rescind-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	if rescind, err = build(scratch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	gateway, noEnvoy = envoytest.Find(ctx, "", func(note string) { fmt.Println(note) })
	if noEnvoy != nil && !errors.Is(noEnvoy, envoytest.ErrNoEnvoy) {
		panic(noEnvoy)
	}
	code := m.Run()
	if n := skipped.Load(); n > 0 {
		fmt.Printf("SKIPPED %d tests: %v\n", n, noEnvoy)
	}
	return code
}

// build returns the binary under test: the one that RESCIND_BINARY names, or else a
// new one of this source.
func build(dir string) (string, error) {
	if named := os.Getenv("RESCIND_BINARY"); named != "" {
		return filepath.Abs(named)
	}
	binary := filepath.Join(dir, "rescind")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "rescind/cmd/rescind")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s%w", out, err)
	}
	return binary, nil
}

// needEnvoy ends a test for which there is no Envoy: in CI as a failure.
func needEnvoy(t *testing.T) {
	t.Helper()
	if noEnvoy == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(noEnvoy)
	}
	skipped.Add(1)
	t.Skip(noEnvoy)
}

// withoutRace skips a test under the race detector. Such a test reads documents or
// answers, measures, or runs programs of other authors. The tests of faults, of
// reloads and of the gateway run the same code of the binary at the same time as
// other code, so a race shows there. CI runs every test without the detector too.
func withoutRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("this test runs without the race detector: go test ./test")
	}
}

// start runs a stack until the test ends. If the test fails, the logs of the parts
// are shown.
func start(t *testing.T, o envoytest.Options) *envoytest.Stack {
	t.Helper()
	return startIn(t, t.TempDir(), o)
}

// startIn is start in a folder that exists. The binary under test runs unless o
// names another.
func startIn(t *testing.T, dir string, o envoytest.Options) *envoytest.Stack {
	t.Helper()
	needEnvoy(t)
	o.Binary, o.Envoy, o.Dir = cmp.Or(o.Binary, rescind), gateway, dir
	return teststack.Start(t, o)
}
