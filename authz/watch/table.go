package watch

import (
	"math/bits"
	"math/rand/v2"
	"time"
)

// stamp is an instant in milliseconds since the watcher's memory began, modulo
// 2^32. Two that are within 24 days of each other can be compared; entries are
// never remembered for so long.
type stamp uint32

func stampOf(d time.Duration) stamp { return stamp(d / time.Millisecond) }

// since is how long ago before is, seen from s; 0 if it comes later.
func (s stamp) since(before stamp) time.Duration {
	return time.Duration(max(int32(s-before), 0)) * time.Millisecond
}

func (s stamp) after(o stamp) bool { return int32(s-o) > 0 }

// keyed is an entry of a table: its key is a uniformly distributed hash.
type keyed interface {
	key() uint64
	used() stamp
}

// table holds entries by a 64-bit hash, at most limit of them, in memory that
// grows and shrinks with them: pages of entries that lie densely, and an index
// of four bytes an entry. (A map of Go takes about three times as much, and
// keeps it.)
//
// Where there is no room the least lately used of a few entries makes some.
// A pointer into it is good until the next entry comes or goes.
type table[E any, P interface {
	*E
	keyed
}] struct {
	limit int
	pages [][]E
	n     int
	// index is a hash table with linear probing: the number of an entry plus
	// one, and eight bits of its key, which spare most looks at entries that
	// are not meant.
	index  []uint32
	cursor int // of the sweep
}

const (
	pageSize   = 4096
	numberBits = 24 // of an entry, in the index
	minIndex   = 256
	contenders = 8 // for eviction
)

func tag(key uint64) uint32 { return uint32(key&0xff) << numberBits }

func (t *table[E, P]) at(i int) P { return &t.pages[i/pageSize][i%pageSize] }

func (t *table[E, P]) home(key uint64) int {
	hi, _ := bits.Mul64(key, uint64(len(t.index)))
	return int(hi)
}

// find returns the slot of the index that has key, or the one where it would
// be put; and the entry, or nil.
func (t *table[E, P]) find(key uint64) (slot int, _ P) {
	for slot = t.home(key); t.index[slot] != 0; slot = t.next(slot) {
		if s := t.index[slot]; s&^(1<<numberBits-1) == tag(key) {
			if e := t.at(int(s&(1<<numberBits-1)) - 1); e.key() == key {
				return slot, e
			}
		}
	}
	return slot, nil
}

func (t *table[E, P]) next(slot int) int {
	if slot++; slot < len(t.index) {
		return slot
	}
	return 0
}

// get returns the entry of key, or nil.
func (t *table[E, P]) get(key uint64) P {
	if t.n == 0 {
		return nil
	}
	_, e := t.find(key)
	return e
}

// add makes room for an entry with this key, which has none yet. It is for the
// caller to set its key at once. gone is called for the entry that has to go,
// if one has.
func (t *table[E, P]) add(key uint64, gone func(P)) P {
	if t.n >= t.limit {
		t.evict(gone)
	}
	if (t.n+1)*5 > len(t.index)*4 {
		t.grow()
	}
	slot, _ := t.find(key)
	if t.n/pageSize == len(t.pages) {
		t.pages = append(t.pages, make([]E, min(pageSize, t.limit)))
	}
	t.n++
	t.index[slot] = uint32(t.n) | tag(key)
	return t.at(t.n - 1)
}

func (t *table[E, P]) grow() {
	t.resize(max(minIndex, min(2*len(t.index), t.limit*5/4+8)))
}

func (t *table[E, P]) resize(slots int) {
	t.index = make([]uint32, slots)
	for i := range t.n {
		key := t.at(i).key()
		slot := t.home(key)
		for t.index[slot] != 0 {
			slot = t.next(slot)
		}
		t.index[slot] = uint32(i+1) | tag(key)
	}
}

// evict takes out the least lately used of a few.
func (t *table[E, P]) evict(gone func(P)) {
	oldest := rand.IntN(t.n) //nolint:gosec // which entries contend is no secret
	for range contenders - 1 {
		if i := rand.IntN(t.n); t.at(oldest).used().after(t.at(i).used()) { //nolint:gosec // likewise
			oldest = i
		}
	}
	gone(t.at(oldest))
	t.remove(oldest)
}

// remove takes out entry i. The last one takes its place.
func (t *table[E, P]) remove(i int) {
	slot, _ := t.find(t.at(i).key())
	t.vacate(slot)
	last := t.n - 1
	if i != last {
		moved := t.at(last)
		slot, _ := t.find(moved.key())
		t.index[slot] = uint32(i+1) | tag(moved.key())
		*t.at(i) = *moved
	}
	var zero E
	*t.at(last) = zero
	t.n--
	if spare := t.n/pageSize + 2; spare < len(t.pages) { // one stays
		clear(t.pages[spare:])
		t.pages = t.pages[:spare]
	}
}

// vacate empties a slot of the index, and moves those up that were put further
// on because of it.
func (t *table[E, P]) vacate(hole int) {
	for slot := t.next(hole); t.index[slot] != 0; slot = t.next(slot) {
		home := t.home(t.at(int(t.index[slot]&(1<<numberBits-1)) - 1).key())
		// It may move if its home is not within (hole, slot], around the end.
		if (slot-home+len(t.index))%len(t.index) >= (slot-hole+len(t.index))%len(t.index) {
			t.index[hole] = t.index[slot]
			hole = slot
		}
	}
	t.index[hole] = 0
}

// sweep looks at a share of the entries, going round, and takes out those that
// are dead.
func (t *table[E, P]) sweep(share int, dead func(P) bool, gone func(P)) {
	for range t.n/share + pageSize/4 {
		if t.cursor >= t.n {
			t.cursor = 0
			if len(t.index) > 2*minIndex && t.n*5 < len(t.index) {
				t.resize(max(minIndex, len(t.index)/2))
			}
			return
		}
		if e := t.at(t.cursor); dead(e) {
			gone(e)
			t.remove(t.cursor)
			continue
		}
		t.cursor++
	}
}
