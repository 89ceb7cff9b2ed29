package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/allegro/bigcache/v3"

	"rescind/revocation"
)

// segment is one BigCache. BigCache is a cache: it may forget, and to forget a
// revocation is to allow a revoked token. So it is used in the one way in which
// it cannot forget:
//
//   - It has no limit of size, a life longer than any entry's, and no cleaning.
//     OnRemove for any reason but our own Delete is a fault.
//   - Its key is eight bytes of the digest, and its hash is the key. BigCache
//     keeps the later of two keys with one hash; here two keys with one hash are
//     one key. A record whose key is taken, by another digest or by the same
//     target revoked twice, goes to the bucket's overflow.
//   - A deleted record leaves a hole for ever. So segments are small, a full one
//     is followed by a new one, and one that is mostly holes is given up.
//   - Nothing expires in it. A bucket is dropped whole.
//
// The counts belong to the writer.
type segment struct {
	cache   *bigcache.BigCache
	ends    revocation.Micros // of the bucket
	shards  int
	records int
	pushed  int // records ever pushed, removed ones included
	bytes   int // of all that was pushed
}

// identity is the hasher under which a key is its own hash.
type identity struct{}

func (identity) Sum64(key string) uint64 { return binary.LittleEndian.Uint64([]byte(key)) }

// Sizes of a segment. A shard's queue doubles by copying, under the lock that
// its readers take, so a shard stays small: 1.3 MB, copied in a fraction of a
// millisecond. The queue starts at ten times firstQueue. Doubled eight times, it
// is full just when the shard's map is three quarters full, before the map would
// double too.
const (
	firstQueue   = 512       // a tenth of a shard's first queue
	shardEntries = 24 << 10  // the entries that a shard's map holds well
	shardBytes   = 1_270_000 // of a shard's queue, with room for an uneven spread
	moreShards   = 4         // of every segment of a bucket but the first
	recordHeader = 8 + 1 + 18
)

// eternity is a life that no entry reaches.
const eternity = 200 * 365 * 24 * time.Hour

func newSegment(ends revocation.Micros, shards int, evicted *atomic.Int64) (*segment, error) {
	config := bigcache.Config{
		Shards: shards, LifeWindow: eternity, MaxEntrySize: firstQueue, Hasher: identity{},
		OnRemoveWithReason: func(string, []byte, bigcache.RemoveReason) { evicted.Add(1) },
	}.OnRemoveFilterSet(bigcache.Expired, bigcache.NoSpace)
	cache, err := bigcache.New(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("bigcache: %w", err)
	}
	return &segment{cache: cache, ends: ends, shards: shards}, nil
}

func (s *segment) full() bool {
	return s.pushed >= s.shards*shardEntries || s.bytes >= s.shards*shardBytes
}

// get returns the record at k, whose String is text.
func (s *segment) get(k key, text string) (r record, ok bool, err error) {
	b, err := s.cache.Get(text)
	if errors.Is(err, bigcache.ErrEntryNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("bigcache: %w", err)
	}
	r, err = readRecord(k, b, s.ends)
	return r, err == nil, err
}

// push adds a record whose key is not taken.
func (s *segment) push(text string, r *record) error {
	var buffer [64]byte
	value := r.append(buffer[:0], s.ends)
	if err := s.cache.Set(text, value); err != nil {
		return fmt.Errorf("bigcache: %w", err)
	}
	s.records++
	s.pushed++
	s.bytes += recordHeader + len(value)
	return nil
}

// delete removes the record at a key that is taken.
func (s *segment) delete(text string) error {
	if err := s.cache.Delete(text); err != nil {
		return fmt.Errorf("bigcache: %w", err)
	}
	s.records--
	return nil
}

// values yields the packed records in the order in which they lie in memory. It
// keeps neither readers nor the writer waiting.
func (s *segment) values(yield func(key, []byte) error) error {
	for it := s.cache.Iterator(); it.SetNext(); {
		info, err := it.Value()
		if err != nil {
			return fmt.Errorf("bigcache: %w", err)
		}
		if err := yield(key(info.Hash()), info.Value()); err != nil {
			return err
		}
	}
	return nil
}

// each yields the records.
func (s *segment) each(yield func(*record) error) error {
	return s.values(func(k key, value []byte) error {
		r, err := readRecord(k, value, s.ends)
		if err != nil {
			return err
		}
		return yield(&r)
	})
}
