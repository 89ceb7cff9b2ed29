// Package interop runs rescind against programs of other authors: the
// OpenTelemetry collector's own receiver, the OpenID provider of zitadel/oidc,
// and go-jose as a second opinion about tokens. It is a module of its own, so
// that the product's go.mod lists only the modules that the product uses. The
// tests of rescind/test need no other program than Envoy; those here need these
// libraries.
package interop

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/teststack"
)

// rescind is the binary under test. It is built from the product's own module,
// with the versions of that module.
var rescind string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rescind-interop-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	rescind = filepath.Join(dir, "rescind")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", rescind, "./cmd/rescind").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		return 1
	}
	return m.Run()
}

// start runs a whole rescind behind an Envoy. If the test fails, the logs are
// shown.
func start(t *testing.T, o envoytest.Options) *envoytest.Stack {
	t.Helper()
	return teststack.Start(t, options(t, o))
}

// options adds the programs and a folder.
func options(t *testing.T, o envoytest.Options) envoytest.Options {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	gateway, err := envoytest.Find(ctx, "", func(note string) { t.Log(note) })
	if err != nil {
		t.Fatal(err)
	}
	o.Binary, o.Envoy, o.Dir = rescind, gateway, t.TempDir()
	return o
}

// revoke revokes on every replica and returns the revocation's ID.
func revoke(t *testing.T, s *envoytest.Stack, body map[string]any) string {
	t.Helper()
	full := map[string]any{"issuer": s.Issuer.URL()}
	maps.Copy(full, body)
	var revoked struct{ ID string }
	a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?wait=all&timeout=10s", full, &revoked)
	if err != nil || a.Status != http.StatusCreated {
		t.Fatalf("revoke %v: wanted 201, got %d %s %v", body, a.Status, a.Body, err)
	}
	return revoked.ID
}
