package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// sums is the name of the file that checksums writes.
const sums = "SHA256SUMS"

// checksums writes the SHA-256 of each file of the release, in the form that
// sha256sum --check reads.
func (r *release) checksums(context.Context) error {
	text, err := checksumsOf(r.out)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, sums), text, 0o644) //nolint:gosec // a release is public
}

// checksumsOf returns a line for each file in a folder, sorted by name, without
// one for the checksums themselves.
func checksumsOf(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, e := range entries {
		if e.Name() == sums {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		_ = f.Close()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&text, "%x  %s\n", h.Sum(nil), e.Name())
	}
	return text.Bytes(), nil
}
