package replica

import (
	"math/bits"
	"sync/atomic"

	"rescind/revocation"
)

// filter is a blocked Bloom filter: a key has one bit in each of the eight
// words of one block, which is one cache line. A reader takes no lock while
// keys are added: a bit that is set stays set, so a key that was added before is
// never missed.
//
// A filter library would need a lock for that, because an Add of
// bits-and-blooms/bloom is a plain write. A look-up would then wait for a lock
// that a change can hold.
type filter struct {
	blocks   []block
	capacity int // keys, at the rate of false positives that it is made for
}

type block [8]atomic.Uint64

// bitsPerKey gives about two false positives in ten thousand.
const bitsPerKey = 20

func newFilter(capacity int) *filter {
	capacity = max(capacity, minFilter)
	return &filter{blocks: make([]block, capacity*bitsPerKey/512+1), capacity: capacity}
}

const minFilter = 1 << 12

// at returns the block of a key, by the upper bits of the key. Keys come out of
// SHA-256, so any of their bits will do.
func (f *filter) at(key uint64) *block {
	i, _ := bits.Mul64(key, uint64(len(f.blocks)))
	return &f.blocks[i]
}

var salts = [8]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

// bit returns the bit of a key in one word of its block, by the lower bits of
// the key.
func bit(key uint64, word int) uint64 { return 1 << (uint32(key) * salts[word] >> 26) }

// add adds a key. It reports whether has would have reported it before.
func (f *filter) add(key uint64) (there bool) {
	b := f.at(key)
	there = true
	for i := range b {
		bit := bit(key, i)
		there = b[i].Or(bit)&bit != 0 && there
	}
	return there
}

// prefetch brings the blocks of entries into the processor's cache, all at once
// instead of one after the other when add needs them.
func (f *filter) prefetch(entries []revocation.Entry) (sum uint64) {
	for i := range entries {
		sum |= f.at(uint64(keyOf(&entries[i].Digest)))[0].Load()
	}
	return sum
}

// has reports whether the key may have been added. It is false only if the key
// never was.
func (f *filter) has(key uint64) bool {
	b := f.at(key)
	for i := range b {
		if b[i].Load()&bit(key, i) == 0 {
			return false
		}
	}
	return true
}
