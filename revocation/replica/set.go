package replica

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rescind/revocation"
)

// set is the exact set of entries that are in force. One writer changes it. Any
// number of readers look tokens up at the same time, and wait for the writer for
// the time of a single entry at most.
//
// # Where an entry lies
//
// Stripes divide the entries by their digests, so that a long change uses
// several processors. Within a stripe, buckets divide them by the time at which
// they end: short buckets for entries that end soon, long buckets for entries
// that end late. So a bucket outlasts its first entry by at most an eighth of
// that entry's life, and there are some hundreds of buckets at most. A look-up
// goes through all buckets of one stripe, but only after the filter has said
// that there can be an entry.
//
// # Filters
//
// A filter never forgets a key, so keys of expired and restored entries fill it
// up. When a filter is full, or mostly full of such keys, the next one is built
// beside it from the buckets, while the writer adds to both. Then the next one
// takes its place.
//
// # Invariant
//
// The entries in the set are those that were added, less those that were
// removed, less those in buckets that were dropped. While this holds, a filter
// hit without an entry is a proven false positive. check tests it. A set that
// failed check once is never used again.
type set struct {
	view    atomic.Pointer[view] // all that readers see, except the buckets
	stripes [stripes]stripe
	evicted atomic.Int64 // entries that BigCache removed by itself: a fault
	entries atomic.Int64
	inUse   atomic.Bool // look-ups read the set, so long work on it rests

	mu     sync.Mutex        // held by the writer, for the fields below
	ended  revocation.Micros // entries that end by then may be dropped; it never goes back
	rests  time.Time         // until then no change rests, so that a replica that is behind catches up
	next   *filter           // the filter that is being built; nil: none
	added  int               // keys in the filter
	shapes shapeTable
	census revocation.Census // of the entries; sweeps included, so that one too early shows
}

// view has all that readers need, except the buckets. A view is replaced, never
// changed.
type view struct {
	filter *filter
	shapes map[string]*issuerShapes // in use, by issuer
}

// clock is the time as the follower knows it.
type clock struct {
	now   revocation.Micros // the best guess; it decides where entries lie, and nothing else
	ended revocation.Micros // every entry that ends by then has ended for certain; 0: none has
}

// newSet returns an empty set whose filter has room for about expect entries.
func newSet(expect int) *set {
	s := &set{shapes: newShapeTable()}
	for i := range s.stripes {
		s.stripes[i].init(&s.evicted)
	}
	s.view.Store(&view{filter: newFilter(expect + expect/8), shapes: map[string]*issuerShapes{}})
	return s
}

// len returns the number of entries.
func (s *set) len() int { return int(s.entries.Load()) }

// parallelThreshold is the number of entries from which a change is divided
// among processors.
const parallelThreshold = 1024

// A change rests for mostRest at most. After its rests, restShare times as long
// passes before another change rests.
const (
	mostRest      = 50 * time.Millisecond
	restShare     = 20
	longestGentle = 4096 // entries of a change that rests; a longer one uses several processors
)

// apply adds and removes entries. Entries that are there already, or gone
// already, change nothing.
func (s *set) apply(added, removed []revocation.Entry, at clock) error {
	_, err := s.change(added, removed, at)
	return err
}

// change is apply, and returns how many entries the set has more than before.
func (s *set) change(added, removed []revocation.Entry, at clock) (grown int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = max(s.ended, at.ended)
	s.shapes.number(added)
	b := batch{set: s, filter: s.view.Load().filter, added: added, removed: removed, now: max(at.now, s.ended)}
	b.filter.prefetch(added)
	if n := len(added) + len(removed); s.inUse.Load() && n <= longestGentle && time.Now().After(s.rests) {
		b.breath = NewBreath(mostRest)
		defer func() { s.rests = time.Now().Add(restShare * (mostRest - b.breath.left)) }()
	}
	if b.breath != nil || len(added)+len(removed) < parallelThreshold {
		for i := range s.stripes {
			err = errors.Join(err, b.put(&s.stripes[i]))
		}
	} else {
		var all errgroup.Group
		all.SetLimit(runtime.GOMAXPROCS(0))
		for i := range s.stripes {
			all.Go(func() error { return b.put(&s.stripes[i]) })
		}
		err = all.Wait()
	}
	return s.settle(), err
}

