package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// compilers are the C compilers of the module for Envoy, by architecture.
var compilers = map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}

// moduleName is the file that Envoy looks for.
const moduleName = "librescind.so"

// newestGlibc is the version of glibc that the module may need: that of Debian 12,
// Ubuntu 22.04 and RHEL 9.
const newestGlibc = "2.34"

// modules builds the module for Envoy for each architecture, with the command that
// is documented. The same compiler makes the same bytes in every folder.
func (r *release) modules(ctx context.Context) error {
	for _, arch := range architectures {
		if _, err := exec.LookPath(compilers[arch]); err != nil {
			return fmt.Errorf("the module for Envoy on linux/%s needs the C compiler %s: on Debian or Ubuntu install make, gcc, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross (on arm64 gcc-x86-64-linux-gnu and libc6-dev-amd64-cross): %w", arch, compilers[arch], err)
		}
		path, err := r.buildModule(ctx, arch)
		if err != nil {
			return err
		}
		need, err := neededGlibc(path)
		if err != nil {
			return err
		}
		if older(newestGlibc, need) {
			return fmt.Errorf("the module for Envoy on linux/%s needs glibc %s, and users have %s: keep to older functions, or build on an older distribution", arch, need, newestGlibc)
		}
		r.module[arch] = path
	}
	return nil
}

// buildModule builds the module in a folder whose name has no space, which make
// demands.
func (r *release) buildModule(ctx context.Context, arch string) (string, error) {
	dir, err := os.MkdirTemp("", "rescind-module-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.CommandContext(ctx, "make", "--silent", "-C", filepath.Join(r.root, "envoy", "module"), "OUT="+dir, "CC="+compilers[arch]) //nolint:gosec // fixed names
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}                                                                            // none of the variables that change the output of gcc
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make -C envoy/module for linux/%s: %w\n%s", arch, err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, moduleName)) //nolint:gosec // just made
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.work, arch, moduleName)
	return path, os.WriteFile(path, text, 0o600) //nolint:gosec // in the folder of this release
}

// neededGlibc returns the newest version of glibc that a library asks for.
func neededGlibc(path string) (newest string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	symbols, err := f.ImportedSymbols()
	if err != nil {
		return "", err
	}
	for _, s := range symbols {
		if v, ok := strings.CutPrefix(s.Version, "GLIBC_"); ok && older(newest, v) {
			newest = v
		}
	}
	return newest, nil
}

// older reports whether the version a, such as 2.4, is before b, such as 2.34.
func older(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range y {
		if i == len(x) {
			return true
		}
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return m < n
		}
	}
	return false
}

// modulePart describes the module in the list of parts: its sum, its compiler, and
// the glibc that it needs.
func (r *release) modulePart(arch string) (cdx.Component, error) {
	path := r.module[arch]
	text, err := os.ReadFile(path) //nolint:gosec // made by modules
	if err != nil {
		return cdx.Component{}, err
	}
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return cdx.Component{}, err
	}
	section := f.Section(".comment")
	if section == nil {
		return cdx.Component{}, fmt.Errorf("%s does not name its compiler in a section .comment", path)
	}
	compiler, err := section.Data()
	if err != nil {
		return cdx.Component{}, err
	}
	need, err := neededGlibc(path)
	if err != nil {
		return cdx.Component{}, err
	}
	return cdx.Component{
		Type: cdx.ComponentTypeLibrary, BOMRef: moduleName, Name: moduleName, Version: r.version,
		Description: "The module for Envoy",
		Hashes:      &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(text))}},
		Licenses:    &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
		Properties: &[]cdx.Property{
			{Name: "compiler", Value: string(bytes.TrimRight(compiler, "\x00"))},
			{Name: "needs", Value: "glibc " + need},
		},
	}, nil
}
