package replica

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"rescind/revocation"
)

// A snapshot and a journal are made of frames:
//
//	file  = magic frame*
//	frame = length(4) crc32c(4) kind(1) payload
//
// The first frame is the header. A snapshot goes on with parts and an end. A
// snapshot without an end is damaged. A journal goes on with changes, of which
// a long one is in several parts. A journal may end within its last change, which
// then was never acknowledged.
//
// Format 1 has the same frames. The first edition writes it, and does not look at
// the rules of a header. It takes a file of format 2 for a damaged one, and so
// never uses entries that it cannot match in full.
const (
	magic      = "rescind revocations 1\n"
	diskFormat = 2
	maxFrame   = 256 << 20
	usualFrame = 1 << 20 // a frame of a snapshot has less

	frameHeader     byte = 'h'
	framePart       byte = 'p' // of a snapshot
	frameEnd        byte = 'e'
	frameChange     byte = 'c' // a change, or the last part of one
	frameChangePart byte = 's'
)

// errDamaged reports a file that is not as it was written.
var errDamaged = errors.New("the file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the payload of the first frame.
type header struct {
	Format    int           `json:"format"`
	Rules     int           `json:"rules,omitempty"` // [revocation.Rules]; absent in the first edition, and then 1
	Log       string        `json:"log"`
	Revision  uint64        `json:"revision"`
	Retention time.Duration `json:"retention"` // ns
	Entries   int           `json:"entries"`   // of a snapshot, about
	// Ordered says that a snapshot has the entries in the order in which a set
	// holds them: it is read much faster than one in the order of the feed.
	Ordered bool `json:"ordered,omitempty"`
}

// appendHeader appends the first frame.
func appendHeader(b []byte, head header) ([]byte, error) {
	head.Format, head.Rules = diskFormat, revocation.Rules
	text, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	return appendFrame(b, frameHeader, func(b []byte) []byte { return append(b, text...) }), nil
}

// appendFrame appends a frame whose payload fill appends.
func appendFrame(b []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-8))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

// frames reads the frames of a file.
type frames struct{ in *bufio.Reader }

// openFrames reads the beginning of a file. It returns io.ErrUnexpectedEOF if
// the file ends there.
func openFrames(f io.Reader) (*frames, header, error) {
	r := &frames{bufio.NewReaderSize(f, 1<<20)}
	var head header
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(r.in, begin); err != nil {
		return nil, head, io.ErrUnexpectedEOF
	}
	if string(begin) != magic {
		return nil, head, fmt.Errorf("%w: it does not begin with %q", errDamaged, magic)
	}
	kind, b, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, head, io.ErrUnexpectedEOF
	case err != nil:
		return nil, head, err
	case kind != frameHeader || json.Unmarshal(b, &head) != nil || head.Format < 1 || head.Format > diskFormat || head.Log == "":
		return nil, head, fmt.Errorf("%w: its header cannot be read", errDamaged)
	}
	head.Rules = max(head.Rules, 1)
	return r, head, nil
}

// next returns the next frame, and the payload is the caller's. It returns
// io.EOF after the last frame, and io.ErrUnexpectedEOF if the file ends within
// one.
func (r *frames) next() (kind byte, payload []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: frame of %d bytes", errDamaged, n)
	}
	var b bytes.Buffer // grows with the bytes that come, not with the announced length
	b.Grow(int(min(n, usualFrame)))
	if m, err := io.CopyN(&b, r.in, int64(n)-1); err != nil {
		if m < int64(n)-1 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	payload = b.Bytes()
	sum := crc32.Update(crc32.Checksum(head[8:], castagnoli), castagnoli, payload)
	if sum != binary.BigEndian.Uint32(head[4:]) {
		return 0, nil, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	return head[8], payload, nil
}
