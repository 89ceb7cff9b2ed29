package watch

// maxIndexed is the number of tokens of one subject that are indexed. It bounds
// the cost of adding or removing one token of a subject with many tokens.
const maxIndexed = 32

// bySubject finds the tokens of a subject without a scan, in five bytes a token.
// A subject with more than maxIndexed tokens is crowded: its further tokens are
// counted alone, and only a scan finds them all.
type bySubject struct {
	slots   slots // of tokens that have a subject
	n       int   // slots in use
	crowded map[brief]int
	limit   int // of tokens
	token   func(number int) *token
}

func newBySubject(limit int, token func(int) *token) *bySubject {
	return &bySubject{crowded: map[brief]int{}, limit: limit, token: token}
}

// add indexes a token, whose number must not be there yet.
func (b *bySubject) add(k *token, number int) {
	switch {
	case k.subject == brief{}:
		return
	case b.crowded[k.subject] > 0:
		b.crowded[k.subject]++
		return
	}
	if (b.n+1)*5 > len(b.slots)*4 {
		b.resize(max(minIndex, min(2*len(b.slots), b.limit*5/4+8)))
	}
	same := 0
	b.each(k.subject, func(int, *token) { same++ })
	if same >= maxIndexed {
		b.crowded[k.subject] = 1
		return
	}
	b.slots.put(k.subject.hash(), number)
	b.n++
}

// remove takes a token out of the index.
func (b *bySubject) remove(k *token, number int) {
	if k.subject == (brief{}) {
		return
	}
	if slot, found := b.slot(k, number); found {
		b.slots.vacate(slot, b.keyOf)
		b.n--
		return
	}
	if b.crowded[k.subject]--; b.crowded[k.subject] <= 0 {
		delete(b.crowded, k.subject)
	}
}

// move gives a token another number.
func (b *bySubject) move(k *token, from, to int) {
	if k.subject == (brief{}) {
		return
	}
	if slot, found := b.slot(k, from); found {
		b.slots[slot] = slotOf(k.subject.hash(), to)
	}
}

// find yields the tokens of a subject. It yields none and is not ok if the
// subject is crowded.
func (b *bySubject) find(subject brief, yield func(*token)) (ok bool) {
	if b.crowded[subject] > 0 {
		return false
	}
	b.each(subject, func(_ int, k *token) { yield(k) })
	return true
}

// each yields the indexed tokens of a subject and their slots.
func (b *bySubject) each(subject brief, yield func(slot int, k *token)) {
	if len(b.slots) == 0 {
		return
	}
	key := subject.hash()
	for slot := b.slots.home(key); b.slots[slot] != 0; slot = b.slots.next(slot) {
		if !b.slots.maybe(slot, key) {
			continue
		}
		if k := b.token(b.slots.number(slot)); k.subject == subject {
			yield(slot, k)
		}
	}
}

// slot returns the slot of a token by its number.
func (b *bySubject) slot(k *token, number int) (slot int, found bool) {
	if len(b.slots) == 0 {
		return 0, false
	}
	key := k.subject.hash()
	want := slotOf(key, number)
	for slot = b.slots.home(key); b.slots[slot] != 0; slot = b.slots.next(slot) {
		if b.slots[slot] == want {
			return slot, true
		}
	}
	return 0, false
}

func (b *bySubject) keyOf(number int) uint64 { return b.token(number).subject.hash() }

// shrink gives memory back once most of it is free.
func (b *bySubject) shrink() {
	if len(b.slots) > 2*minIndex && b.n*5 < len(b.slots) {
		b.resize(max(minIndex, len(b.slots)/2))
	}
}

func (b *bySubject) resize(size int) {
	old := b.slots
	b.slots = make(slots, size)
	for _, s := range old {
		if s != 0 {
			number := int(s&numberMask) - 1
			b.slots.put(b.keyOf(number), number)
		}
	}
}
