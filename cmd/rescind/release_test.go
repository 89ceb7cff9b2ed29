package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A release build mints no tokens: neither the demo nor its issuer is in it.
func TestReleaseBuildHasNoIssuer(t *testing.T) {
	for _, c := range []struct {
		tags string
		want bool
	}{{"", true}, {"release", false}} {
		out, err := exec.Command("go", "list", "-deps", "-tags", c.tags, ".").Output()
		if err != nil {
			t.Fatalf("go list with tags %q: got %v, want nil", c.tags, err)
		}
		for _, pkg := range []string{"rescind/cmd/internal/demo", "rescind/envoy/envoytest", "rescind/jwks/jwkstest"} {
			if got := strings.Contains("\n"+string(out), "\n"+pkg+"\n"); got != c.want {
				t.Errorf("a build with tags %q links %s: %v, want %v", c.tags, pkg, got, c.want)
			}
		}
	}
}

func TestReleaseBuildSaysWhereTheDemoIs(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "rescind")
	if out, err := exec.Command("go", "build", "-tags", "release", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build -tags release: got %v, want nil\n%s", err, out)
	}
	for _, args := range [][]string{{"demo"}, {"demo", "--once", "--port", "0"}} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != statusFailed || !strings.Contains(string(out), "go run ./cmd/rescind demo") {
			t.Errorf("rescind %q: %v\n%s\nwant exit status %d and the command to run from source", args, err, out, statusFailed)
		}
	}
}
