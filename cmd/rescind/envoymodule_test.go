package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The module is copied whole, over an older one too, and every user may read it.
func TestEnvoyModule(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "given"), filepath.Join(dir, "librescind.so")
	text := "\x7fELF and more"
	for path, content := range map[string]string{from: text, to: "an older one"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	status := run([]string{"envoy-module", dir, "--module-file", from}, strings.NewReader(""), &out, &errs, os.Getenv)
	if status != 0 || out.String() != to+"\n" {
		t.Errorf("got status %d, %q and %q, want 0 and the path %s", status, &out, &errs, to)
	}
	got, err := os.ReadFile(to)
	if err != nil || string(got) != text {
		t.Errorf("the copy is %q (%v), want %q", got, err, text)
	}
	if info, err := os.Stat(to); err != nil || info.Mode() != 0o644 {
		t.Errorf("the copy has the mode %v (%v), want 0644", info.Mode(), err)
	}
}

// Without a module the command says where to find one, and leaves the folder alone.
func TestEnvoyModuleIsMissing(t *testing.T) {
	dir := t.TempDir()
	var out, errs bytes.Buffer
	status := run([]string{"envoy-module", dir, "--module-file", filepath.Join(dir, "none")}, strings.NewReader(""), &out, &errs, os.Getenv)
	if want := "the image and the packages of rescind have it"; status != statusFailed || !strings.Contains(errs.String(), want) {
		t.Errorf("got status %d and %q, want %d and %q in it", status, &errs, statusFailed, want)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("the folder has %v, want nothing", files)
	}
}
