// Command release makes a release from the commit that is checked out: go -C
// .ci/release run . writes the folder dist at the root of the repository.
//
// # Reproducible
//
// The same commit, built with the same versions of Go and gcc, makes the same bytes
// in any folder and on any machine. So every time in a file is the time of the commit,
// every list has an order, the environment of the build is fixed, and a change that
// is not committed is refused. The version comes from the tag of the commit.
//
// # Why a program of our own
//
// ko and GoReleaser need a registry or a Docker engine for an image of several
// architectures, or a base image from a registry. The parts that are easy to get
// wrong are libraries here: go-containerregistry writes the image, nfpm writes the
// packages, and cyclonedx-gomod writes the lists of parts (SBOM).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() { os.Exit(status()) }

func status() int {
	out := flag.String("out", "", "the folder to write, which must not exist (default: dist at the root of the repository)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, ".", *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		return 1
	}
	return 0
}

// run writes the release of the repository around the folder dir into the folder
// out. It writes everything or nothing.
func run(ctx context.Context, dir, out string) (err error) {
	s, err := readSource(ctx, dir)
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(s.root, "dist")
	}
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s exists: remove it, or name another folder with -out", out)
	}
	staging, err := os.MkdirTemp(filepath.Dir(out), ".release-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(staging) }()
	finished := filepath.Join(staging, "finished")
	r := &release{source: s, work: filepath.Join(staging, "work"), out: finished, binaries: map[string]string{}, module: map[string]string{}}
	for _, folder := range []string{r.work, r.out} {
		if err := os.Mkdir(folder, 0o755); err != nil { //nolint:gosec // a release is public
			return err
		}
	}
	for _, step := range []func(context.Context) error{r.build, r.modules, r.boms, r.completions, r.archives, r.packages, r.image, r.checksums} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := os.Rename(finished, out); err != nil {
		return err
	}
	fmt.Printf("%s is version %s of commit %s\n", out, s.version, s.commit)
	return nil
}

// architectures are those of the image, the packages and the archives.
var architectures = []string{"amd64", "arm64"}

// release is one release in the making. One goroutine owns it.
type release struct {
	source
	work     string            // a folder for files that are no part of the release
	out      string            // the folder of the release
	binaries map[string]string // by architecture, once build has run
	module   map[string]string // for Envoy, by architecture, once modules has run
}

// path returns the path of a file of the release. The file's name begins with the
// product's name and the version.
func (r *release) path(rest string) string {
	return filepath.Join(r.out, "rescind_"+r.version+"_"+rest)
}
