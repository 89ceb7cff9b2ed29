package revocation

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// set is the exact set of entries that are in force: a filter in front of
// buckets. One writer changes it, any number of readers look things up
// meanwhile and never wait for the writer beyond a single entry.
//
// # Where an entry lies
//
// Buckets are stretches of time by the end of what they hold, short ones for
// what ends soon, long ones for what ends late, so that a bucket outstays its
// first entry by an eighth of that entry's life at most and there are some
// hundreds at the most. A look-up goes through all of them, but only once the
// filter has said that there may be something.
//
// # Filters
//
// A filter never forgets a key, so it fills up with what has expired or was
// restored. Then, or when it has more keys than it was made for, the next one is
// filled beside it from the buckets, while the writer adds to both, and takes
// its place.
//
// # Invariant
//
// What is held is what was added, less what was removed, less the buckets that
// were dropped. While that is so, a filter hit that finds nothing is a proven
// false positive. check watches it; what it finds out is final.
type set struct {
	view atomic.Pointer[view] // what readers see
	lost atomic.Int64         // entries that BigCache has let go by itself

	mu      sync.Mutex // the writer; below is its own
	clock   Micros     // when it last looked; never goes back
	buckets map[bucketKey]*bucket
	next    *filter // being filled, or nil
	added   int     // keys in the filter
	entries atomic.Int64

	shapes  []Shape // by number
	numbers map[Shape]uint32
	counts  []int // entries, by number
}

// view is what readers need, and is never changed.
type view struct {
	filter  *filter
	buckets []*bucket
	shapes  map[string][]Shape // in use, by issuer
	all     []Shape            // by number
}

type bucketKey struct{ ends, width Micros }

// margin is how long a bucket stays after its end, for clocks that are set
// back a little.
const margin = Micros(5 * time.Minute / time.Microsecond)

// newSet makes an empty set, with room for about expect entries in its filter.
func newSet(expect int, now Micros) *set {
	s := &set{buckets: map[bucketKey]*bucket{}, numbers: map[Shape]uint32{}, clock: now}
	s.view.Store(&view{filter: newFilter(expect + expect/8)})
	return s
}

// len is how many entries are held.
func (s *set) len() int { return int(s.entries.Load()) }

