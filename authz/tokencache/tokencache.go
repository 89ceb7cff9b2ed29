// Package tokencache remembers tokens that were verified. It is bounded in bytes,
// and knows nothing about tokens but the hash by which it finds them.
//
// # Trust
//
// Only the holder of a [Secret] can tell which key a token has. A key is SipHash-2-4
// with 128 bits of output, a keyed pseudorandom function, under 128 random bits that
// never leave the process. A caller that poses as somebody else needs a
// token whose key is that of a verified token. Without the secret each try
// succeeds with the probability of one in 2^128 for each remembered token, and there
// is nothing to compute in advance. The caller cannot learn keys either: neither a
// key nor a part of one leaves the process. SipHash is fast for the length of a token,
// and needs no memory.
//
// A cache never says that a token is valid. Its user puts in tokens that it has
// verified, and decides with each request whether the verification still counts.
//
// # Bounds
//
// The user states the size of each entry, and the entries together never have more
// bytes than the cache was made with. An entry that is larger than an eighth of its
// shard is not taken.
//
// # Eviction
//
// Nobody can flush the entries of everybody. The tokens of one subject, however
// many, fall to an eighth of the shards. Within a shard the issuer with the most bytes makes room, so an
// issuer with many tokens displaces its own before those of another issuer. Among the
// entries of one issuer the hand of a clock (GCLOCK) chooses: an entry that was used
// up to three times since the hand came by is spared as many times. A token that is
// used once goes first.
//
// Entries that have ended are removed when the hand meets them. Each addition moves
// the hand by two entries at least.
//
// # Ownership
//
// The index is read without a lock. A shard's lock is held by additions, for
// operations in memory. A [Flight] is owned by the request that verifies the token,
// and other requests wait for it for [Patience] at most.
//
// .github/decisions/token-cache.md has the reason for no library.
package tokencache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// Cache remembers a V for each key. It is safe for concurrent use.
type Cache[V any] struct {
	// Counts has the evictions from the cache. The user of the cache counts hits
	// and misses, because it knows whether a value still counts.
	Counts *Counts

	index   *xsync.Map[Key, *entry[V]]
	shards  []shard[V]
	seed    maphash.Seed
	bytes   atomic.Int64
	entries atomic.Int64
	flights flights
}

// Counts count over the life of a process. Caches that follow each other share
// them.
type Counts struct{ Hits, Misses, Evictions *xsync.Counter }

// NewCounts returns counts at 0.
func NewCounts() *Counts {
	return &Counts{xsync.NewCounter(), xsync.NewCounter(), xsync.NewCounter()}
}

const (
	mostShards = 64
	// leastShard is the size from which a cache has several shards.
	leastShard = 256 << 10
	// overhead is the size of an entry apart from its value: the entry itself, and
	// its place in the index.
	overhead = 160
)

// New returns an empty cache for at most maxBytes.
func New[V any](maxBytes int, counts *Counts) *Cache[V] {
	n := min(max(maxBytes/leastShard, 1), mostShards)
	c := &Cache[V]{
		index:  xsync.NewMap[Key, *entry[V]](),
		shards: make([]shard[V], n), seed: maphash.MakeSeed(), Counts: counts,
	}
	for i := range c.shards {
		c.shards[i] = shard[V]{cache: c, room: maxBytes / n, rings: map[string]*ring[V]{}}
	}
	c.flights.of = map[Key]*Flight{}
	return c
}

// Bytes returns the size of all entries.
func (c *Cache[V]) Bytes() int { return int(c.bytes.Load()) }

// Entries returns the number of entries.
func (c *Cache[V]) Entries() int { return int(c.entries.Load()) }

// Find returns the value under a key. It takes no lock and allocates nothing. It
// does not look whether the value has ended.
func (c *Cache[V]) Find(key Key) (value V, ok bool) {
	e, ok := c.index.Load(key)
	if !ok {
		return value, false
	}
	if n := e.uses.Load(); n < mostUses {
		e.uses.Store(n + 1) // a use that is lost to another one at the same time does no harm
	}
	return e.value, true
}

// Owner is the holder of a token. Holders displace their own entries first.
type Owner struct{ Issuer, Subject string }

