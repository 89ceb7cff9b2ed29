package replica

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math"

	"rescind/revocation"
)

// key is the first eight bytes of a digest. Segments and filters know an entry
// by its key.
type key uint64

func keyOf(d *revocation.Digest) key { return key(binary.LittleEndian.Uint64(d[:8])) }

// String returns the key as BigCache takes it.
func (k key) String() string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(k))
	return string(b[:])
}

// stripe returns the number of the stripe that holds the entries of this key.
func (k key) stripe() int { return int(k >> 62) }

// record is an entry as a set holds it.
type record struct {
	digest  revocation.Digest
	shape   shapeNumber
	before  revocation.Micros // 0: tokens of any iat are denied
	expires revocation.Micros
	id      revocation.ID
}

func recordOf(e *revocation.Entry, shape shapeNumber) record {
	return record{digest: e.Digest, shape: shape, before: e.Before, expires: e.ExpiresAt, id: e.ID}
}

// compare orders records. Records that are equal are the same entry: a digest and
// an ID name one revocation.
func (r *record) compare(o *record) int {
	if c := bytes.Compare(r.digest[:], o.digest[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(r.id.Revision, o.id.Revision), cmp.Compare(r.id.Index, o.id.Index))
}

// reach is the instant before which a token must be issued to be denied.
func (r *record) reach() revocation.Micros {
	if r.before == 0 {
		return math.MaxInt64
	}
	return r.before
}

// query asks for a record that denies a token.
type query struct {
	digest revocation.Digest
	key    key
	text   string            // key.String(), once the filter has let it through
	iat    revocation.Micros // of the token; -1: it has none, so every record reaches it
	ended  revocation.Micros // records that end by then deny nothing
}

func queryOf(d *revocation.Digest, t *revocation.Token, ended revocation.Micros) query {
	q := query{digest: *d, key: keyOf(d), iat: -1, ended: ended}
	if t.HasIssuedAt {
		q.iat = t.IssuedAt
	}
	return q
}

// deniedBy reports whether r, a record of the digest, denies the token.
func (q *query) deniedBy(r *record) bool { return r.expires > q.ended && r.reach() > q.iat }

// answer is the result of a query.
type answer struct {
	present bool // there is a record of the digest
	denied  bool
	by      revocation.ID
}

// append packs r for a segment of a bucket that ends at ends. The segment knows
// the first half of the digest by its key.
func (r *record) append(b []byte, ends revocation.Micros) []byte {
	b = append(b, r.digest[8:]...)
	b = binary.AppendUvarint(b, uint64(r.shape))
	before := uint64(0) // none; else one more than the distance from ends, zigzag
	if r.before != 0 {
		d := int64(ends - r.before)
		before = uint64(d<<1^d>>63) + 1
	}
	b = binary.AppendUvarint(b, before)
	b = binary.AppendUvarint(b, uint64(ends-r.expires))
	b = binary.AppendUvarint(b, r.id.Revision)
	return binary.AppendUvarint(b, uint64(r.id.Index))
}

// readRecord returns the record that append packed. The bytes never leave this
// process.
func readRecord(k key, b []byte, ends revocation.Micros) (r record, err error) {
	c := cursor{rest: b}
	binary.LittleEndian.PutUint64(r.digest[:8], uint64(k))
	copy(r.digest[8:], c.bytes(8))
	r.shape = shapeNumber(c.number(1<<64 - 1))
	if before := c.number(1<<64 - 1); before != 0 {
		z := before - 1
		r.before = ends - revocation.Micros(int64(z>>1)^-int64(z&1))
	}
	r.expires = ends - revocation.Micros(c.number(1<<62))
	r.id.Revision = c.number(1<<64 - 1)
	r.id.Index = uint32(c.number(1<<32 - 1))
	if c.bad || len(c.rest) > 0 {
		return record{}, errors.New("an entry in memory cannot be read")
	}
	return r, nil
}
