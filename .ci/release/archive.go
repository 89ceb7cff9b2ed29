package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// shells are those that have a file of completions.
var shells = []string{"bash", "fish", "zsh"}

// completions writes the completions of each shell. The program itself prints
// them, so one of the binaries must run on this machine.
func (r *release) completions(ctx context.Context) error {
	binary := r.binaries[runtime.GOARCH]
	if runtime.GOOS != "linux" || binary == "" {
		return errors.New("a release is made on linux/amd64 or linux/arm64, because the program writes its own completions")
	}
	for _, shell := range shells {
		text, err := exec.CommandContext(ctx, binary, "completion", shell).Output() //nolint:gosec // the binary that was just built
		if err != nil {
			return fmt.Errorf("rescind completion %s: %w", shell, err)
		}
		if err := os.WriteFile(filepath.Join(r.work, "completion."+shell), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// archives writes an archive of each architecture: the program, its completions,
// the module for Envoy, the commented examples, and the documents.
func (r *release) archives(context.Context) error {
	for _, arch := range architectures {
		top := "rescind_" + r.version + "_linux_" + arch + "/"
		files := []file{
			{name: top, mode: 0o755},
			{name: top + "LICENSE", mode: 0o644, from: filepath.Join(r.root, "LICENSE")},
			{name: top + "README.md", mode: 0o644, from: filepath.Join(r.root, "README.md")},
			{name: top + "authz.example.yaml", mode: 0o644, from: filepath.Join(r.root, "cmd", "rescind", "authz.example.yaml")},
			{name: top + "completions/", mode: 0o755},
		}
		for _, shell := range shells {
			files = append(files, file{name: top + "completions/rescind." + shell, mode: 0o644, from: filepath.Join(r.work, "completion."+shell)})
		}
		files = append(files,
			file{name: top + "control.example.yaml", mode: 0o644, from: filepath.Join(r.root, "cmd", "rescind", "control.example.yaml")},
			file{name: top + "envoy-inprocess.yaml", mode: 0o644, from: filepath.Join(r.root, "envoy", "envoy-inprocess.yaml")},
			file{name: top + "envoy.yaml", mode: 0o644, from: filepath.Join(r.root, "envoy", "envoy.yaml")},
			file{name: top + moduleName, mode: 0o644, from: r.module[arch]},
			file{name: top + "rescind", mode: 0o755, from: r.binaries[arch]},
			file{name: top + "rescind.cdx.json", mode: 0o644, from: r.path("linux_" + arch + ".cdx.json")},
		)
		if err := r.archive("linux_"+arch+".tar.gz", files); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) archive(name string, files []file) error {
	f, err := os.Create(r.path(name))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	return errors.Join(writeTar(z, r.time, files), z.Close(), f.Close())
}
