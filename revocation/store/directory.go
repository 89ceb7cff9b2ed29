package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/google/renameio/v2"
)

// format is the version of everything in the directory and in the streams.
const format = 1

const (
	markerName = "rescind-store.json"
	lockName   = "rescind-store.lock"
	dataName   = "nats"

	ballastName = "ballast"
	ballastSize = 8 << 20
)

// marker names the log that owns the directory. Made is false from the moment
// the directory is taken until the log exists. Until then nothing was
// acknowledged, and the creation may begin again.
type marker struct {
	Format int    `json:"format"`
	Log    string `json:"log"`
	Made   bool   `json:"made"`
	// Replaces are the names of the logs that this one takes the place of. A log
	// that was restored from a backup, and takes the place of its own newer
	// self, has a new name: the old one with the generation behind it.
	Replaces   []string `json:"replaces,omitempty"`
	Generation int      `json:"generation,omitempty"`
}

// name returns the name by which followers know the log.
func (m *marker) name() string {
	if m.Generation == 0 {
		return m.Log
	}
	return fmt.Sprintf("%s.%d", m.Log, m.Generation)
}

// accept records that this log takes the place of the one of that name. The
// second time it changes nothing.
func (d *directory) accept(name string) error {
	m := &d.marker
	if slices.Contains(m.Replaces, name) {
		return nil
	}
	if name == m.name() {
		m.Generation++
	}
	m.Replaces = append(m.Replaces, name)
	return d.save()
}

// directory is the locked directory of an embedded log.
type directory struct {
	path   string
	lock   *os.File
	marker marker
}

func openDirectory(path string) (_ *directory, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	d := &directory{path: path}
	d.lock, err = os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.lock.Close()
		return nil, fmt.Errorf("store directory %s is in use by another process: %w", path, err)
	}
	if err := d.identify(); err != nil {
		_ = d.lock.Close()
		return nil, err
	}
	return d, nil
}

// identify reads the marker, or takes an empty directory.
func (d *directory) identify() error {
	b, err := os.ReadFile(filepath.Join(d.path, markerName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.take()
	case err != nil:
		return fmt.Errorf("store directory: %w", err)
	}
	if err := json.Unmarshal(b, &d.marker); err != nil || d.marker.Log == "" {
		return fmt.Errorf("%w: %s cannot be read; restore the directory %s from a backup, or move it away to begin an empty log, which allows every token that was revoked",
			ErrDamaged, markerName, d.path)
	}
	if d.marker.Format != format {
		return fmt.Errorf("store directory %s has format %d, this program knows format %d: use the version of rescind that wrote it",
			d.path, d.marker.Format, format)
	}
	return nil
}

func (d *directory) take() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockName {
			return fmt.Errorf("store directory %s is not ours: it has %q but no %s; name an empty directory, or restore the missing file from a backup",
				d.path, e.Name(), markerName)
		}
	}
	d.marker = marker{Format: format, Log: newID()}
	return d.save()
}

// made records that the log exists from now on.
func (d *directory) made(id string) error {
	if d.marker.Made && d.marker.Log == id {
		return nil
	}
	d.marker.Made, d.marker.Log = true, id
	return d.save()
}

func (d *directory) save() error {
	b, err := json.Marshal(d.marker)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(d.path, markerName), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("store directory: %w", err)
	}
	return nil
}

func (d *directory) data() string { return filepath.Join(d.path, dataName) }

func (d *directory) close() error { return d.lock.Close() }

// reserveBallast writes the ballast, unless it is there. It fails on a full disk.
func (d *directory) reserveBallast() error {
	path := filepath.Join(d.path, ballastName)
	if fi, err := os.Stat(path); err == nil && fi.Size() == ballastSize {
		return nil
	}
	b := make([]byte, ballastSize)
	_, _ = rand.Read(b) // a file system may store zeros without blocks
	err := renameio.WriteFile(path, b, 0o600)
	if err != nil {
		d.releaseBallast()
		return fmt.Errorf("the disk of %s is full: %w", d.path, err)
	}
	return nil
}

// releaseBallast makes room.
func (d *directory) releaseBallast() { _ = os.Remove(filepath.Join(d.path, ballastName)) }
