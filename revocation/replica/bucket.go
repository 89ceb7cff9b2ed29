package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allegro/bigcache/v3"

	"rescind/revocation"
)

// BigCache is a cache: it is allowed to forget, and to forget is to allow a
// revoked token. So it is used in the one way in which it cannot:
//
//   - it has no limit of size, a life longer than any entry's, and no cleaning;
//     OnRemove for any reason but our own Delete is a fault;
//   - its key is eight bytes of the digest and its hash is the key, so that two
//     keys with one hash, of which it would keep the later, are one key. Whatever
//     finds its key taken, another digest or the same one revoked twice, goes
//     to an exact map beside it;
//   - what is deleted leaves a hole for ever, so caches are kept small (a
//     layer), begun anew when full, and given up when they are mostly holes;
//   - nothing expires in it: a bucket is dropped whole.

// errStopped ends an iteration that has yielded enough.
var errStopped = errors.New("stopped")

// slot is the key: the first eight bytes of a digest.
type slot uint64

func slotOf(d *revocation.Digest) slot { return slot(binary.LittleEndian.Uint64(d[:8])) }

func (s slot) String() string {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(s))
	return string(b[:])
}

// identity is the hasher under which a slot is its own hash.
type identity struct{}

func (identity) Sum64(key string) uint64 { return binary.LittleEndian.Uint64([]byte(key)) }

// record is an entry as a layer holds it: what its slot and its bucket do not
// say.
type record struct {
	rest    [8]byte // of the digest
	shape   uint32  // number of the shape in the set
	before  revocation.Micros
	expires revocation.Micros
	id      revocation.ID
}

func (r *record) append(b []byte, ends revocation.Micros) []byte {
	b = append(b, r.rest[:]...)
	b = binary.AppendUvarint(b, uint64(r.shape))
	before := uint64(0) // none; else one more than the distance, zigzag
	if r.before != 0 {
		d := int64(ends - r.before)
		before = uint64(d<<1^d>>63) + 1
	}
	b = binary.AppendUvarint(b, before)
	b = binary.AppendUvarint(b, uint64(ends-r.expires))
	b = binary.AppendUvarint(b, r.id.Revision)
	return binary.AppendUvarint(b, uint64(r.id.Index))
}

