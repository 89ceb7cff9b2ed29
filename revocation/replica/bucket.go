package replica

import (
	"fmt"
	"slices"
	"sync/atomic"

	"rescind/revocation"
)

// bucket holds the entries that end within one stretch of time. It is dropped
// whole when that time has passed.
type bucket struct {
	ends     revocation.Micros
	segments atomic.Pointer[[]*segment] // replaced, never changed; the last one is open
	overflow overflow

	// The fields below belong to the writer.
	entries int
	shapes  map[shapeNumber]int // entries by shape
	evicted *atomic.Int64
}

func newBucket(ends revocation.Micros, evicted *atomic.Int64) *bucket {
	b := &bucket{ends: ends, shapes: map[shapeNumber]int{}, evicted: evicted}
	b.segments.Store(&[]*segment{})
	return b
}

// find answers q.
func (b *bucket) find(q *query) (a answer, err error) {
	for _, s := range *b.segments.Load() {
		r, ok, err := s.get(q.key, q.text)
		if err != nil {
			return a, err
		}
		if !ok || r.digest != q.digest {
			continue
		}
		if a.present = true; q.deniedBy(&r) {
			a.denied, a.by = true, r.id
			return a, nil
		}
	}
	o := b.overflow.find(q)
	o.present = o.present || a.present
	return o, nil
}

// has reports whether the same entry as r is in the bucket.
func (b *bucket) has(k key, text string, r *record) (bool, error) {
	for _, s := range *b.segments.Load() {
		if found, ok, err := s.get(k, text); err != nil || ok && found.compare(r) == 0 {
			return ok, err
		}
	}
	return b.overflow.has(r), nil
}

// add adds r. taken is true if a record of this key can be in the set.
func (b *bucket) add(k key, r *record, taken bool) error {
	if err := b.put(k, r, taken); err != nil {
		return err
	}
	b.entries++
	b.shapes[r.shape]++
	return nil
}

func (b *bucket) put(k key, r *record, taken bool) error {
	open, err := b.open()
	if err != nil {
		return err
	}
	text := k.String()
	if taken {
		if _, inUse, err := open.get(k, text); err != nil {
			return err
		} else if inUse {
			b.overflow.add(*r)
			return nil
		}
	}
	return open.push(text, r)
}

// open returns the segment that takes records: the last one, or a new one after
// it.
func (b *bucket) open() (*segment, error) {
	segments := *b.segments.Load()
	if n := len(segments); n > 0 && !segments[n-1].full() {
		return segments[n-1], nil
	}
	shards := moreShards
	if len(segments) == 0 {
		shards = 1
	}
	s, err := newSegment(b.ends, shards, b.evicted)
	if err != nil {
		return nil, err
	}
	grown := append(slices.Clone(segments), s)
	b.segments.Store(&grown)
	return s, nil
}

// remove removes the record that is the same entry as r, and returns its shape.
// ok is false if there is none.
func (b *bucket) remove(k key, text string, r *record) (shape shapeNumber, ok bool, err error) {
	for _, s := range *b.segments.Load() {
		found, ok, err := s.get(k, text)
		if err != nil {
			return 0, false, err
		}
		if !ok || found.compare(r) != 0 {
			continue
		}
		if err := s.delete(text); err != nil {
			return 0, false, err
		}
		b.forget(found.shape)
		return found.shape, true, b.tidy(s)
	}
	removed, ok := b.overflow.remove(r)
	if ok {
		b.forget(removed.shape)
	}
	return removed.shape, ok, nil
}

func (b *bucket) forget(shape shapeNumber) {
	b.entries--
	if b.shapes[shape]--; b.shapes[shape] == 0 {
		delete(b.shapes, shape)
	}
}

// tidy gives s up if it is mostly holes. Its records move to the open segment,
// and are found in both places until s is gone.
func (b *bucket) tidy(s *segment) error {
	if !s.full() || s.records > s.pushed/2 {
		return nil
	}
	err := s.each(func(r *record) error { return b.put(keyOf(&r.digest), r, true) })
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(*b.segments.Load()), func(o *segment) bool { return o == s })
	b.segments.Store(&rest)
	return nil
}

// keys yields every key in use, some of them more than once.
func (b *bucket) keys(yield func(key)) error {
	for _, s := range *b.segments.Load() {
		if err := s.values(func(k key, _ []byte) error { yield(k); return nil }); err != nil {
			return err
		}
	}
	return b.overflow.each(func(r *record) error { yield(keyOf(&r.digest)); return nil })
}

// each yields the records.
func (b *bucket) each(yield func(*record) error) error {
	for _, s := range *b.segments.Load() {
		if err := s.each(yield); err != nil {
			return err
		}
	}
	return b.overflow.each(yield)
}

// check returns an error if the bucket does not have the number of entries that
// it must have. The writer must not write meanwhile.
func (b *bucket) check() error {
	found := int(b.overflow.size.Load())
	for _, s := range *b.segments.Load() {
		found += s.cache.Len()
	}
	if found != b.entries {
		return fmt.Errorf("the bucket of the entries that end by %s must hold %d; it holds %d", b.ends.Time(), b.entries, found)
	}
	return nil
}