// settle takes over the counts of the stripes, and returns how many entries the
// set has more than before. It shows readers the shapes if the shapes in use
// have changed.
func (s *set) settle() (grown int) {
	for i := range s.stripes {
		h := &s.stripes[i]
		s.added += h.keys
		h.keys = 0
		for shape, n := range h.changed {
			s.shapes.count(shape, n)
			grown += n
		}
		clear(h.changed)
		for minute, n := range h.ends {
			s.census.AddMinute(minute, n)
		}
		clear(h.ends)
	}
	s.entries.Add(int64(grown))
	old := s.view.Load()
	if changed := s.shapes.publish(old.shapes); changed != nil {
		s.view.Store(&view{old.filter, changed})
	}
	return grown
}

// lasting returns how many entries end after the minute. ok is false if it was
// asked for a later minute before.
func (s *set) lasting(m revocation.Minute) (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.census.Forget(m - censusMinutes)
	return s.census.After(m)
}

// censusMinutes is for how long an entry is counted after its end: the clocks of
// two control endpoints may differ.
const censusMinutes = 60

// sweep drops the buckets whose entries have all ended.
func (s *set) sweep(ended revocation.Micros) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = max(s.ended, ended)
	for i := range s.stripes {
		s.stripes[i].sweep(s.ended)
	}
	s.settle()
}

// renew replaces the filter if it is too full, or mostly full of keys that are
// gone. Readers and the writer go on meanwhile, and the work rests as often as it
// takes a processor.
func (s *set) renew() error {
	s.mu.Lock()
	current, entries := s.view.Load().filter, s.len()
	if s.next != nil || s.added <= current.capacity && (s.added-entries <= entries || s.added < minFilter) {
		s.mu.Unlock()
		return nil
	}
	next := newFilter(entries + entries/2)
	s.next = next
	var buckets []*bucket
	for i := range s.stripes {
		buckets = append(buckets, *s.stripes[i].buckets.Load()...)
	}
	before := s.added
	s.mu.Unlock()

	var err error
	var rests *Breath
	if s.inUse.Load() {
		rests = NewBreath(time.Hour)
	}
	keys := 0
	for _, b := range buckets {
		err = b.keys(func(k key) {
			next.add(uint64(k))
			if keys++; keys%1024 == 0 {
				rests.Take()
			}
		})
		if err != nil {
			break
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = nil
	if err != nil {
		return err
	}
	s.added += entries - before
	s.view.Store(&view{next, s.view.Load().shapes})
	return nil
}

// check returns an error if the set does not have the entries that it must have.
func (s *set) check() error {
	if n := s.evicted.Load(); n > 0 {
		return fmt.Errorf("BigCache has evicted %d entries", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := 0
	for i := range s.stripes {
		n, err := s.stripes[i].check()
		if err != nil {
			return err
		}
		sum += n
	}
	if shaped := s.shapes.entries(); sum != s.len() || shaped != s.len() {
		return fmt.Errorf("the set must hold %d entries; its stripes hold %d, and its shapes count %d", s.len(), sum, shaped)
	}
	return nil
}

// each yields every entry, in parts. It keeps neither readers nor the writer
// waiting. An entry that is added or removed meanwhile may be yielded or not.
// The stripes take turns, and each yields its entries in the order in which it
// holds them: a set that is filled in that order is filled fastest.
func (s *set) each(yield func([]revocation.Entry) error) error {
	s.mu.Lock()
	shapes := s.shapes.clone()
	s.mu.Unlock()
	var next [stripes]func() ([]revocation.Entry, error, bool)
	for i := range s.stripes {
		pull, stop := iter.Pull2(s.stripes[i].parts(shapes))
		defer stop()
		next[i] = pull
	}
	for open := stripes; open > 0; {
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
