package watch

import (
	"math/rand/v2"
	"time"
)

// stamp is an instant in milliseconds since the watcher's memory began, modulo
// 2^32. Two that are within 24 days of each other can be compared; entries are
// never remembered for so long.
type stamp uint32

func stampOf(d time.Duration) stamp { return stamp(d / time.Millisecond) }

// since returns the time from before to s, or 0 if before comes later.
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
// of four bytes a slot. (A map of Go takes about three times as much, and keeps
// it.)
//
// A full table forgets the least recently used of a few entries. A pointer into
// the table is valid until the next entry is added or removed.
type table[E any, P interface {
	*E
	keyed
}] struct {
	limit  int
	pages  [][]E
	n      int
	index  slots
	cursor int // of the sweep
	// moved is called when an entry gets another number; nil: it is not.
	moved func(e P, from, to int)
}

const (
	pageSize   = 4096
	minIndex   = 256
	contenders = 8 // for eviction
)

func (t *table[E, P]) at(i int) P { return &t.pages[i/pageSize][i%pageSize] }

// find returns the entry of key and its slot. Without an entry it returns nil and
// the slot for a new one.
func (t *table[E, P]) find(key uint64) (slot int, _ P) {
	for slot = t.index.home(key); t.index[slot] != 0; slot = t.index.next(slot) {
		if t.index.maybe(slot, key) {
			if e := t.at(t.index.number(slot)); e.key() == key {
				return slot, e
			}
		}
	}
	return slot, nil
}

// number returns the number of the entry with this key, which must be there.
func (t *table[E, P]) number(key uint64) int {
	slot, _ := t.find(key)
	return t.index.number(slot)
}

// get returns the entry of key, or nil.
func (t *table[E, P]) get(key uint64) P {
	if t.n == 0 {
		return nil
	}
	_, e := t.find(key)
	return e
}

// add returns a new entry for a key that has none. The caller sets its key at
// once. add calls gone for an entry that it has to remove.
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
	t.index[slot] = slotOf(key, t.n-1)
	return t.at(t.n - 1)
}

func (t *table[E, P]) grow() {
	t.resize(max(minIndex, min(2*len(t.index), t.limit*5/4+8)))
}

func (t *table[E, P]) resize(size int) {
	t.index = make(slots, size)
	for i := range t.n {
		t.index.put(t.at(i).key(), i)
	}
}

// evict removes the least recently used of a few entries.
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

// remove removes entry i. The last entry takes its number.
func (t *table[E, P]) remove(i int) {
	slot, _ := t.find(t.at(i).key())
	t.index.vacate(slot, func(number int) uint64 { return t.at(number).key() })
	last := t.n - 1
	if i != last {
		moved := t.at(last)
		slot, _ := t.find(moved.key())
		t.index[slot] = slotOf(moved.key(), i)
		*t.at(i) = *moved
		if t.moved != nil {
			t.moved(t.at(i), last, i)
		}
	}
	var zero E
	*t.at(last) = zero
	t.n--
	if spare := t.n/pageSize + 2; spare < len(t.pages) { // one spare page stays
		clear(t.pages[spare:])
		t.pages = t.pages[:spare]
	}
}

// sweep removes the dead entries of one part of the table, after calling gone for
// each. share calls look at the whole table.
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
