package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// version is the tag of the commit that the tests release.
const version = "1.2.3"

// scratch is a folder of the whole run. A test that continues in namespaces of its
// own finds it in the environment.
var scratch = os.Getenv("RELEASE_SCRATCH")

func TestMain(m *testing.M) {
	if scratch != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "rescind-release-")
	if err != nil {
		panic(err)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// first and second are releases of the same commit, made in two folders.
var (
	first = sync.OnceValues(func() (string, error) {
		source := filepath.Join(scratch, "first")
		if err := clone(source); err != nil {
			return "", err
		}
		return releaseOf(source)
	})
	second = sync.OnceValues(func() (string, error) {
		if _, err := first(); err != nil {
			return "", err
		}
		source := filepath.Join(scratch, "a folder with another name")
		if out, err := exec.Command("git", "clone", "--quiet", filepath.Join(scratch, "first"), source).CombinedOutput(); err != nil {
			return "", fmt.Errorf("git clone: %w: %s", err, out)
		}
		return releaseOf(source)
	})
)

// dist returns the folder of the first release.
func dist(t *testing.T) string {
	t.Helper()
	if os.Getenv("RELEASE_SCRATCH") != "" {
		return filepath.Join(scratch, "first-dist")
	}
	dir, err := first()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// of returns the path of a file of the first release.
func of(t *testing.T, rest string) string {
	t.Helper()
	return filepath.Join(dist(t), "rescind_"+version+"_"+rest)
}

// releaseOf makes a release of the repository in a folder.
func releaseOf(source string) (string, error) {
	out := source + "-dist"
	return out, run(context.Background(), filepath.Join(source, ".ci", "release"), out)
}

// clone puts the files of this repository, changes included, into a new repository.
// There they are one commit with a tag.
func clone(dir string) error {
	list, err := exec.Command("git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return err
	}
	for path := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		from := filepath.Join("../..", path)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // deleted, and the deletion is not committed
		}
		if err != nil {
			return err
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, text, info.Mode()); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all", "--force"}, {"commit", "--quiet", "--message=release"}, {"tag", "v" + version}} {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", args, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
