package replica

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/renameio/v2"

	"rescind/revocation"
)

// readSnapshot returns the set of the snapshot, or its position alone if the
// snapshot is of another version of the rules.
func (d *directory) readSnapshot(at clock) (*recovered, error) {
	f, err := os.Open(d.file(snapshotName))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d.size = info.Size()
	in, head, err := openFrames(f)
	if err != nil {
		return nil, err
	}
	r := &recovered{position: position{logID: head.Log, revision: head.Revision}, retention: head.Retention}
	if head.Rules != revocation.Rules {
		return r, nil
	}
	if !head.Ordered {
		d.orderAt = time.Now().Add(orderAfter)
	}
	r.set = newSet(max(0, min(head.Entries, maxRoom)))
	load := startLoad(r.set, at)
	err = in.parts(load.add)
	return r, errors.Join(err, load.end())
}

// parts yields the entries of a snapshot, and returns an error if the snapshot
// is not whole.
func (r *frames) parts(yield func([]revocation.Entry)) error {
	count := uint64(0)
	for {
		kind, b, err := r.next()
		switch {
		case err != nil:
			return fmt.Errorf("%w: the snapshot has no end: %w", errDamaged, err)
		case kind == frameEnd:
			return r.checkEnd(b, count)
		case kind != framePart:
			return fmt.Errorf("%w: frame of kind %q", errDamaged, kind)
		}
		entries, err := revocation.ReadEntries(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		count += uint64(len(entries))
		yield(entries)
	}
}

// checkEnd compares the end of a snapshot with the number of entries read.
func (r *frames) checkEnd(end []byte, count uint64) error {
	if n, size := binary.Uvarint(end); size != len(end) || n != count {
		return fmt.Errorf("%w: the snapshot has %d entries, and its end says %d", errDamaged, count, n)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the snapshot goes on after its end", errDamaged)
	}
	return nil
}

// snapshotWriter writes a snapshot beside the one that is there.
type snapshotWriter struct {
	dir   *directory
	head  header
	file  *renameio.PendingFile
	out   *bufio.Writer
	count uint64
	size  int64
}

// snapshot begins a snapshot. The caller must call commit or abandon.
func (d *directory) snapshot(head header) (*snapshotWriter, error) {
	f, err := renameio.NewPendingFile(d.file(snapshotName), renameio.WithTempDir(d.path), renameio.WithPermissions(0o600))
	if err != nil {
		return nil, fmt.Errorf("cannot begin a snapshot: %w", err)
	}
	w := &snapshotWriter{dir: d, head: head, file: f, out: bufio.NewWriterSize(f, 1<<20)}
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
		return fmt.Errorf("cannot write the snapshot: %w", err)
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

// commit puts the snapshot in its place, and removes the journals that it
// replaces. The caller holds the follower's lock.
func (w *snapshotWriter) commit() error {
	err := w.write(appendFrame(nil, frameEnd, func(b []byte) []byte { return binary.AppendUvarint(b, w.count) }))
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("cannot write the snapshot: %w", err)
	}
	w.dir.size, w.dir.orderAt = w.size, time.Time{}
	if !w.head.Ordered {
		w.dir.orderAt = time.Now().Add(orderAfter)
	}
	return w.dir.clear(&w.head.Revision)
}

// abandon removes the file, unless it was put in its place.
func (w *snapshotWriter) abandon() { _ = w.file.Cleanup() }
