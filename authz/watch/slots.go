package watch

import "math/bits"

// slots is a hash table with linear probing, of numbers of entries that are
// kept elsewhere. A slot holds the number of an entry plus one, and eight bits
// of the entry's key, which spare most looks at entries that are not meant. 0 is
// a free slot. The caller keeps at least one slot in five free.
type slots []uint32

const (
	numberBits = 24 // of an entry
	numberMask = 1<<numberBits - 1
)

func slotOf(key uint64, number int) uint32 { return uint32(number+1) | tag(key) }

func tag(key uint64) uint32 { return uint32(key&0xff) << numberBits }

// number returns the entry of a slot that is not free.
func (s slots) number(slot int) int { return int(s[slot]&numberMask) - 1 }

// maybe reports whether the entry of a slot can have this key.
func (s slots) maybe(slot int, key uint64) bool { return s[slot]&^numberMask == tag(key) }

// home returns the slot at which a search for key begins.
func (s slots) home(key uint64) int {
	hi, _ := bits.Mul64(key, uint64(len(s)))
	return int(hi)
}

func (s slots) next(slot int) int {
	if slot++; slot < len(s) {
		return slot
	}
	return 0
}

// put writes an entry into the first free slot for its key.
func (s slots) put(key uint64, number int) {
	slot := s.home(key)
	for s[slot] != 0 {
		slot = s.next(slot)
	}
	s[slot] = slotOf(key, number)
}

// vacate frees a slot, and moves entries up that were put further on because of
// it.
func (s slots) vacate(hole int, keyOf func(number int) uint64) {
	for slot := s.next(hole); s[slot] != 0; slot = s.next(slot) {
		home := s.home(keyOf(s.number(slot)))
		// It may move if its home is not within (hole, slot], around the end.
		if (slot-home+len(s))%len(s) >= (slot-hole+len(s))%len(s) {
			s[hole] = s[slot]
			hole = slot
		}
	}
	s[hole] = 0
}
