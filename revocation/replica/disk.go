package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"encoding/json"

	"github.com/google/renameio/v2"

	"rescind/revocation"
)

// The directory of a follower holds one snapshot, the journals of what changed
// since, and when the control endpoint was last heard of. A journal is named
// by the revision that it follows. A snapshot is the set at its revision once
// the journals are applied; it may have some of it already.
//
//	file  = magic frame*
//	frame = length(4) crc32c(4) kind(1) payload
//
// The first frame is the header. A snapshot goes on with parts and an end,
// without which it is not whole. A journal goes on with changes; it may break
// off within the last one, which then was never acknowledged.
const (
	magic        = "rescind revocations 1\n"
	snapshotName = "revocations.snapshot"
	journalExt   = ".journal"
	contactName  = "contact"
	lockName     = "lock"

	diskFormat = 1
	maxFrame   = 256 << 20

	frameHeader byte = 'h'
	framePart   byte = 'p'
	frameEnd    byte = 'e'
	frameChange byte = 'c'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header says what a file is about.
type header struct {
	Format    int           `json:"format"`
	Log       string        `json:"log"`
	Revision  uint64        `json:"revision"`
	Retention time.Duration `json:"retention"` // ns
	Entries   int           `json:"entries"`   // about how many a snapshot has
	// Ordered says that a snapshot comes in the order in which a set holds it:
	// it is read much faster than one that came off the feed.
	Ordered bool `json:"ordered,omitempty"`
}

// disk is the directory. But for snapshot and what it returns, its methods
// belong to the follower's lock.
type disk struct {
	dir     string
	log     *slog.Logger
	lock    *os.File
	contact *os.File
	heardAt time.Time

	journal *os.File
	written int64     // bytes of the journal
	size    int64     // of the snapshot
	ordered time.Time // when a snapshot that is not in order may be put in order; zero: it is
}

func openDisk(dir string, log *slog.Logger) (_ *disk, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	d := &disk{dir: dir, log: log}
	if d.lock, err = os.OpenFile(d.path(lockName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = d.lock.Close()
		return nil, fmt.Errorf("revocation.dir: %s is in use by another replica (%w); give each its own", dir, err)
	}
	if d.contact, err = os.OpenFile(d.path(contactName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		_ = d.lock.Close()
		return nil, fmt.Errorf("revocation.dir: %w", err)
	}
	return d, nil
}

func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *disk) close() error {
	var err error
	if d.journal != nil {
		err = d.journal.Close()
	}
	return errors.Join(err, d.contact.Close(), d.lock.Close())
}

// heard notes when the control endpoint was heard of, once in a second, and
// what it promised.
func (d *disk) heard(at time.Time, retention time.Duration) error {
	if at.Sub(d.heardAt) < time.Second {
		return nil
	}
	d.heardAt = at
	var b [20]byte
	binary.BigEndian.PutUint64(b[:], uint64(at.UnixMicro()))
	binary.BigEndian.PutUint64(b[8:], uint64(retention))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	if _, err := d.contact.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("writing %s: %w", contactName, err)
	}
	return nil
}

// lastHeard is what heard noted; the zero time if there is nothing, or nothing
// to rely on.
func (d *disk) lastHeard() (at time.Time, retention time.Duration) {
	var b [20]byte
	if n, _ := d.contact.ReadAt(b[:], 0); n != len(b) || crc32.Checksum(b[:16], castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return time.Time{}, 0
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b[:]))), time.Duration(binary.BigEndian.Uint64(b[8:]))
}

// found is what the directory had.
type found struct {
	position
	set       *set
	retention time.Duration
	contact   time.Time
}

// read takes up what is there; nil if there is nothing, or nothing whole: that
// is then set aside. now is for what has expired since.
func (d *disk) read(now revocation.Micros) (*found, error) {
	out, err := d.readSnapshot(now)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.clear(nil)
	}
	if err == nil {
		err = d.readJournals(out, now)
	}
	if err != nil {
		d.setAside(err)
		return nil, nil
	}
	at, retention := d.lastHeard()
	out.contact = at
	if retention > 0 {
		out.retention = retention
	}
	// What is appended from now on goes into a journal of its own.
	return out, d.begin(header{Log: out.logID, Revision: out.revision, Retention: out.retention})
}

func (d *disk) readSnapshot(now revocation.Micros) (*found, error) {
	f, err := os.Open(d.path(snapshotName))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d.size = info.Size()
	r, head, err := openFrames(f)
	if err != nil {
		return nil, err
	}
	out := &found{position: position{head.Log, head.Revision}, retention: head.Retention}
	if !head.Ordered {
		d.ordered = time.Now().Add(orderAfter)
	}
	out.set = newSet(max(0, min(head.Entries, maxRoom)), now)
	filling := fill(out.set, now)
	err = r.parts(filling.add)
	return out, errors.Join(err, filling.end())
}

