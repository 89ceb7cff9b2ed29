package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// worthKeeping is the number of revocations from which a store is kept.
const worthKeeping = 500_000

// kept is the folder of a control endpoint's store, filled by the product and kept
// for later runs.
type kept struct{ path string }

// storeEdition changes when the imported revocations do.
const storeEdition = 1

func keptStore(entries int) (kept, error) {
	cache, err := os.UserCacheDir()
	return kept{filepath.Join(cache, "rescind", fmt.Sprintf("bench-%d-%d", storeEdition, entries))}, err
}

// usable reports whether the folder is there and its revocations last for long.
func (k kept) usable() bool {
	info, err := os.Stat(k.path)
	return err == nil && time.Since(info.ModTime()) < 7*24*time.Hour
}

func (k kept) copyTo(dir string) error { return os.CopyFS(dir, os.DirFS(k.path)) }

// keep keeps a copy of a store. The copy gets its name when it is complete.
func (k kept) keep(dir string) error {
	if err := errors.Join(os.RemoveAll(k.path), os.MkdirAll(filepath.Dir(k.path), 0o750)); err != nil {
		return err
	}
	part, err := os.MkdirTemp(filepath.Dir(k.path), "bench-part-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(part) }()
	if err := os.CopyFS(part, os.DirFS(dir)); err != nil {
		return err
	}
	now := time.Now()
	return errors.Join(os.Chtimes(part, now, now), os.Rename(part, k.path))
}
