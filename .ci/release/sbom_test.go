package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// The list of parts has every module that the binary links, the standard library, and
// the module for Envoy.
func TestTheListOfParts(t *testing.T) {
	images := imagesOf(t)
	for _, arch := range architectures {
		bom := listOfParts(t, arch)
		_, program := filesOf(t, images[arch])
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"std": info.GoVersion, moduleName: version}
		for _, d := range info.Deps {
			want[d.Path] = d.Version
		}
		got := map[string]string{}
		for _, c := range *bom.Components {
			got[c.Name] = c.Version
		}
		for path, v := range want {
			if got[path] != v {
				t.Errorf("linux/%s: the list of parts has %s %q, want %q", arch, path, got[path], v)
			}
		}
		if len(got) != len(want) {
			t.Errorf("linux/%s: the list of parts has %d parts, want %d", arch, len(got), len(want))
		}
	}
}

// listOfParts returns the list of parts of the release for an architecture.
func listOfParts(t *testing.T, arch string) (bom cdx.BOM) {
	t.Helper()
	f, err := os.Open(of(t, "linux_"+arch+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := cdx.NewBOMDecoder(f, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	return bom
}
