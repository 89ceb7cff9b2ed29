// Package issuers plays rescind behind identity providers of other authors:
// Keycloak, and panva's oidc-provider. Each act of an administrator or a user is
// done at the issuer, and its token is denied by a real Envoy. The tests run only
// when RESCIND_ISSUERS is set, because the first run fetches Keycloak (177 MB).
//
//	RESCIND_ISSUERS=1 go test -v ./test/issuers
//
// RESCIND_LONG=1 does each act five times, and the tables have the medians of the
// times. It also kills Keycloak. RESCIND_BINARY names another binary of the product.
//
// # Programs
//
// Keycloak comes from Maven, oidc-provider from npm. Both programs use their own
// settings, so no address of a registry stands here. Versions and sums are pinned.
// The user's cache directory keeps both. The machine needs Java 17 or later, mvn,
// Node.js 20 or later and npm. A missing program fails the tests.
package issuers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

var (
	rescind string // the binary under test
	gateway string // an Envoy
)

// enabled selects the tests of this package.
var enabled = os.Getenv("RESCIND_ISSUERS") != ""

// long selects the long form.
var long = os.Getenv("RESCIND_LONG") != ""

// rounds returns the number of times that each act is done.
func rounds() int {
	if long {
		return 5
	}
	return 1
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if !enabled {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "rescind-issuers-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if rescind = os.Getenv("RESCIND_BINARY"); rescind == "" {
		rescind = filepath.Join(dir, "rescind")
		if out, err := exec.Command("go", "build", "-o", rescind, "rescind/cmd/rescind").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
			return 1
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if gateway, err = envoytest.Find(ctx, "", func(note string) { fmt.Println(note) }); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// needIssuers skips a test unless RESCIND_ISSUERS is set.
func needIssuers(t *testing.T) {
	t.Helper()
	if !enabled {
		t.Skip("real issuers run on demand: RESCIND_ISSUERS=1 go test -v ./test/issuers")
	}
}
