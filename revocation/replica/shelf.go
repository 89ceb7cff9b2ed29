package replica

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"rescind/revocation"
)

// shelves is how many a set has: the entries are divided by two bits of their
// slots.
const shelves = 4

// shelf holds a part of the entries of a set. The writer uses it from one
// goroutine at a time.
type shelf struct {
	buckets atomic.Pointer[[]*bucket] // what readers see: replaced, never changed

	// The writer's.
	byEnd   map[bucketKey]*bucket
	lost    *atomic.Int64
	keys    int            // added to the filter, and not yet taken over by the set
	changed map[uint32]int // entries more or less, by shape, likewise
}

type bucketKey struct{ ends, width revocation.Micros }

func (h *shelf) init(lost *atomic.Int64) {
	h.byEnd, h.changed, h.lost = map[bucketKey]*bucket{}, map[uint32]int{}, lost
	h.buckets.Store(&[]*bucket{})
}

func (k slot) shelf() int { return int(k >> 62) }

// batch is a change on its way to the shelves. The shapes of what it adds have
// their numbers.
type batch struct {
	set            *set
	filter         *filter
	added, removed []revocation.Entry
}

// put makes the part of the change that belongs to h.
func (b *batch) put(h *shelf) error {
	var shape *revocation.Shape // of the entries before, mostly of the next one too
	var number uint32
	for i := range b.added {
		e := &b.added[i]
		k := slotOf(&e.Digest)
		if &b.set.shelves[k.shelf()] != h {
			continue
		}
		if shape == nil || *shape != e.Shape {
			shape, number = &e.Shape, b.set.numbers[e.Shape]
		}
		if err := b.add(h, k, number, e); err != nil {
			return err
		}
	}
	for i := range b.removed {
		e := &b.removed[i]
		if k := slotOf(&e.Digest); &b.set.shelves[k.shelf()] == h && b.filter.has(uint64(k)) {
			if err := h.remove(k, e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) add(h *shelf, k slot, shape uint32, e *revocation.Entry) error {
	s := b.set
	if e.ExpiresAt+margin <= s.clock {
		return nil
	}
	taken := b.filter.add(uint64(k))
	if taken {
		if held, err := h.holds(k, e); held || err != nil {
			return err
		}
	}
	r := record{shape: shape, before: e.Before, expires: e.ExpiresAt, id: e.ID}
	copy(r.rest[:], e.Digest[8:])
	if err := h.bucket(e.ExpiresAt, s.clock).add(k, r, taken); err != nil {
		return err
	}
	if s.next != nil {
		s.next.add(uint64(k))
	}
	h.keys++
	h.changed[shape]++
	return nil
}

// holds says whether this very entry is there already.
func (h *shelf) holds(k slot, e *revocation.Entry) (held bool, err error) {
	key := k.String()
	for _, b := range *h.buckets.Load() {
		if b.ends < e.ExpiresAt {
			continue
		}
		err := b.find(k, key, func(r *record) bool {
			held = held || r.id == e.ID && r.rest == [8]byte(e.Digest[8:])
			return !held
		})
		if held || err != nil {
			return held, err
		}
	}
	return false, nil
}

func (h *shelf) remove(k slot, e *revocation.Entry) error {
	for _, b := range *h.buckets.Load() {
		if b.ends < e.ExpiresAt {
			continue
		}
		shape, ok, err := b.remove(k, [8]byte(e.Digest[8:]), e.ID)
		if ok {
			h.changed[shape]--
		}
		if ok || err != nil {
			return err
		}
	}
	return nil
}

// bucket is where an entry with this end belongs. Its width is the largest
// power of two of a minute that is an eighth of what is left at most.
func (h *shelf) bucket(expires, clock revocation.Micros) *bucket {
	width := revocation.Micros(time.Minute / time.Microsecond)
	for left := expires - clock; width*16 <= left; {
		width *= 2
	}
	k := bucketKey{(expires + width - 1) / width * width, width}
	b := h.byEnd[k]
	if b == nil {
		b = newBucket(k.ends, h.lost)
		h.byEnd[k] = b
		h.publish()
	}
	return b
}

// publish shows readers the buckets.
func (h *shelf) publish() {
	all := slices.SortedFunc(maps.Values(h.byEnd), func(a, b *bucket) int { return cmp.Compare(a.ends, b.ends) })
	h.buckets.Store(&all)
}

// sweep drops the buckets that have passed.
func (h *shelf) sweep(clock revocation.Micros) {
	before := len(h.byEnd)
	for k, b := range h.byEnd {
		if k.ends+margin > clock {
			continue
		}
		delete(h.byEnd, k)
		for shape, n := range b.shapes {
			h.changed[shape] -= n
		}
	}
	if len(h.byEnd) < before {
		h.publish()
	}
}

// check counts what is there.
func (h *shelf) check() (held int, err error) {
	for _, b := range h.byEnd {
		if err := b.check(); err != nil {
			return 0, err
		}
		held += b.held
	}
	return held, nil
}

// partEntries is how many entries each yields at once.
const partEntries = 4096

// parts yields all that is held. shapes are those by number; what has a number
// beyond them was added since.
func (h *shelf) parts(shapes []revocation.Shape) iter.Seq2[[]revocation.Entry, error] {
	return func(yield func([]revocation.Entry, error) bool) {
		part := make([]revocation.Entry, 0, partEntries)
		flush := func() bool {
			slices.SortStableFunc(part, func(a, b revocation.Entry) int { return a.Shape.Compare(b.Shape) })
			more := len(part) == 0 || yield(part, nil)
			part = part[:0]
			return more
		}
		for _, b := range *h.buckets.Load() {
			err := b.each(func(k slot, r record) error {
				if int(r.shape) >= len(shapes) {
					return nil
				}
				if part = append(part, r.entry(k, shapes[r.shape])); len(part) == cap(part) && !flush() {
					return errStopped
				}
				return nil
			})
			if err == errStopped { //nolint:errorlint // our own, unwrapped
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
		flush()
	}
}

// entry puts r together again.
func (r *record) entry(k slot, shape revocation.Shape) revocation.Entry {
	e := revocation.Entry{Shape: shape, Before: r.before, ExpiresAt: r.expires, ID: r.id}
	copy(e.Digest[:8], k.String())
	copy(e.Digest[8:], r.rest[:])
	return e
}
