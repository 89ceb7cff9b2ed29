package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rescind/revocation"
)

// readJournals applies the changes that follow the snapshot.
func (d *directory) readJournals(r *recovered, at clock) error {
	names, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := d.readJournal(name, r, at); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (d *directory) readJournal(name string, r *recovered, at clock) error {
	f, err := os.Open(d.file(name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in, head, err := openFrames(f)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && head.Log != r.logID {
		return nil // a journal that was never begun, or one of another log
	}
	if err != nil {
		return err
	}
	for {
		kind, b, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			d.log.Info("a journal ends within a change, which was never acknowledged", "file", name)
			return nil
		case err != nil:
			return err
		case kind != frameChange && kind != frameChangePart:
			return fmt.Errorf("%w: frame of kind %q", errDamaged, kind)
		}
		c, err := readChange(b)
		switch {
		case err != nil:
			return err
		case c.Revision <= r.revision:
			continue
		case c.Revision != r.revision+1:
			return fmt.Errorf("%w: revision %d comes after %d", errDamaged, c.Revision, r.revision)
		}
		if err := r.apply(kind, &c, head.Rules, at); err != nil {
			return err
		}
	}
}

// apply applies a change, or a part of one, of a journal of these rules. A set
// that follows more than one version of the rules is no set.
func (r *recovered) apply(kind byte, c *revocation.Change, rules int, at clock) error {
	if rules != revocation.Rules {
		r.set = nil
	}
	grown := 0
	if r.set != nil {
		var err error
		if grown, err = r.set.change(c.Added, c.Removed, at); err != nil {
			return err
		}
	}
	r.furthest = max(r.furthest, lastRevision(c.Added))
	if r.ahead += grown; kind == frameChange {
		r.revision, r.ahead = c.Revision, 0
	}
	return nil
}

// journals returns the names of the journals, in the order of the log.
func (d *directory) journals() ([]string, error) {
	all, err := filepath.Glob(d.file("*" + journalExt))
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

// begin starts the journal that follows head. A journal of that name may be
// there already, without a change.
func (d *directory) begin(head header) error {
	f, err := os.OpenFile(d.file(journalName(head.Revision)), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot begin a journal: %w", err)
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
		return fmt.Errorf("cannot begin a journal: %w", err)
	}
	if d.journal != nil {
		_ = d.journal.Close()
	}
	d.journal, d.written = f, int64(len(b))
	return nil
}

// restart removes all journals and begins the one after a snapshot that needs
// none of them.
func (d *directory) restart(head header) error {
	if err := d.clear(nil); err != nil {
		return err
	}
	return d.begin(head)
}

// append writes changes, and returns when they are on disk.
func (d *directory) append(changes []revocation.Change) error {
	var b []byte
	for i := range changes {
		b = appendChange(b, frameChange, &changes[i])
	}
	if err := d.write(b); err != nil {
		return err
	}
	if err := d.journal.Sync(); err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	return nil
}

// appendPart writes entries of a change of which the rest is to come. They are on
// disk when append has returned for the rest.
func (d *directory) appendPart(revision uint64, added []revocation.Entry) error {
	return d.write(appendChange(nil, frameChangePart, &revocation.Change{Revision: revision, Added: added}))
}

// appendAhead is appendPart, and returns when the entries are on disk.
func (d *directory) appendAhead(revision uint64, added []revocation.Entry) error {
	if err := d.appendPart(revision, added); err != nil {
		return err
	}
	if err := d.journal.Sync(); err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	return nil
}

func (d *directory) write(b []byte) error {
	if d.journal == nil {
		return errors.New("there is no journal to write to")
	}
	n, err := d.journal.Write(b)
	d.written += int64(n)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	return nil
}

// shortJournal is the size up to which a journal is never compacted.
const shortJournal = 1 << 20

// orderAfter is how long after the start, or after a load, the snapshot is put
// in order.
const orderAfter = 10 * time.Second

// needsCompaction reports whether a restart would read the journal for too long,
// or would read a snapshot that is large and not in order.
func (d *directory) needsCompaction() bool {
	return d.written > max(shortJournal, d.size/2) ||
		!d.orderAt.IsZero() && d.size > 8*shortJournal && time.Now().After(d.orderAt)
}

// clear removes the journals that a snapshot at this revision replaces; all
// journals if revision is nil.
func (d *directory) clear(revision *uint64) error {
	names, err := d.journals()
	if err != nil {
		return err
	}
	for _, name := range names {
		if revision == nil || journalRevision(name) < *revision {
			if err := os.Remove(d.file(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func appendChange(b []byte, kind byte, c *revocation.Change) []byte {
	return appendFrame(b, kind, func(b []byte) []byte {
		b = binary.AppendUvarint(b, c.Revision)
		added := revocation.AppendEntries(nil, c.Added)
		b = binary.AppendUvarint(b, uint64(len(added)))
		b = append(b, added...)
		return revocation.AppendEntries(b, c.Removed)
	})
}

func readChange(b []byte) (change revocation.Change, err error) {
	c := cursor{rest: b}
	change.Revision = c.number(1<<64 - 1)
	added := c.bytes(c.number(maxFrame))
	if c.bad {
		return change, fmt.Errorf("%w: a change cannot be read", errDamaged)
	}
	if change.Added, err = revocation.ReadEntries(added); err == nil {
		change.Removed, err = revocation.ReadEntries(c.rest)
	}
	if err != nil {
		return change, fmt.Errorf("%w: revision %d: %w", errDamaged, change.Revision, err)
	}
	return change, nil
}
