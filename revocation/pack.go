package revocation

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packed entries are what travels in the feed and what lies on disk: groups of
// entries under one shape, one after the other.
//
//	group = issuer kind names count entry*
//	entry = digest(16) before expires revision index
//
// Strings have their length before them; numbers are unsigned varints. names
// is how many there are, then each.

// AppendEntries packs entries, in their order, onto b.
func AppendEntries(b []byte, entries []Entry) []byte {
	for len(entries) > 0 {
		shape, n := entries[0].Shape, 1
		for n < len(entries) && entries[n].Shape == shape {
			n++
		}
		b = appendPackedShape(b, shape)
		b = binary.AppendUvarint(b, uint64(n))
		for i := range entries[:n] {
			e := &entries[i]
			b = append(b, e.Digest[:]...)
			b = binary.AppendUvarint(b, uint64(e.Before))
			b = binary.AppendUvarint(b, uint64(e.ExpiresAt))
			b = binary.AppendUvarint(b, e.ID.Revision)
			b = binary.AppendUvarint(b, uint64(e.ID.Index))
		}
		entries = entries[n:]
	}
	return b
}

func appendPackedShape(b []byte, s Shape) []byte {
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = append(text(b, s.Issuer), byte(s.Kind))
	names := s.Names()
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = text(b, n)
	}
	return b
}

// errPacked says that bytes are not packed entries.
var errPacked = errors.New("not packed entries")

// leastPacked is the least size of an entry.
const leastPacked = len(Digest{}) + 4

// ReadEntries reads what AppendEntries packed, all of it. What it returns has
// no part of b.
func ReadEntries(b []byte) ([]Entry, error) {
	r := unpacker{rest: b}
	var out []Entry
	for len(r.rest) > 0 && !r.bad {
		shape, err := r.shape()
		if err != nil {
			return nil, err
		}
		n := r.number(1 << 40)
		if r.bad || n == 0 || n > uint64(len(r.rest)/leastPacked) {
			return nil, errPacked
		}
		if out == nil {
			out = make([]Entry, 0, n)
		}
		for range n {
			e := Entry{Shape: shape}
			copy(e.Digest[:], r.bytes(uint64(len(e.Digest))))
			e.Before = Micros(r.number(1 << 62))
			e.ExpiresAt = Micros(r.number(1 << 62))
			e.ID.Revision = r.number(1<<64 - 1)
			e.ID.Index = uint32(r.number(1<<32 - 1))
			out = append(out, e)
		}
	}
	if r.bad {
		return nil, errPacked
	}
	return out, nil
}

// unpacker reads from the front of rest, until something is bad: then all it
// reads is nothing.
type unpacker struct {
	rest []byte
	bad  bool
}

func (r *unpacker) shape() (Shape, error) {
	issuer := string(r.bytes(r.number(MaxIssuer)))
	kind := r.bytes(1)
	names := make([]string, r.number(MaxClaims))
	for i := range names {
		names[i] = string(r.bytes(r.number(MaxName)))
	}
	if r.bad {
		return Shape{}, errPacked
	}
	s, err := ShapeOf(issuer, Kind(kind[0]), names)
	if err != nil {
		return Shape{}, fmt.Errorf("%w: %w", errPacked, err)
	}
	return s, nil
}

func (r *unpacker) number(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most {
		r.rest, r.bad = nil, true
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// bytes are the next n; all zero, and n at most one, once something is bad.
func (r *unpacker) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return []byte{0}
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
