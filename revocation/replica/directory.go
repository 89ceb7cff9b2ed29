package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rescind/revocation"
)

// directory holds the files of a follower: one snapshot, the journals of later
// changes, and the time of the last contact. A journal is named by the revision
// that it follows. A snapshot is the set at its revision once the journals are
// applied; it may have some of their entries already.
//
// The caller of a method holds the follower's lock, except for snapshot and the
// methods of a snapshotWriter other than commit.
type directory struct {
	path      string
	log       *slog.Logger
	lock      *os.File
	contact   *os.File
	contactAt time.Time // the contact that was written last
	mark      *os.File

	journal *os.File  // nil: none is begun
	written int64     // bytes of the journal
	size    int64     // bytes of the snapshot
	orderAt time.Time // when a snapshot that is not in order may be put in order; zero: it is in order
}

const (
	snapshotName = "revocations.snapshot"
	journalExt   = ".journal"
	contactName  = "contact"
	markName     = "mark"
	lockName     = "lock"
)

// openDirectory creates the directory if need be, and locks it. It fails if
// another process has it.
func openDirectory(path string, log *slog.Logger) (_ *directory, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	d := &directory{path: path, log: log}
	if d.lock, err = os.OpenFile(d.file(lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.lock.Close()
		return nil, fmt.Errorf("revocation.dir: %s is in use by another replica (%w); give each replica a directory of its own", path, err)
	}
	if d.contact, err = os.OpenFile(d.file(contactName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		_ = d.lock.Close()
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	if d.mark, err = os.OpenFile(d.file(markName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		_ = d.lock.Close()
		_ = d.contact.Close()
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	return d, nil
}

// file returns the path of a file in the directory.
func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

func (d *directory) close() error {
	var err error
	if d.journal != nil {
		err = d.journal.Close()
	}
	return errors.Join(err, d.contact.Close(), d.mark.Close(), d.lock.Close())
}

// noteContact writes the time of a contact, at most once a second, and the
// retention that the control endpoint promised.
func (d *directory) noteContact(at time.Time, retention time.Duration) error {
	if at.Sub(d.contactAt) < time.Second {
		return nil
	}
	d.contactAt = at
	var b [20]byte
	binary.BigEndian.PutUint64(b[:], uint64(at.UnixMicro()))
	binary.BigEndian.PutUint64(b[8:], uint64(retention))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	if _, err := d.contact.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("cannot write %s: %w", contactName, err)
	}
	return nil
}

// lastContact returns the contact that noteContact wrote last. It returns the
// zero time if there is none, or if the file is damaged.
func (d *directory) lastContact() (at time.Time, retention time.Duration) {
	var b [20]byte
	if n, _ := d.contact.ReadAt(b[:], 0); n != len(b) || crc32.Checksum(b[:16], castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return time.Time{}, 0
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b[:]))), time.Duration(binary.BigEndian.Uint64(b[8:]))
}

// noteMark writes the mark of a position. A position whose mark was not written, for
// example because the process was killed, has no mark at the next start.
func (d *directory) noteMark(at position) error {
	if _, err := d.mark.WriteAt(markFile(at), 0); err != nil {
		return fmt.Errorf("cannot write %s: %w", markName, err)
	}
	return nil
}

// markOf returns the mark that noteMark wrote last, if it is of this revision of this
// log, and otherwise 0.
func (d *directory) markOf(logID string, revision uint64) uint64 {
	var b [markSize]byte
	if n, _ := d.mark.ReadAt(b[:], 0); n != len(b) {
		return 0
	}
	at := position{logID, revision, binary.BigEndian.Uint64(b[8:])}
	if !bytes.Equal(markFile(at), b[:]) {
		return 0
	}
	return at.mark
}

const markSize = 20

// markFile returns the revision and the mark of a position, and a checksum that has the
// log's name in it too.
func markFile(at position) []byte {
	b := binary.BigEndian.AppendUint64(nil, at.revision)
	b = binary.BigEndian.AppendUint64(b, at.mark)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(append(b[:16:16], at.logID...), castagnoli))
}

// recovered is the content of a directory at the start.
type recovered struct {
	position
	set       *set   // nil: the files are of another version of the rules
	ahead     int    // entries of the set that belong to the next revision
	furthest  uint64 // last revision of these entries
	retention time.Duration
	contact   time.Time
}

// recover returns the set on disk; nil if there is none. Damaged files are set
// aside. Files of another version of the rules give a position without a set:
// they stay until a loaded set replaces them.
//
// The control endpoint's time is not known yet, so recover takes every entry,
// ended or not. now only decides where entries lie in memory.
func (d *directory) recover(now revocation.Micros) (*recovered, error) {
	r, err := d.readSnapshot(clock{now: now})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.clear(nil)
	}
	if err == nil {
		err = d.readJournals(r, clock{now: now})
	}
	if err != nil {
		d.setAside(err)
		return nil, nil
	}
	r.mark = d.markOf(r.logID, r.revision)
	at, retention := d.lastContact()
	r.contact = at
	if retention > 0 {
		r.retention = retention
	}
	if r.set == nil {
		return r, nil
	}
	// Later changes go into a journal of their own.
	return r, d.begin(header{Log: r.logID, Revision: r.revision, Retention: r.retention})
}

// setAside renames files that cannot be read, so that they can be looked at.
func (d *directory) setAside(why error) {
	suffix := ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	d.log.Error("revocations on disk are damaged and set aside; they are loaded again from the control endpoint", "dir", d.path, "suffix", suffix, "error", why)
	names, _ := d.journals()
	for _, name := range append(names, snapshotName) {
		if err := os.Rename(d.file(name), d.file(name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Error("a damaged file cannot be set aside", "file", name, "error", err)
		}
	}
}
