package replica

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"encoding/json"

	"rescind/revocation"
)

// errDamaged says that a file is not what was written.
var errDamaged = errors.New("it is damaged")

// appendFrame adds a frame whose payload fill appends.
func appendFrame(b []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-8))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

func appendChange(b []byte, c *revocation.Change) []byte {
	return appendFrame(b, frameChange, func(b []byte) []byte {
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
		return change, fmt.Errorf("%w: a change that is none", errDamaged)
	}
	if change.Added, err = revocation.ReadEntries(added); err == nil {
		change.Removed, err = revocation.ReadEntries(c.rest)
	}
	if err != nil {
		return change, fmt.Errorf("%w: revision %d: %w", errDamaged, change.Revision, err)
	}
	return change, nil
}

// frames reads the frames of a file.
type frames struct{ in *bufio.Reader }

// openFrames reads the beginning. A file that breaks off in it gives
// io.ErrUnexpectedEOF.
func openFrames(f io.Reader) (*frames, header, error) {
	r := &frames{bufio.NewReaderSize(f, 1<<20)}
	var head header
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(r.in, begin); err != nil {
		return nil, head, io.ErrUnexpectedEOF
	}
	if string(begin) != magic {
		return nil, head, fmt.Errorf("%w: it does not begin as it should", errDamaged)
	}
	kind, b, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, head, io.ErrUnexpectedEOF
	case err != nil:
		return nil, head, err
	case kind != frameHeader || json.Unmarshal(b, &head) != nil || head.Format != diskFormat || head.Log == "":
		return nil, head, fmt.Errorf("%w: its header cannot be read", errDamaged)
	}
	return r, head, nil
}

// maxPart is more than a frame of a snapshot has.
const maxPart = 1 << 20

// next is the next frame: io.EOF after the last one, io.ErrUnexpectedEOF if the
// file breaks off within it. The payload is the caller's.
func (r *frames) next() (kind byte, payload []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", errDamaged, n)
	}
	var b bytes.Buffer // grows with what is there, not with what is announced
	b.Grow(int(min(n, maxPart)))
	if m, err := io.CopyN(&b, r.in, int64(n)-1); err != nil {
		if m < int64(n)-1 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	payload = b.Bytes()
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, payload)
	if sum != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: a checksum is wrong", errDamaged)
	}
	return head[8], payload, nil
}

// parts yields the entries of a snapshot, and checks that it is whole.
func (r *frames) parts(yield func([]revocation.Entry)) error {
	count := uint64(0)
	for {
		kind, b, err := r.next()
		switch {
		case err != nil:
			return fmt.Errorf("%w: the snapshot has no end: %w", errDamaged, err)
		case kind == frameEnd:
			return r.whole(b, count)
		case kind != framePart:
			return fmt.Errorf("%w: a frame of kind %q", errDamaged, kind)
		}
		entries, err := revocation.ReadEntries(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		count += uint64(len(entries))
		yield(entries)
	}
}

func (r *frames) whole(end []byte, count uint64) error {
	if n, size := binary.Uvarint(end); size != len(end) || n != count {
		return fmt.Errorf("%w: %d entries instead of %d", errDamaged, count, n)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: there is something after its end", errDamaged)
	}
	return nil
}