// readRecord reads what append wrote. The bytes never leave this process.
func readRecord(b []byte, ends revocation.Micros) (record, error) {
	c := cursor{rest: b}
	r := record{}
	copy(r.rest[:], c.bytes(8))
	r.shape = uint32(c.number(1<<32 - 1))
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

// Sizes of a layer. A shard's queue doubles by copying, under the lock that
// its readers take, so a shard stays small: 1.3 MB, copied in a fraction of a
// millisecond. At firstQueue times ten, doubled eight times, it is full just
// when the shard's map is three quarters full, before that would double too.
const (
	firstQueue   = 512       // a tenth of a shard's first queue
	shardEntries = 24 << 10  // that a shard's map holds well
	shardBytes   = 1_270_000 // of its queue, with room for an uneven spread
	moreShards   = 4         // of every layer of a bucket but the first
	entryHeader  = 8 + 1 + 18
)

// layer is one BigCache. Its counts belong to the writer.
type layer struct {
	cache  *bigcache.BigCache
	shards int
	held   int // entries
	pushed int // entries ever: held and holes
	bytes  int // of all that was pushed
}

// eternity is a life that no entry reaches.
const eternity = 200 * 365 * 24 * time.Hour

func newLayer(shards int, lost *atomic.Int64) (*layer, error) {
	config := bigcache.Config{
		Shards: shards, LifeWindow: eternity, MaxEntrySize: firstQueue, Hasher: identity{},
		OnRemoveWithReason: func(string, []byte, bigcache.RemoveReason) { lost.Add(1) },
	}.OnRemoveFilterSet(bigcache.Expired, bigcache.NoSpace)
	cache, err := bigcache.New(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("bigcache: %w", err)
	}
	return &layer{cache: cache, shards: shards}, nil
}

func (l *layer) full() bool {
	return l.pushed >= l.shards*shardEntries || l.bytes >= l.shards*shardBytes
}

// get is the record at a slot, if there is one.
func (l *layer) get(key string, ends revocation.Micros) (r record, ok bool, err error) {
	b, err := l.cache.Get(key)
	if errors.Is(err, bigcache.ErrEntryNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("bigcache: %w", err)
	}
	r, err = readRecord(b, ends)
	return r, err == nil, err
}

// values yields what is held, as it is held. It does not keep readers or the
// writer waiting.
func (l *layer) values(yield func(slot, []byte) error) error {
	for it := l.cache.Iterator(); it.SetNext(); {
		info, err := it.Value()
		if err != nil {
			return fmt.Errorf("bigcache: %w", err)
		}
		if err := yield(slot(info.Hash()), info.Value()); err != nil {
			return err
		}
	}
	return nil
}

// each yields what is held.
func (l *layer) each(ends revocation.Micros, yield func(slot, record) error) error {
	return l.values(func(k slot, value []byte) error {
		r, err := readRecord(value, ends)
		if err != nil {
			return err
		}
		return yield(k, r)
	})
}

// bucket holds the entries that end within one stretch of time, and is dropped
// whole when that has passed.
type bucket struct {
	ends revocation.Micros

	layers atomic.Pointer[[]*layer] // replaced, never changed; the last one is open

	mu       sync.RWMutex
	overflow map[slot][]record // whose slot was taken
	spilt    atomic.Int64      // records in overflow

	// The writer's.
	held   int
	shapes map[uint32]int // entries by shape
	lost   *atomic.Int64
}

func newBucket(ends revocation.Micros, lost *atomic.Int64) *bucket {
	b := &bucket{ends: ends, overflow: map[slot][]record{}, shapes: map[uint32]int{}, lost: lost}
	b.layers.Store(&[]*layer{})
	return b
}

// find yields the records at k, whose String is key, until it is told to stop.
func (b *bucket) find(k slot, key string, yield func(*record) (more bool)) error {
	for _, l := range *b.layers.Load() {
		r, ok, err := l.get(key, b.ends)
		if err != nil {
			return err
		}
		if ok && !yield(&r) {
			return nil
		}
	}
	if b.spilt.Load() == 0 {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for i := range b.overflow[k] {
		if !yield(&b.overflow[k][i]) {
			return nil
		}
	}
	return nil
}

// add puts r at k. taken says that the slot may be in use.
func (b *bucket) add(k slot, r record, taken bool) error {
	if err := b.put(k, r, taken); err != nil {
		return err
	}
	b.held++
	b.shapes[r.shape]++
	return nil
}

func (b *bucket) put(k slot, r record, taken bool) error {
	open, err := b.open()
	if err != nil {
		return err
	}
	key := k.String()
	if taken {
		if _, inUse, err := open.get(key, b.ends); err != nil {
			return err
		} else if inUse {
			b.mu.Lock()
			b.overflow[k] = append(b.overflow[k], r)
			b.mu.Unlock()
			b.spilt.Add(1)
			return nil
		}
	}
	var buffer [64]byte
	value := r.append(buffer[:0], b.ends)
	if err := open.cache.Set(key, value); err != nil {
		return fmt.Errorf("bigcache: %w", err)
	}
	open.held++
	open.pushed++
	open.bytes += entryHeader + len(value)
	return nil
}

// open is the layer that takes entries: the last one, or a new one after it.
func (b *bucket) open() (*layer, error) {
	layers := *b.layers.Load()
	if n := len(layers); n > 0 && !layers[n-1].full() {
		return layers[n-1], nil
	}
	shards := moreShards
	if len(layers) == 0 {
		shards = 1
	}
	l, err := newLayer(shards, b.lost)
	if err != nil {
		return nil, err
	}
	grown := append(slices.Clone(layers), l)
	b.layers.Store(&grown)
	return l, nil
}

// remove takes out the record at k that has this digest and ID, and returns
// its shape. ok is false if there is none.
func (b *bucket) remove(k slot, rest [8]byte, id revocation.ID) (shape uint32, ok bool, err error) {
	key := k.String()
	for _, l := range *b.layers.Load() {
		r, found, err := l.get(key, b.ends)
		if err != nil {
			return 0, false, err
		}
		if !found || r.rest != rest || r.id != id {
			continue
		}
		if err := l.cache.Delete(key); err != nil {
			return 0, false, fmt.Errorf("bigcache: %w", err)
		}
		l.held--
		b.forget(r.shape)
		return r.shape, true, b.tidy(l)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.overflow[k], func(r record) bool { return r.rest == rest && r.id == id })
	if at < 0 {
		return 0, false, nil
	}
	shape = b.overflow[k][at].shape
	if b.overflow[k] = slices.Delete(b.overflow[k], at, at+1); len(b.overflow[k]) == 0 {
		delete(b.overflow, k)
	}
	b.spilt.Add(-1)
	b.forget(shape)
	return shape, true, nil
}

func (b *bucket) forget(shape uint32) {
	b.held--
	if b.shapes[shape]--; b.shapes[shape] == 0 {
		delete(b.shapes, shape)
	}
}

// tidy gives l up if it is mostly holes: what it holds moves on, and is found
// in both places until l is gone.
func (b *bucket) tidy(l *layer) error {
	if !l.full() || l.held > l.pushed/2 {
		return nil
	}
	err := l.each(b.ends, func(k slot, r record) error { return b.put(k, r, true) })
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(*b.layers.Load()), func(o *layer) bool { return o == l })
	b.layers.Store(&rest)
	return nil
}

// spiltRecords are a copy of the overflow.
func (b *bucket) spiltRecords() map[slot][]record {
	b.mu.RLock()
	defer b.mu.RUnlock()
	spilt := make(map[slot][]record, len(b.overflow))
	for k, records := range b.overflow {
		spilt[k] = slices.Clone(records)
	}
	return spilt
}

// slots yields every slot that is in use.
func (b *bucket) slots(yield func(slot)) error {
	for _, l := range *b.layers.Load() {
		if err := l.values(func(k slot, _ []byte) error { yield(k); return nil }); err != nil {
			return err
		}
	}
	for k := range b.spiltRecords() {
		yield(k)
	}
	return nil
}

// each yields all that is held.
func (b *bucket) each(yield func(slot, record) error) error {
	for _, l := range *b.layers.Load() {
		if err := l.each(b.ends, yield); err != nil {
			return err
		}
	}
	for k, records := range b.spiltRecords() {
		for _, r := range records {
			if err := yield(k, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// check counts what is there. The writer does not write meanwhile.
func (b *bucket) check() error {
	there := int(b.spilt.Load())
	for _, l := range *b.layers.Load() {
		there += l.cache.Len()
	}
	if there != b.held {
		return fmt.Errorf("of %d entries that end by %s there are %d", b.held, b.ends.Time(), there)
	}
	return nil
}
