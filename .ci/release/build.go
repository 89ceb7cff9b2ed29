package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// build builds the program for each architecture. The program is static, its paths
// are those of modules, and its build information names the commit.
func (r *release) build(ctx context.Context) error {
	for _, arch := range architectures {
		binary := filepath.Join(r.work, arch, "rescind")
		flags := "-ldflags=-s -w -X main.release=" + r.version + " -X main.commit=" + r.commit
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-mod=readonly", "-tags=release", flags, "-o", binary, "./cmd/rescind") //nolint:gosec // the version has the form of tag
		cmd.Dir = r.root
		cmd.Env = buildEnvironment(os.Environ(), arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build for linux/%s: %w\n%s", arch, err, out)
		}
		if err := r.stamped(binary); err != nil {
			return err
		}
		r.binaries[arch] = binary
	}
	return nil
}

// stamped fails unless the build information of the binary names the commit. Go
// leaves the commit out in a worktree that git worktree made.
func (r *release) stamped(binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	stamp := map[string]string{}
	for _, s := range info.Settings {
		stamp[s.Key] = s.Value
	}
	if stamp["vcs.revision"] != r.commit || stamp["vcs.modified"] != "false" {
		return fmt.Errorf("the binary names the commit %q (modified: %q), not %s: make the release in a clone, not in a worktree", stamp["vcs.revision"], stamp["vcs.modified"], r.commit)
	}
	return nil
}

// buildEnvironment returns the environment of a build. The settings of Go that
// reach the binary are fixed; the folders, the proxies and the toolchain of the
// machine stay.
func buildEnvironment(machine []string, arch string) []string {
	fixed := []string{
		"GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "CGO_ENABLED=0",
		"GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GODEBUG=", "GOWORK=off",
	}
	var env []string
	for _, setting := range machine {
		name, _, _ := strings.Cut(setting, "=")
		if !slices.ContainsFunc(fixed, func(f string) bool { return strings.HasPrefix(f, name+"=") }) {
			env = append(env, setting)
		}
	}
	return append(env, fixed...)
}
