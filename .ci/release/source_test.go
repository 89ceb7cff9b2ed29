package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheVersionOfACommit(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		tags        string
		want, fault string
	}{
		{"v1.2.3", "1.2.3", ""},
		{"v1.2.3-rc.1", "1.2.3-rc.1", ""},
		{"v1.2.3 vendor-drop", "1.2.3", ""},
		{"", "0.0.0-20260102030405-0123456789ab", ""},
		{"v1.2", "0.0.0-20260102030405-0123456789ab", ""},
		{"v01.2.3", "0.0.0-20260102030405-0123456789ab", ""},
		{"v1.2.3+meta", "0.0.0-20260102030405-0123456789ab", ""},
		{"v1.2.3 v1.2.4", "", "remove all but one"},
	} {
		got, err := versionOf(strings.Fields(c.tags), hash, at)
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("tags %q: got %q and %v, want %q and a fault with %q", c.tags, got, err, c.want, c.fault)
		}
	}
}

// Nothing is built from files that no commit has, and nothing is overwritten.
func TestAReleaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := clone(dir); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), dir, out); err == nil || !strings.Contains(err.Error(), "exists: remove it") {
		t.Errorf("with a folder that exists: got %v, want a refusal", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cmd", "new.go"), []byte("package cmd\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), dir, out+"2"); err == nil || !strings.Contains(err.Error(), "cmd/new.go") {
		t.Errorf("with a file that is not committed: got %v, want a refusal with its name", err)
	}
	if _, err := os.Stat(out + "2"); err == nil {
		t.Error("a refused release left its folder, want none")
	}
}
