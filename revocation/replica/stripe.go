package replica

import (
	"cmp"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"rescind/revocation"
)

// stripes is the number of stripes of a set. Two bits of an entry's key choose
// its stripe.
const stripes = 4

// stripe holds a part of the entries of a set. One goroutine at a time writes
// it.
type stripe struct {
	buckets atomic.Pointer[[]*bucket] // all that readers see; replaced, never changed

	// The fields below belong to the writer.
	byEnd   map[bucketKey]*bucket
	evicted *atomic.Int64
	keys    int                 // added to the filter since the set last settled
	changed map[shapeNumber]int // entries more or fewer since then, by shape

	ends map[revocation.Minute]int // entries added or removed since then, by the minute of their end
}

type bucketKey struct{ ends, width revocation.Micros }

// margin is how long a bucket stays after its end, for a clock that is set back
// a little.
const margin = revocation.Micros(5 * time.Minute / time.Microsecond)

// The width of a bucket is a power of two of the narrowest, at most the widest.
// The widest holds for a replica whose clock is years behind when it starts: the
// entries that it places then do not stay for years.
const (
	narrowest = revocation.Micros(time.Minute / time.Microsecond)
	widest    = narrowest << 14 // 11 days
)

func (h *stripe) init(evicted *atomic.Int64) {
	h.byEnd, h.changed, h.evicted = map[bucketKey]*bucket{}, map[shapeNumber]int{}, evicted
	h.ends = map[revocation.Minute]int{}
	h.buckets.Store(&[]*bucket{})
}

// batch is a change on its way to the stripes. The shapes of added have their
// numbers.
type batch struct {
	set            *set
	filter         *filter
	added, removed []revocation.Entry
	now            revocation.Micros
	breath         *Breath
}

// put makes the part of the change that belongs to h.
func (b *batch) put(h *stripe) error {
	var shape *revocation.Shape // of the entry before; mostly the next one has it too
	var number shapeNumber
	for i := range b.added {
		e := &b.added[i]
		k := keyOf(&e.Digest)
		if &b.set.stripes[k.stripe()] != h || b.over(e) {
			continue
		}
		if shape == nil || *shape != e.Shape {
			shape, number = &e.Shape, b.set.shapes.numbers[e.Shape]
		}
		r := recordOf(e, number)
		if err := b.add(h, k, &r); err != nil {
			return err
		}
		b.breath.Take()
	}
	for i := range b.removed {
		e := &b.removed[i]
		k := keyOf(&e.Digest)
		if &b.set.stripes[k.stripe()] != h || !b.filter.has(uint64(k)) {
			continue
		}
		r := recordOf(e, 0)
		if err := h.remove(k, &r); err != nil {
			return err
		}
		b.breath.Take()
	}
	return nil
}

// over reports whether e has ended so long ago that its bucket would be dropped.
func (b *batch) over(e *revocation.Entry) bool {
	return e.ExpiresAt+margin <= b.set.ended
}

func (b *batch) add(h *stripe, k key, r *record) error {
	taken := b.filter.add(uint64(k))
	if taken {
		if there, err := h.has(k, r); there || err != nil {
			return err
		}
	}
	if err := h.bucket(r.expires, b.now).add(k, r, taken); err != nil {
		return err
	}
	if b.set.next != nil {
		b.set.next.add(uint64(k))
	}
	h.keys++
	h.changed[r.shape]++
	h.ends[r.expires.Minute()]++
	return nil
}

// has reports whether the same entry as r is in the stripe.
func (h *stripe) has(k key, r *record) (bool, error) {
	text := k.String()
	for _, b := range *h.buckets.Load() {
		if b.ends < r.expires {
			continue
		}
		if there, err := b.has(k, text, r); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

func (h *stripe) remove(k key, r *record) error {
	text := k.String()
	for _, b := range *h.buckets.Load() {
		if b.ends < r.expires {
			continue
		}
		shape, ok, err := b.remove(k, text, r)
		if ok {
			h.changed[shape]--
			h.ends[r.expires.Minute()]--
		}
		if ok || err != nil {
			return err
		}
	}
	return nil
}

// bucket returns the bucket for an entry with this end. The bucket is at most an
// eighth as wide as the rest of the entry's life.
func (h *stripe) bucket(expires, now revocation.Micros) *bucket {
	width := narrowest
	for left := expires - now; width < widest && width*16 <= left; {
		width *= 2
	}
	k := bucketKey{(expires + width - 1) / width * width, width}
	b := h.byEnd[k]
	if b == nil {
		b = newBucket(k.ends, h.evicted)
		h.byEnd[k] = b
		h.publish()
	}
	return b
}

// publish shows readers the buckets.
func (h *stripe) publish() {
	all := slices.SortedFunc(maps.Values(h.byEnd), func(a, b *bucket) int { return cmp.Compare(a.ends, b.ends) })
	h.buckets.Store(&all)
}

// sweep drops the buckets that ended before ended.
func (h *stripe) sweep(ended revocation.Micros) {
	before := len(h.byEnd)
	for k, b := range h.byEnd {
		if k.ends+margin > ended {
			continue
		}
		delete(h.byEnd, k)
		h.ends[k.ends.Minute()] -= b.entries
		for shape, n := range b.shapes {
			h.changed[shape] -= n
		}
	}
	if len(h.byEnd) < before {
		h.publish()
	}
}

// check returns the number of entries, or an error if a bucket does not have the
// number that it must have.
func (h *stripe) check() (entries int, err error) {
	for _, b := range h.byEnd {
		if err := b.check(); err != nil {
			return 0, err
		}
		entries += b.entries
	}
	return entries, nil
}

// partSize is the number of entries that parts yields at once.
const partSize = 4096

// errStopped ends an iteration that has yielded enough.
var errStopped = errors.New("stopped")

// parts yields the entries. It leaves out an entry whose shape is not in shapes:
// such an entry was added later.
func (h *stripe) parts(shapes map[shapeNumber]revocation.Shape) iter.Seq2[[]revocation.Entry, error] {
	return func(yield func([]revocation.Entry, error) bool) {
		part := make([]revocation.Entry, 0, partSize)
		flush := func() bool {
			slices.SortStableFunc(part, func(a, b revocation.Entry) int { return a.Shape.Compare(b.Shape) })
			more := len(part) == 0 || yield(part, nil)
			part = part[:0]
			return more
		}
		for _, b := range *h.buckets.Load() {
			err := b.each(func(r *record) error {
				shape, ok := shapes[r.shape]
				if !ok {
					return nil
				}
				part = append(part, revocation.Entry{Shape: shape, Digest: r.digest, Before: r.before, ExpiresAt: r.expires, ID: r.id})
				if len(part) == cap(part) && !flush() {
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