// Add puts a value of this size in the place of an older one under the same key. It
// reports whether the value was taken. ends is when the value becomes useless.
func (c *Cache[V]) Add(key Key, value V, size int, o Owner, now, ends time.Time) bool {
	size += overhead
	s := &c.shards[c.shardOf(key, o)]
	if size > s.room/8 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := c.index.Load(key); ok {
		s.remove(old)
	}
	r := s.ring(o.Issuer)
	s.expire(r, now)
	for s.bytes+size > s.room {
		s.evict(s.largest(r, size))
	}
	e := &entry[V]{key: key, value: value, size: size, ring: r, ends: ends}
	r.push(e)
	s.grow(r, size, 1)
	c.index.Store(key, e)
	return true
}

// shardOf returns the number of the shard that holds an entry. The owner is the
// same for each Add under one key.
func (c *Cache[V]) shardOf(key Key, o Owner) int {
	var h maphash.Hash
	h.SetSeed(c.seed)
	_, _ = h.WriteString(o.Issuer)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(o.Subject)
	n := uint64(len(c.shards))
	return int((h.Sum64()%n + key.lo%max(n/8, 1)) % n)
}

// shard holds a part of the entries.
type shard[V any] struct {
	cache *Cache[V]
	room  int // bytes

	mu    sync.Mutex
	bytes int
	rings map[string]*ring[V] // by issuer, of which there are as many as are configured
}

// ring returns the ring of an issuer. The caller holds mu, here and below.
func (s *shard[V]) ring(issuer string) *ring[V] {
	r := s.rings[issuer]
	if r == nil {
		r = &ring[V]{}
		s.rings[issuer] = r
	}
	return r
}

// largest returns the ring with the most bytes, if r had size more. It is a ring
// with entries.
func (s *shard[V]) largest(r *ring[V], size int) (largest *ring[V]) {
	most := -1
	for _, other := range s.rings {
		bytes := other.bytes
		if other == r {
			bytes += size
		}
		if other.hand != nil && bytes > most {
			largest, most = other, bytes
		}
	}
	return largest
}

// evict removes the entry of r that was used least.
func (s *shard[V]) evict(r *ring[V]) {
	for {
		e := r.hand
		n := e.uses.Load()
		if n == 0 {
			s.remove(e)
			s.cache.Counts.Evictions.Inc()
			return
		}
		e.uses.Store(n - 1)
		r.hand = e.next
	}
}

// expire removes the next entries that have ended, and stops at one that has not.
func (s *shard[V]) expire(r *ring[V], now time.Time) {
	for range 2 {
		if e := r.hand; e != nil && !now.Before(e.ends) {
			s.remove(e)
		}
	}
}

func (s *shard[V]) remove(e *entry[V]) {
	e.ring.remove(e)
	s.grow(e.ring, -e.size, -1)
	s.cache.index.Delete(e.key)
}

func (s *shard[V]) grow(r *ring[V], bytes, entries int) {
	r.bytes += bytes
	s.bytes += bytes
	s.cache.bytes.Add(int64(bytes))
	s.cache.entries.Add(int64(entries))
}

// mostUses is how many uses of an entry count.
const mostUses = 3

// entry is a value in a ring.
type entry[V any] struct {
	key   Key
	value V
	size  int
	ends  time.Time
	uses  atomic.Int32 // since the hand came by

	ring       *ring[V]
	prev, next *entry[V] // owned by the shard
}

// ring holds the entries of one issuer in the order in which the hand meets them.
type ring[V any] struct {
	hand  *entry[V] // nil: it is empty
	bytes int
}

// push puts e in the place that the hand comes to last.
func (r *ring[V]) push(e *entry[V]) {
	if r.hand == nil {
		e.prev, e.next, r.hand = e, e, e
		return
	}
	e.prev, e.next = r.hand.prev, r.hand
	e.prev.next, e.next.prev = e, e
}

func (r *ring[V]) remove(e *entry[V]) {
	if e.next == e {
		r.hand = nil
	} else if r.hand == e {
		r.hand = e.next
	}
	e.prev.next, e.next.prev = e.next, e.prev
}
