package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// Two people who build one commit get the same bytes, so each can check a
// published release.
func TestTheSameCommitMakesTheSameReleaseInAnyFolder(t *testing.T) {
	one, err := first()
	if err != nil {
		t.Fatal(err)
	}
	other, err := second()
	if err != nil {
		t.Fatal(err)
	}
	got, err := checksumsOf(other)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(one, sums))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the release of the second folder has the sums\n%s\nwant those of the first\n%s", got, want)
	}
}

// TestTheImageIsNothingButTheProgramAndTheModule holds the users of the image to its table of
// files: a new file is a decision.
func TestTheImageIsNothingButTheProgramAndTheModule(t *testing.T) {
	images := imagesOf(t)
	if len(images) != len(architectures) {
		t.Fatalf("the index has %d images, want one for each of %v", len(images), architectures)
	}
	for _, arch := range architectures {
		img := images[arch]
		if img == nil {
			t.Errorf("the index has no image of linux/%s, want one", arch)
			continue
		}
		if err := validate.Image(img); err != nil {
			t.Errorf("linux/%s: %v, want a valid image", arch, err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := config.Config
		if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/usr/local/bin/rescind"}) || len(c.Cmd) > 0 {
			t.Errorf("linux/%s: user %q, entry point %q and command %q, want 65532:65532, /usr/local/bin/rescind and none", arch, c.User, c.Entrypoint, c.Cmd)
		}
		if config.Architecture != arch || config.OS != "linux" || config.Created.IsZero() {
			t.Errorf("linux/%s: the configuration says %s/%s of %s", arch, config.OS, config.Architecture, config.Created)
		}
		if c.Labels["org.opencontainers.image.version"] != version || len(c.Labels["org.opencontainers.image.revision"]) != 40 {
			t.Errorf("linux/%s: the labels are %v, want version %s and a commit", arch, c.Labels, version)
		}
		got, binary := filesOf(t, img)
		want := []string{
			"drwxr-xr-x 0 etc/",
			"-rw-r--r-- 0 etc/group",
			"-rw-r--r-- 0 etc/passwd",
			"drwxr-xr-x 0 etc/rescind/",
			"drwxr-xr-x 0 etc/ssl/",
			"drwxr-xr-x 0 etc/ssl/certs/",
			"-rw-r--r-- 0 etc/ssl/certs/ca-certificates.crt",
			"dtrwxrwxrwx 0 tmp/",
			"drwxr-xr-x 0 usr/",
			"drwxr-xr-x 0 usr/lib/",
			"drwxr-xr-x 0 usr/lib/rescind/",
			"-rw-r--r-- 0 usr/lib/rescind/librescind.so",
			"drwxr-xr-x 0 usr/local/",
			"drwxr-xr-x 0 usr/local/bin/",
			"-rwxr-xr-x 0 usr/local/bin/rescind",
			"drwxr-xr-x 0 var/",
			"drwxr-xr-x 0 var/lib/",
			"drwx------ 65532 var/lib/rescind/",
		}
		if !slices.Equal(got, want) {
			t.Errorf("linux/%s holds\n%s\nwant\n%s", arch, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		static(t, arch, binary)
	}
}

// static fails the test unless the program needs no other file, and says how it
// was built.
func static(t *testing.T, arch string, binary []byte) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if f.Machine != machine {
		t.Errorf("linux/%s: the program is for %s, want %s", arch, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("linux/%s: the program has a segment %s, want a static one", arch, p.Type)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{"CGO_ENABLED": "0", "-trimpath": "true", "-tags": "release", "vcs": "git", "vcs.modified": "false", "GOARCH": arch} {
		if settings[key] != want {
			t.Errorf("linux/%s: the build information has %s=%q, want %q", arch, key, settings[key], want)
		}
	}
	if info.Main.Version != "v"+version {
		t.Errorf("linux/%s: the version of the main module is %q, want v%s", arch, info.Main.Version, version)
	}
}

// The images for docker load are those of the archive in the OCI layout.
func TestTheImageForDockerIsTheSame(t *testing.T) {
	images := imagesOf(t)
	for _, arch := range architectures {
		img, err := tarball.ImageFromPath(of(t, "linux_"+arch+"_docker.tar"), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := img.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		if want, err := images[arch].ConfigName(); err != nil || got != want {
			t.Errorf("linux/%s: the image for docker load has the ID %s, want %s (%v)", arch, got, want, err)
		}
	}
}

func TestTheCertificatesOfAuthorities(t *testing.T) {
	pool := x509.NewCertPool()
	text := authorities()
	if n := bytes.Count(text, []byte("BEGIN CERTIFICATE")); n < 100 || !pool.AppendCertsFromPEM(text) {
		t.Errorf("the image has %d certificates of authorities, want at least 100 that can be read", n)
	}
}

// imagesOf returns the images of the archive in the OCI layout, by architecture.
func imagesOf(t *testing.T) map[string]v1.Image {
	t.Helper()
	dir := t.TempDir()
	unpack(t, of(t, "oci.tar"), dir)
	l, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := l.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(entries.Manifests) != 1 {
		t.Fatalf("index.json has %d entries, want one: skopeo and podman ask which one is meant", len(entries.Manifests))
	}
	index, err := outer.ImageIndex(entries.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, m := range manifest.Manifests {
		img, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		images[m.Platform.Architecture] = img
	}
	return images
}

// filesOf returns a line for each file of an image, and the program.
func filesOf(t *testing.T, img v1.Image) (lines []string, program []byte) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.Uid != h.Gid {
				t.Errorf("%s belongs to the user %d and the group %d, want the same number", h.Name, h.Uid, h.Gid)
			}
			lines = append(lines, fmt.Sprintf("%s %d %s", h.FileInfo().Mode(), h.Uid, h.Name))
			if strings.HasSuffix(h.Name, "bin/rescind") {
				if program, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(a[strings.LastIndexByte(a, ' '):], b[strings.LastIndexByte(b, ' '):])
	})
	return lines, program
}

// rootOf unpacks the image of this machine into a folder, with its owners.
func rootOf(t *testing.T, arch string) string {
	t.Helper()
	root := t.TempDir()
	r := mutate.Extract(imagesOf(t)[arch])
	defer r.Close()
	unpackFrom(t, r, root)
	return root
}
