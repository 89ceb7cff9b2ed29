package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The module for Envoy is for its architecture, has the functions that Envoy calls, and needs nothing
// but an old glibc. It is one and the same file in the image, the archive and the list
// of parts; the tests of the packages look for it there.
func TestTheModule(t *testing.T) {
	for _, arch := range architectures {
		dir := t.TempDir()
		unpackGzip(t, of(t, "linux_"+arch+".tar.gz"), dir)
		path := filepath.Join(dir, "rescind_"+version+"_linux_"+arch, moduleName)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(rootOf(t, arch), moduleFolder, moduleName)); err != nil || !bytes.Equal(got, text) {
			t.Errorf("linux/%s: the module of the image differs from that of the archive (%v)", arch, err)
		}
		wantPart(t, arch, fmt.Sprintf("%x", sha256.Sum256(text)))

		f, err := elf.NewFile(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != want || f.Type != elf.ET_DYN {
			t.Errorf("linux/%s: the module is a %s for %s, want a shared library for %s", arch, f.Type, f.Machine, want)
		}
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
			return s.Name == "envoy_dynamic_module_on_program_init" && s.Section != elf.SHN_UNDEF
		}) {
			t.Errorf("linux/%s: the module does not export envoy_dynamic_module_on_program_init", arch)
		}
		libraries, err := f.ImportedLibraries()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range libraries {
			if name != "libc.so.6" && name != "ld-linux-x86-64.so.2" && name != "ld-linux-aarch64.so.1" {
				t.Errorf("linux/%s: the module needs %s, want libc alone", arch, name)
			}
		}
		if need, err := neededGlibc(path); err != nil || older(newestGlibc, need) {
			t.Errorf("linux/%s: the module needs glibc %s (%v), want at most %s", arch, need, err, newestGlibc)
		}
	}
}

func unpackGzip(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	unpackFrom(t, z, dir)
}

// wantPart fails the test unless the list of parts has the module with this SHA-256,
// and names its compiler.
func wantPart(t *testing.T, arch, sum string) {
	t.Helper()
	for _, c := range *listOfParts(t, arch).Components {
		if c.Name == moduleName {
			if got := (*c.Hashes)[0].Value; got != sum {
				t.Errorf("linux/%s: the list of parts has the module with the SHA-256 %s, want %s", arch, got, sum)
			}
			if got := (*c.Properties)[0]; got.Name != "compiler" || got.Value == "" {
				t.Errorf("linux/%s: the list of parts has %v about the module, want its compiler", arch, got)
			}
			return
		}
	}
	t.Errorf("linux/%s: the list of parts has no %s", arch, moduleName)
}

func TestVersionsOfGlibc(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"", "2.4", true}, {"2.4", "2.34", true}, {"2.34", "2.4", false}, {"2.2.5", "2.34", true}, {"2.34", "2.34", false}, {"2.34", "2.34.1", true}, {"2.34", "2.38", true}, {"3.0", "2.38", false}} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("older(%q, %q) is %v, want %v", c.a, c.b, got, c.want)
		}
	}
}
