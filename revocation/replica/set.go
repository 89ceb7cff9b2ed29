package replica

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rescind/revocation"
)

// set is the exact set of entries that are in force: a filter in front of
// shelves of buckets. One writer changes it, any number of readers look things
// up meanwhile and never wait for the writer beyond a single entry.
//
// # Where an entry lies
//
// Shelves divide the entries by their digests, so that a long change is put in
// place on several processors. On a shelf, buckets are stretches of time by the
// end of what they hold, short ones for what ends soon, long ones for what ends
// late, so that a bucket outstays its first entry by an eighth of that entry's
// life at most and there are some hundreds at the most. A look-up goes through
// all buckets of one shelf, but only once the filter has said that there may be
// something.
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
	view    atomic.Pointer[view] // what readers see, but for the buckets
	shelves [shelves]shelf
	lost    atomic.Int64 // entries that BigCache has let go by itself
	entries atomic.Int64

	mu    sync.Mutex        // the writer; below is its own
	clock revocation.Micros // when it last looked; never goes back
	next  *filter           // being filled, or nil
	added int               // keys in the filter

	shapes  []revocation.Shape // by number
	numbers map[revocation.Shape]uint32
	counts  []int // entries, by number
}

// view is what readers need, and is never changed.
type view struct {
	filter *filter
	shapes map[string][]revocation.Shape // in use, by issuer
	all    []revocation.Shape            // by number
}

// margin is how long a bucket stays after its end, for clocks that are set
// back a little.
const margin = revocation.Micros(5 * time.Minute / time.Microsecond)

// newSet makes an empty set, with room for about expect entries in its filter.
func newSet(expect int, now revocation.Micros) *set {
	s := &set{numbers: map[revocation.Shape]uint32{}, clock: now}
	for i := range s.shelves {
		s.shelves[i].init(&s.lost)
	}
	s.view.Store(&view{filter: newFilter(expect + expect/8)})
	return s
}

// len is how many entries are held.
func (s *set) len() int { return int(s.entries.Load()) }

// long is a change that is worth several processors.
const long = 1024

// apply makes a change, all of it. Repeated, it does nothing.
func (s *set) apply(added, removed []revocation.Entry, now revocation.Micros) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = max(s.clock, now)
	s.count(added)
	b := batch{set: s, filter: s.view.Load().filter, added: added, removed: removed}
	b.filter.touch(added)
	var err error
	if len(added)+len(removed) < long {
		for i := range s.shelves {
			err = errors.Join(err, b.put(&s.shelves[i]))
		}
	} else {
		var all errgroup.Group
		all.SetLimit(runtime.GOMAXPROCS(0))
		for i := range s.shelves {
			all.Go(func() error { return b.put(&s.shelves[i]) })
		}
		err = all.Wait()
	}
	s.settle()
	return err
}

// count gives the shapes of a change their numbers.
func (s *set) count(entries []revocation.Entry) {
	for i := range entries {
		if i > 0 && entries[i].Shape == entries[i-1].Shape {
			continue
		}
		if _, ok := s.numbers[entries[i].Shape]; !ok {
			s.numbers[entries[i].Shape] = uint32(len(s.shapes))
			s.shapes = append(s.shapes, entries[i].Shape)
			s.counts = append(s.counts, 0)
		}
	}
}

// settle takes over what the shelves have counted, and shows readers the shapes
// if others are in use than before.
func (s *set) settle() {
	changed := false
	for i := range s.shelves {
		h := &s.shelves[i]
		s.added += h.keys
		h.keys = 0
		for shape, n := range h.changed {
			before := s.counts[shape]
			s.counts[shape] += n
			s.entries.Add(int64(n))
			changed = changed || (before == 0) != (s.counts[shape] == 0)
		}
		clear(h.changed)
	}
	if changed {
		s.publish(s.view.Load().filter)
	}
}

// publish shows readers what the writer has, with this filter.
func (s *set) publish(f *filter) {
	v := &view{filter: f, shapes: map[string][]revocation.Shape{}, all: slices.Clip(s.shapes)}
	for n, count := range s.counts {
		if shape := s.shapes[n]; count > 0 {
			v.shapes[shape.Issuer] = append(v.shapes[shape.Issuer], shape)
		}
	}
	s.view.Store(v)
}

// sweep drops what has expired.
func (s *set) sweep(now revocation.Micros) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = max(s.clock, now)
	for i := range s.shelves {
		s.shelves[i].sweep(s.clock)
	}
	s.settle()
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
	var buckets []*bucket
	for i := range s.shelves {
		buckets = append(buckets, *s.shelves[i].buckets.Load()...)
	}
	before := s.added
	s.mu.Unlock()

	var err error
	for _, b := range buckets {
		if err = b.slots(func(k slot) { next.add(uint64(k)) }); err != nil {
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
	for i := range s.shelves {
		n, err := s.shelves[i].check()
		if err != nil {
			return err
		}
		sum += n
	}
	for _, n := range s.counts {
		shaped += n
	}
	if sum != s.len() || shaped != s.len() {
		return fmt.Errorf("of %d entries there are %d, and %d by shape", s.len(), sum, shaped)
	}
	return nil
}

// each yields every entry in parts, without keeping readers or the writer
// waiting. What is added or removed meanwhile may be among them or not. The
// shelves take turns, and each comes in the order in which it is held: what is
// put in place in that order is put there fastest.
func (s *set) each(yield func([]revocation.Entry) error) error {
	v := s.view.Load()
	var next [shelves]func() ([]revocation.Entry, error, bool)
	for i := range s.shelves {
		pull, stop := iter.Pull2(s.shelves[i].parts(v.all))
		defer stop()
		next[i] = pull
	}
	for open := shelves; open > 0; {
		open = 0
		for _, pull := range next {
			part, err, more := pull()
			if !more {
				continue
			}
			if err == nil {
				err = yield(part)
			}
			if err != nil {
				return err
			}
			open++
		}
	}
	return nil
}