// apply makes a change, all of it, one entry after the other. Repeated, it does
// nothing.
func (s *set) apply(added, removed []Entry, now Micros) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = max(s.clock, now)
	for i := range added {
		if err := s.add(&added[i]); err != nil {
			return err
		}
	}
	for i := range removed {
		if err := s.remove(&removed[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) add(e *Entry) error {
	if e.ExpiresAt+margin <= s.clock {
		return nil
	}
	k := slotOf(&e.Digest)
	f := s.view.Load().filter
	taken := f.has(uint64(k))
	if taken {
		if held, err := s.holds(k, e); held || err != nil {
			return err
		}
	}
	number := s.number(e.Shape)
	r := record{shape: number, before: e.Before, expires: e.ExpiresAt, id: e.ID}
	copy(r.rest[:], e.Digest[8:])
	if err := s.bucket(e.ExpiresAt).add(k, r, taken); err != nil {
		return err
	}
	f.add(uint64(k))
	if s.next != nil {
		s.next.add(uint64(k))
	}
	s.added++
	s.entries.Add(1)
	if s.counts[number]++; s.counts[number] == 1 {
		s.publish(f)
	}
	return nil
}

// holds says whether this very entry is there already.
func (s *set) holds(k slot, e *Entry) (held bool, err error) {
	for _, b := range s.buckets {
		if b.ends < e.ExpiresAt {
			continue
		}
		err := b.find(k, func(r *record) bool {
			held = held || r.id == e.ID && r.rest == [8]byte(e.Digest[8:])
			return !held
		})
		if held || err != nil {
			return held, err
		}
	}
	return false, nil
}

func (s *set) remove(e *Entry) error {
	k := slotOf(&e.Digest)
	if !s.view.Load().filter.has(uint64(k)) {
		return nil
	}
	for _, b := range s.buckets {
		if b.ends < e.ExpiresAt {
			continue
		}
		shape, ok, err := b.remove(k, [8]byte(e.Digest[8:]), e.ID)
		if err != nil {
			return err
		}
		if ok {
			s.entries.Add(-1)
			if s.counts[shape]--; s.counts[shape] == 0 {
				s.publish(s.view.Load().filter)
			}
			return nil
		}
	}
	return nil
}

// number is that of a shape, given for as long as the set lives.
func (s *set) number(shape Shape) uint32 {
	n, ok := s.numbers[shape]
	if !ok {
		n = uint32(len(s.shapes))
		s.numbers[shape] = n
		s.shapes = append(s.shapes, shape)
		s.counts = append(s.counts, 0)
	}
	return n
}

// bucket is where an entry with this end belongs. Its width is the largest
// power of two of a minute that is an eighth of what is left at most.
func (s *set) bucket(expires Micros) *bucket {
	width := Micros(time.Minute / time.Microsecond)
	for left := expires - s.clock; width*16 <= left; {
		width *= 2
	}
	k := bucketKey{(expires + width - 1) / width * width, width}
	b := s.buckets[k]
	if b == nil {
		b = newBucket(k.ends, &s.lost)
		s.buckets[k] = b
		s.publish(s.view.Load().filter)
	}
	return b
}

// publish shows readers what the writer has, with this filter.
func (s *set) publish(f *filter) {
	v := &view{filter: f, shapes: map[string][]Shape{}, all: slices.Clip(s.shapes)}
	for _, b := range s.buckets {
		v.buckets = append(v.buckets, b)
	}
	for n, count := range s.counts {
		if shape := s.shapes[n]; count > 0 {
			v.shapes[shape.Issuer] = append(v.shapes[shape.Issuer], shape)
		}
	}
	s.view.Store(v)
}

// sweep drops what has expired.
func (s *set) sweep(now Micros) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = max(s.clock, now)
	dropped := false
	for k, b := range s.buckets {
		if k.ends+margin > s.clock {
			continue
		}
		delete(s.buckets, k)
		s.entries.Add(-int64(b.held))
		for shape, n := range b.shapes {
			s.counts[shape] -= n
		}
		dropped = true
	}
	if dropped {
		s.publish(s.view.Load().filter)
	}
}

// renew puts a fresh filter in the place of one that has become too full, or
// full of what is gone. Readers and the writer go on meanwhile.
func (s *set) renew() error {
	s.mu.Lock()
	old, held := s.view.Load().filter, s.len()
	if s.next != nil || s.added <= old.capacity && (s.added-held <= held || s.added < minFilter) {
		s.mu.Unlock()
		return nil
	}
	next := newFilter(held + held/2)
	s.next = next
	buckets := s.view.Load().buckets
	before := s.added
	s.mu.Unlock()

	var err error
	for _, b := range buckets {
		if err = b.each(func(k slot, _ record) error { next.add(uint64(k)); return nil }); err != nil {
			break
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = nil
	if err != nil {
		return err
	}
	s.added += held - before
	s.publish(next)
	return nil
}

// check says what is wrong with the set, if anything is.
func (s *set) check() error {
	if n := s.lost.Load(); n > 0 {
		return fmt.Errorf("%d entries were evicted from memory", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, shaped := 0, 0
	for _, b := range s.buckets {
		if err := b.check(); err != nil {
			return err
		}
		sum += b.held
	}
	for _, n := range s.counts {
		shaped += n
	}
	if sum != s.len() || shaped != s.len() {
		return fmt.Errorf("of %d entries there are %d, and %d by shape", s.len(), sum, shaped)
	}
	return nil
}

// each yields every entry in parts of one shape or several, without keeping
// readers or the writer waiting. What is added or removed meanwhile may be
// among them or not.
func (s *set) each(yield func([]Entry) error) error {
	v := s.view.Load()
	part := make([]Entry, 0, 4096)
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		slices.SortStableFunc(part, func(a, b Entry) int { return a.Shape.compare(b.Shape) })
		err := yield(part)
		part = part[:0]
		return err
	}
	for _, b := range v.buckets {
		err := b.each(func(k slot, r record) error {
			if int(r.shape) >= len(v.all) { // added since, of a shape that was new
				return nil
			}
			part = append(part, r.entry(k, v.all[r.shape]))
			if len(part) < cap(part) {
				return nil
			}
			return flush()
		})
		if err != nil {
			return err
		}
	}
	return flush()
}

// entry puts r together again.
func (r *record) entry(k slot, shape Shape) Entry {
	e := Entry{Shape: shape, Before: r.before, ExpiresAt: r.expires, ID: r.id}
	copy(e.Digest[:8], k.String())
	copy(e.Digest[8:], r.rest[:])
	return e
}
