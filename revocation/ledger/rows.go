package ledger

import (
	"cmp"
	"encoding/binary"
	"iter"
	"sort"

	"rescind/revocation"
)

// rows are the revocations that have not expired, in the order of the log. They
// are built for tens of millions. A row has 64 bytes and no pointers. Texts stay
// in the packed form of the log until they are read. Before each text stands the
// distance of the row from the first row of its write. The index from digest to row
// maps integers to integers. An expired row leaves a hole, and a chunk closes its
// holes when they are half of it.
//
// The Ledger's lock guards all of it.
type rows struct {
	chunks       []*chunk // in the order of the log; the last chunk takes new rows
	numbers      []*chunk // by number; nil where free
	free         []uint32 // numbers
	shapes       *shapes
	index        map[uint64]uint32 // first 8 bytes of a digest → slot of the newest row; older rows are linked to it
	crowds       map[revocation.Digest]*crowd
	restorations map[revocation.ID]restoredRow
	live         int // in force, as of the last sweep
	hidden       int // of these, covered by another row: replicas do not hold them

	census revocation.Census // of the rows that replicas hold

	crowdRows int // in a chain; beyond, the digest has a crowd
}

const (
	chunkBits = 12
	chunkRows = 1 << chunkBits
	maxChunks = 1 << (32 - chunkBits)
)

const never revocation.Micros = 1<<63 - 1

// slot is the place of a row: the number of its chunk and its index there. The
// index changes when the chunk closes its holes.
type slot = uint32

type chunk struct {
	number  uint32
	rows    []row // in the order of their IDs
	text    []byte
	soonest revocation.Micros // the next expiry
}

type row struct {
	digest   revocation.Digest
	before   revocation.Micros
	expires  revocation.Micros
	revision uint64
	index    uint32
	shape    uint32
	text     uint32 // offset
	next     uint32 // 1 + slot of the next older row under the same index key; 0 is none
	prev     uint32 // 1 + slot of the next newer row; 0 if the index points here
	size     uint16 // of the text
	flags    flags
	state    state
}

// flags of a row.
type flags uint8

const (
	isBlock  flags = 1 << iota
	isCover        // replicas hold this row for those that it covers
	isHidden       // another row covers this one
	isEvent        // an event of the same intake may undo this row
)

type state uint8

const (
	standing state = iota
	restored
	gone // expired at the last sweep
)

// restoredRow is the restoration of a row.
type restoredRow struct {
	revision uint64
	at       int64 // µs
	by       string
}

func newRows() *rows {
	return &rows{shapes: newShapes(), index: map[uint64]uint32{}, crowds: map[revocation.Digest]*crowd{}, restorations: map[revocation.ID]restoredRow{}, crowdRows: crowdRows}
}

func (w *row) id() revocation.ID { return revocation.ID{Revision: w.revision, Index: w.index} }

func key(d revocation.Digest) uint64 { return binary.LittleEndian.Uint64(d[:8]) }

func (r *rows) at(s slot) *row { return &r.numbers[s>>chunkBits].rows[s&(chunkRows-1)] }

func (r *rows) entry(w *row) revocation.Entry {
	return revocation.Entry{Shape: r.shapes.all[w.shape].Shape, Digest: w.digest, Before: w.before, ExpiresAt: w.expires, ID: w.id()}
}

// shown reports whether replicas hold the row.
func (w *row) shown() bool { return w.state == standing && w.flags&isHidden == 0 }

// reach returns which tokens the row denies, and until when.
func (w *row) reach() reach { return reach{w.before, w.expires} }

// add takes a revocation that comes later in the log than all others. Its
// packed form is far below 64 KiB, which follows from the limits of a request.
// It returns the rows that a cover hides.
func (r *rows) add(op *operation) (hidden []revocation.ID) {
	e := &op.entry
	c := r.last()
	k := key(e.Digest)
	here := c.slot(len(c.rows))
	next := uint32(0)
	if s, ok := r.index[k]; ok {
		next = s + 1
		older := r.at(s)
		older.prev = here + 1
	}
	w := row{
		digest: e.Digest, before: e.Before, expires: e.ExpiresAt,
		revision: e.ID.Revision, index: e.ID.Index, shape: r.shapes.use(e.Shape, op.by),
		text: uint32(len(c.text)), next: next,
	}
	c.text = binary.AppendUvarint(c.text, uint64(e.ID.Index-op.write))
	c.text = append(c.text, op.packed...)
	w.size = uint16(len(c.text) - int(w.text))
	if op.block {
		w.flags |= isBlock
	}
	if op.cover {
		w.flags |= isCover
	}
	if endsByEvent(op.by, e.Before) {
		w.flags |= isEvent
	}
	c.rows = append(c.rows, w)
	c.soonest = min(c.soonest, e.ExpiresAt)
	r.index[k] = here
	r.live++
	r.census.Add(e.ExpiresAt, 1)
	return r.join(&c.rows[len(c.rows)-1])
}

