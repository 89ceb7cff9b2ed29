package revocation

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Packed entries travel in the feed and lie on disk. They are groups of entries
// of one shape, one after the other.
//
//	group = issuer kind names count entry*
//	entry = digest(16) before expires revision index
//
// A string has its length before it. A number is an unsigned varint. names is the
// number of names, then each name.

// AppendEntries packs entries, in their order, and appends them to b.
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
	names := s.wireNames()
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = text(b, n)
	}
	return b
}

// errPacked reports bytes that AppendEntries did not write.
var errPacked = errors.New("the bytes are not packed entries")

// leastPacked is the size of the smallest entry.
const leastPacked = len(Digest{}) + 4

// ReadEntries returns the entries that AppendEntries packed into b. It fails if b
// has anything else. The entries share no memory with b.
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

// unpacker reads from the front of rest. After the first reading that fails, bad
// is true and every later reading is zero.
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

// bytes returns the next n bytes. Once bad is true it returns a single zero.
func (r *unpacker) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.rest, r.bad = nil, true
		return []byte{0}
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
