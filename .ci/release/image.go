package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nonroot is the user and the group of the image, as in other images without a
// shell.
const nonroot = 65532

// moduleFolder holds the module for Envoy in the image and in the packages.
const moduleFolder = "usr/lib/rescind/"

// image writes the container image: one archive in the OCI layout that holds both
// architectures, and one for docker load of each architecture.
func (r *release) image(context.Context) error {
	base, err := layer(r.time, baseFiles())
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	for _, arch := range architectures {
		img, err := r.imageOf(arch, base)
		if err != nil {
			return fmt.Errorf("the image of linux/%s: %w", arch, err)
		}
		platform := &v1.Platform{OS: "linux", Architecture: arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
		reference, err := name.NewTag("rescind:" + r.version)
		if err != nil {
			return err
		}
		if err := tarball.WriteToFile(r.path("linux_"+arch+"_docker.tar"), reference, img); err != nil {
			return err
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Println("image", digest)
	return r.writeLayout(index)
}

// writeLayout writes the archive in the OCI layout.
func (r *release) writeLayout(index v1.ImageIndex) error {
	dir := filepath.Join(r.work, "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	err = l.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": r.version,                                // read by skopeo and podman
		"io.containerd.image.name":          "docker.io/library/rescind:" + r.version, // read by containerd
	}))
	if err != nil {
		return err
	}
	var files []file
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == ".":
			return err
		case d.IsDir():
			files = append(files, file{name: path + "/", mode: 0o755})
		default:
			files = append(files, file{name: path, mode: 0o644, from: filepath.Join(dir, path)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	f, err := os.Create(r.path("oci.tar"))
	if err != nil {
		return err
	}
	if err := writeTar(f, r.time, files); err != nil {
		return err
	}
	return f.Close()
}

// imageOf returns the image of one architecture: the base, the program, and the module
// for Envoy, which rescind envoy-module copies.
func (r *release) imageOf(arch string, base v1.Layer) (v1.Image, error) {
	program, err := layer(r.time, []file{{name: "usr/local/bin/rescind", mode: 0o755, from: r.binaries[arch]}})
	if err != nil {
		return nil, err
	}
	module, err := layer(r.time, []file{{name: moduleFolder + moduleName, mode: 0o644, from: r.module[arch]}})
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: r.time},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint:   []string{"/usr/local/bin/rescind"},
			User:         fmt.Sprintf("%d:%d", nonroot, nonroot),
			WorkingDir:   "/var/lib/rescind",
			Env:          []string{"PATH=/usr/local/bin", "HOME=/var/lib/rescind"},
			ExposedPorts: map[string]struct{}{"9191/tcp": {}, "9192/tcp": {}, "9390/tcp": {}, "9391/tcp": {}, "9393/tcp": {}},
			Labels:       r.labels(),
		},
	})
	if err != nil {
		return nil, err
	}
	history := func(text string) v1.History { return v1.History{Created: v1.Time{Time: r.time}, CreatedBy: text} }
	return mutate.Append(img,
		mutate.Addendum{Layer: base, History: history("the user, the certificates of authorities, and the state's folder")},
		mutate.Addendum{Layer: program, History: history("the program")},
		mutate.Addendum{Layer: module, History: history("the module for Envoy")})
}

// labels returns the labels of the image, as the OCI image specification names
// them.
func (r *release) labels() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       "rescind",
		"org.opencontainers.image.description": "Denies revoked JWTs at Envoy: the replica, the control endpoint and their commands",
		"org.opencontainers.image.version":     r.version,
		"org.opencontainers.image.revision":    r.commit,
		"org.opencontainers.image.created":     r.time.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
	}
}

// baseFiles returns the files of the image without the program.
func baseFiles() []file {
	folder := func(name string) file { return file{name: name, mode: 0o755} }
	return []file{
		folder("etc/"),
		{name: "etc/group", mode: 0o644, text: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonroot)},
		{name: "etc/passwd", mode: 0o644, text: fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/var/lib/rescind:/sbin/nologin\n", nonroot, nonroot)},
		folder("etc/rescind/"),
		folder("etc/ssl/"), folder("etc/ssl/certs/"),
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, text: authorities()},
		{name: "tmp/", mode: 0o1777},
		folder("usr/"), folder("usr/lib/"), folder(moduleFolder), folder("usr/local/"), folder("usr/local/bin/"),
		folder("var/"), folder("var/lib/"),
		{name: "var/lib/rescind/", mode: 0o700, owner: nonroot},
	}
}

// authorities returns the certificates of authorities in PEM form. They come from
// a module of the Go project, so go.sum pins them and no file of the build machine
// gets into the image. A root with a constraint that a PEM file cannot express,
// such as an end of trust, is left out.
func authorities() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes all
		}
	}
	return text.Bytes()
}

// layer returns a layer of an image.
func layer(at time.Time, files []file) (v1.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(writeTar(w, at, files)) }()
		return r, nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