func (r *rows) last() *chunk {
	if n := len(r.chunks); n > 0 && len(r.chunks[n-1].rows) < chunkRows {
		return r.chunks[n-1]
	}
	c := &chunk{soonest: never}
	if n := len(r.free); n > 0 {
		c.number, r.free = r.free[n-1], r.free[:n-1]
		r.numbers[c.number] = c
	} else {
		c.number = uint32(len(r.numbers))
		r.numbers = append(r.numbers, c)
	}
	r.chunks = append(r.chunks, c)
	return c
}

// room reports whether the 32 bits of a slot have room for n more rows.
func (r *rows) room(n int) bool {
	return len(r.chunks)+n/chunkRows+1 < maxChunks
}

// find returns the row of id, expired or not, or nil.
func (r *rows) find(id revocation.ID) (*chunk, *row) {
	i, j := r.seek(id)
	if i < 0 || j == len(r.chunks[i].rows) || r.chunks[i].rows[j].id() != id {
		return nil, nil
	}
	return r.chunks[i], &r.chunks[i].rows[j]
}

// seek returns the place of the first row that is not before id, in chunk i at j.
// If j is past the end of chunk i, the row is the first of the next chunk. i is -1
// if id is before every row.
func (r *rows) seek(id revocation.ID) (i, j int) {
	i = sort.Search(len(r.chunks), func(i int) bool {
		c := r.chunks[i]
		return len(c.rows) > 0 && less(id, c.rows[0].id())
	}) - 1
	if i < 0 {
		return -1, 0
	}
	w := r.chunks[i].rows
	return i, sort.Search(len(w), func(j int) bool { return !less(w[j].id(), id) })
}

func less(a, b revocation.ID) bool { return compareIDs(a, b) < 0 }

// compareIDs orders IDs as the log does.
func compareIDs(a, b revocation.ID) int {
	return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Index, b.Index))
}

// same returns the newest row that is in force at now for exactly the target
// and cut-off of e, and that lasts until least.
func (r *rows) same(e *revocation.Entry, k cut, least, now revocation.Micros) *row {
	if c := r.crowds[e.Digest]; c != nil {
		return c.same(r, k, least, now)
	}
	for w := range r.chain(e.Digest) {
		if w.digest == e.Digest && w.cut() == k && w.state == standing && w.expires > now && w.expires >= least {
			return w
		}
	}
	return nil
}

// chain yields the rows under the index key of a digest, newest first.
func (r *rows) chain(d revocation.Digest) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		s, ok := r.index[key(d)]
		for next := s + 1; ok && next != 0; {
			w := r.at(next - 1)
			if !yield(w) {
				return
			}
			next = w.next
		}
	}
}

// restore marks a row as restored. It reports false if the row was restored
// before. It returns the rows that the row covered alone, which replicas hold
// again.
func (r *rows) restore(w *row, u restoredRow) (shown []revocation.ID, ok bool) {
	if w.state != standing {
		return nil, false
	}
	if w.shown() {
		r.census.Add(w.expires, -1)
	}
	r.end(w)
	w.state = restored
	r.restorations[w.id()] = u
	return r.uncover(w), true
}

// end takes a standing row out of force.
func (r *rows) end(w *row) {
	r.live--
	if w.flags&isHidden != 0 {
		r.hidden--
	}
	r.shapes.end(w.shape)
	if c := r.crowds[w.digest]; c != nil {
		c.end(w)
	}
}

// packed returns the packed form of w, a row of c.
func (c *chunk) packed(w *row) []byte {
	text := c.text[w.text : int(w.text)+int(w.size)]
	_, n := binary.Uvarint(text)
	return text[n:]
}

// write returns the ID of the write of w, a row of c. It is the ID of the first
// revocation of the write, which may have expired.
func (c *chunk) write(w *row) revocation.ID {
	distance, _ := binary.Uvarint(c.text[w.text:])
	return revocation.ID{Revision: w.revision, Index: w.index - uint32(distance)}
}

func (c *chunk) slot(i int) slot { return c.number<<chunkBits | uint32(i) }

// from yields the rows of the revision of id, from id on, with their chunks.
func (r *rows) from(id revocation.ID) iter.Seq2[*chunk, *row] {
	return func(yield func(*chunk, *row) bool) {
		i, j := r.seek(id)
		if i < 0 {
			i, j = 0, 0
		}
		for ; i < len(r.chunks); i, j = i+1, 0 {
			c := r.chunks[i]
			for ; j < len(c.rows); j++ {
				if w := &c.rows[j]; w.revision != id.Revision || !yield(c, w) {
					return
				}
			}
		}
	}
}

// restoredBy yields the rows that a restoration is about.
func (r *rows) restoredBy(u *restoration) iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for _, w := range r.from(u.ID) {
			if w.index-u.ID.Index >= u.Count || !yield(w) {
				return
			}
		}
	}
}
