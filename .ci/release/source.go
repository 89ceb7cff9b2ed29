package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// source is a commit that is checked out.
type source struct {
	root    string // the folder of the repository
	version string // as 1.2.3, or 1.2.3-rc.1
	commit  string
	time    time.Time // of the commit
}

// tag is the form of a tag that names a version (semver.org, without metadata).
var tag = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

// readSource describes the repository around the folder dir. A commit without a
// tag gets the version 0.0.0 with the commit's time and hash, as Go gives it. It
// fails if a file differs from the commit.
func readSource(ctx context.Context, dir string) (source, error) {
	var s source
	root, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return s, err
	}
	changes, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return s, err
	}
	if changes != "" {
		return s, fmt.Errorf("commit or remove these changes first, because a release is made from a commit:\n%s", changes)
	}
	commit, err := git(ctx, root, "show", "--no-patch", "--format=%H %cI", "HEAD")
	if err != nil {
		return s, err
	}
	hash, at, _ := strings.Cut(commit, " ")
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return s, fmt.Errorf("the time of commit %s: %w", hash, err)
	}
	tags, err := git(ctx, root, "tag", "--points-at", "HEAD", "--list", "v*")
	if err != nil {
		return s, err
	}
	version, err := versionOf(strings.Fields(tags), hash, when.UTC())
	return source{root: root, version: version, commit: hash, time: when.UTC()}, err
}

// versionOf returns the version of a commit with these tags. It fails if two of
// them name a version, because nobody can tell which one is meant.
func versionOf(tags []string, hash string, when time.Time) (string, error) {
	var versions []string
	for _, name := range tags {
		if tag.MatchString(name) {
			versions = append(versions, strings.TrimPrefix(name, "v"))
		}
	}
	switch len(versions) {
	case 0:
		return fmt.Sprintf("0.0.0-%s-%.12s", when.Format("20060102150405"), hash), nil
	case 1:
		return versions[0], nil
	}
	return "", fmt.Errorf("the commit has the tags v%s: remove all but one", strings.Join(versions, ", v"))
}

// git runs git in a folder, and returns its output without the last newline.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // the callers name the arguments
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("git %s in %s: %w: %s", strings.Join(args, " "), dir, err, bytes.TrimSpace(exit.Stderr))
	}
	return strings.TrimRight(string(out), "\n"), err
}
