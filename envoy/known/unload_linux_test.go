package known_test

import (
	"debug/elf"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Envoy unloads a module when no configuration uses it any more, and when it ends. The
// thread of the module runs on, so without this flag Envoy crashes.
func TestModuleStaysInMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "make", "-s", "-C", "../module", "OUT="+dir).CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, out)
	}
	f, err := elf.Open(filepath.Join(dir, "librescind.so"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := f.DynValue(elf.DT_FLAGS_1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(flags, func(v uint64) bool { return elf.DynFlag1(v)&elf.DF_1_NODELETE != 0 }) {
		t.Errorf("flags of the module: got %x, want one with NODELETE", flags)
	}
}
