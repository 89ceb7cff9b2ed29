package known

// The index finds the entry of a key. A key has two buckets, and its entry stands in one
// of them. The caller holds the table's lock.

// find returns the number of the entry with a key, or -1.
func (t *Table) find(key Key) int {
	for half := range key {
		b := t.indexAt + int(key[half]&t.bucketMask)*bucketSize
		for slot := b; slot < b+bucketSize; slot += bucketSize / bucketSlots {
			if t.memory.load(slot) != key[0]^key[1] {
				continue
			}
			if n := t.memory.load(slot + 8); n != 0 && t.keyAt(int(n-1)) == key {
				return int(n - 1)
			}
		}
	}
	return -1
}

// insert puts a key into the bucket with more room. It reports false if neither has
// any.
func (t *Table) insert(key Key, number int) bool {
	best, most := 0, 0
	for half := range key {
		b := t.indexAt + int(key[half]&t.bucketMask)*bucketSize
		empty, n := 0, 0
		for slot := b; slot < b+bucketSize; slot += bucketSize / bucketSlots {
			if t.memory.load(slot+8) == 0 {
				empty = slot
				n++
			}
		}
		if n > most {
			best, most = empty, n
		}
	}
	if most == 0 {
		return false
	}
	t.memory.store(best, key[0]^key[1])
	t.memory.store(best+8, uint64(number+1))
	return true
}

func (t *Table) remove(key Key, number int) {
	for half := range key {
		b := t.indexAt + int(key[half]&t.bucketMask)*bucketSize
		for slot := b; slot < b+bucketSize; slot += bucketSize / bucketSlots {
			if t.memory.load(slot+8) == uint64(number+1) {
				t.memory.store(slot+8, 0)
				t.memory.store(slot, 0)
			}
		}
	}
}
