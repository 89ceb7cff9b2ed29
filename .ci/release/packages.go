package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // registers its packager
	_ "github.com/goreleaser/nfpm/v2/rpm" // registers its packager
)

// packages writes the .deb and the .rpm of each architecture.
func (r *release) packages(context.Context) error {
	if err := r.configurations(); err != nil {
		return err
	}
	for _, arch := range architectures {
		for _, format := range []string{"deb", "rpm"} {
			if err := r.packageOf(format, arch); err != nil {
				return fmt.Errorf("the %s of %s: %w", format, arch, err)
			}
		}
	}
	return nil
}

func (r *release) packageOf(format, arch string) (err error) {
	folder := filepath.Join(r.root, ".ci", "release", "package")
	values := map[string]string{
		"SOURCE": r.root, "PACKAGE": folder, "WORK": r.work,
		"BINARY": r.binaries[arch], "MODULE": r.module[arch], "BOM": r.path("linux_" + arch + ".cdx.json"),
		"VERSION": r.version, "ARCH": arch,
	}
	config, err := nfpm.ParseFileWithEnvMapping(filepath.Join(folder, "nfpm.yaml"), func(name string) string { return values[name] })
	if err != nil {
		return err
	}
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	info.MTime = r.time
	info.Scripts.PostInstall = filepath.Join(folder, "postinstall.sh")
	info.Scripts.PreRemove = filepath.Join(folder, "preremove.sh")
	info.Scripts.PostRemove = filepath.Join(folder, "postremove.sh")
	for _, c := range info.Contents {
		c.FileInfo.MTime = r.time
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(r.out, packager.ConventionalFileName(info)))
	if err != nil {
		return err
	}
	if err := packager.Package(info, f); err != nil {
		return err
	}
	return f.Close()
}

// configurations writes the configurations of the packages: the commented examples
// of the product. The replica's token is where systemd puts it.
func (r *release) configurations() error {
	const here, there = "token_file: replica.token", "token_file: ${CREDENTIALS_DIRECTORY:-/etc/rescind}/replica.token"
	for _, name := range []string{"authz", "control"} {
		text, err := os.ReadFile(filepath.Join(r.root, "cmd", "rescind", name+".example.yaml"))
		if err != nil {
			return err
		}
		if name == "authz" {
			if strings.Count(string(text), here) != 1 {
				return fmt.Errorf("authz.example.yaml has no line %q, or more than one", here)
			}
			text = []byte(strings.Replace(string(text), here, there, 1))
		}
		if err := os.WriteFile(filepath.Join(r.work, name+".yaml"), text, 0o600); err != nil { //nolint:gosec // one of two names
			return err
		}
	}
	return nil
}