// readJournals applies what follows.
func (d *disk) readJournals(out *found, now revocation.Micros) error {
	names, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.readJournal(name, out, now); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (d *disk) readJournal(name string, out *found, now revocation.Micros) error {
	f, err := os.Open(d.path(name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	r, head, err := openFrames(f)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && head.Log != out.logID {
		return nil // never begun, or left from another log
	}
	if err != nil {
		return err
	}
	for {
		kind, b, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			d.log.Info("a journal breaks off within a change that was not acknowledged", "file", name)
			return nil
		case err != nil:
			return err
		case kind != frameChange:
			return fmt.Errorf("%w: a frame of kind %q", errDamaged, kind)
		}
		c, err := readChange(b)
		switch {
		case err != nil:
			return err
		case c.Revision <= out.revision:
			continue
		case c.Revision != out.revision+1:
			return fmt.Errorf("%w: revision %d follows %d", errDamaged, c.Revision, out.revision)
		}
		if err := out.set.apply(c.Added, c.Removed, now); err != nil {
			return err
		}
		out.revision = c.Revision
	}
}

// journals are the names of all, in the order of the log.
func (d *disk) journals() ([]string, error) {
	all, err := filepath.Glob(d.path("*" + journalExt))
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	slices.Sort(all)
	return all, nil
}

func journalName(revision uint64) string { return fmt.Sprintf("%020d%s", revision, journalExt) }

func journalRevision(name string) uint64 {
	revision, _ := strconv.ParseUint(strings.TrimSuffix(name, journalExt), 10, 64)
	return revision
}

// setAside renames what cannot be read, so that it can be looked at.
func (d *disk) setAside(why error) {
	suffix := ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	d.log.Error("what is on disk is damaged and set aside; the revocations are fetched anew", "dir", d.dir, "suffix", suffix, "error", why)
	names, _ := d.journals()
	for _, name := range append(names, snapshotName) {
		if err := os.Rename(d.path(name), d.path(name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Error("a damaged file cannot be set aside", "file", name, "error", err)
		}
	}
}

// begin starts the journal that follows head. There may be one of that name
// already, without a single change.
func (d *disk) begin(head header) error {
	f, err := os.OpenFile(d.path(journalName(head.Revision)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("a new journal: %w", err)
	}
	b, err := appendHeader([]byte(magic), head)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("a new journal: %w", err)
	}
	if d.journal != nil {
		_ = d.journal.Close()
	}
	d.journal, d.written = f, int64(len(b))
	return nil
}

// restart begins anew after a snapshot that owes nothing to any journal.
func (d *disk) restart(head header) error {
	if err := d.clear(nil); err != nil {
		return err
	}
	return d.begin(head)
}

// append writes changes, and returns when they are on disk.
func (d *disk) append(changes []revocation.Change) error {
	if len(changes) == 0 {
		return nil
	}
	if d.journal == nil {
		return errors.New("there is no journal")
	}
	var b []byte
	for i := range changes {
		b = appendChange(b, &changes[i])
	}
	n, err := d.journal.Write(b)
	d.written += int64(n)
	if err == nil {
		err = d.journal.Sync()
	}
	if err != nil {
		return fmt.Errorf("the journal: %w", err)
	}
	return nil
}

// least is how long a journal may be in any case.
const least = 1 << 20

// orderAfter is how long after the start, or after a set was loaded, a snapshot
// is put in order: when things have calmed down.
const orderAfter = 10 * time.Second

// long says that reading the journal again would take longer than it should,
// or the snapshot longer than it needs to.
func (d *disk) long() bool {
	return d.written > max(least, d.size/2) || !d.ordered.IsZero() && d.size > 8*least && time.Now().After(d.ordered)
}

// clear removes the journals that a snapshot at this revision makes
// superfluous; all of them if it is nil.
func (d *disk) clear(revision *uint64) error {
	names, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range names {
		if revision == nil || journalRevision(name) < *revision {
			if err := os.Remove(d.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// snapshotWriter writes a snapshot beside the one that is there.
type snapshotWriter struct {
	disk  *disk
	head  header
	file  *renameio.PendingFile
	out   *bufio.Writer
	count uint64
	size  int64
}

func (d *disk) snapshot(head header) (*snapshotWriter, error) {
	f, err := renameio.NewPendingFile(d.path(snapshotName), renameio.WithTempDir(d.dir), renameio.WithPermissions(0o600))
	if err != nil {
		return nil, fmt.Errorf("a new snapshot: %w", err)
	}
	w := &snapshotWriter{disk: d, head: head, file: f, out: bufio.NewWriterSize(f, 1<<20)}
	b, err := appendHeader([]byte(magic), head)
	if err == nil {
		err = w.write(b)
	}
	if err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

func (w *snapshotWriter) write(b []byte) error {
	n, err := w.out.Write(b)
	w.size += int64(n)
	if err != nil {
		return fmt.Errorf("the snapshot: %w", err)
	}
	return nil
}

func (w *snapshotWriter) add(entries []revocation.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	w.count += uint64(len(entries))
	return w.write(appendFrame(nil, framePart, func(b []byte) []byte { return revocation.AppendEntries(b, entries) }))
}

// commit puts the snapshot in its place, and removes what it makes superfluous.
func (w *snapshotWriter) commit() error {
	err := w.write(appendFrame(nil, frameEnd, func(b []byte) []byte { return binary.AppendUvarint(b, w.count) }))
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("the snapshot: %w", err)
	}
	w.disk.size, w.disk.ordered = w.size, time.Time{}
	if !w.head.Ordered {
		w.disk.ordered = time.Now().Add(orderAfter)
	}
	return w.disk.clear(&w.head.Revision)
}

// abandon removes what was written, unless it was put in place.
func (w *snapshotWriter) abandon() { _ = w.file.Cleanup() }

// appendHeader is the first frame.
func appendHeader(b []byte, head header) ([]byte, error) {
	head.Format = diskFormat
	text, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return appendFrame(b, frameHeader, func(b []byte) []byte { return append(b, text...) }), nil
}
