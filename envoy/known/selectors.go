package known

import (
	"iter"
	"math/bits"
)

// selectors finds the entries that a revocation may deny, by a digest. Two digests may
// share a chain, and then a revocation takes out too much, which is safe. It holds no
// digest and no pointer, so that a million tokens take little memory.
type selectors struct {
	heads []uint32 // first link of each chain, found by digest; 0: empty
	shift int
	links [][]link // in blocks, so that they grow without a copy; the first link of all is none
	count uint32   // links that were ever used, and the one that is none
	free  uint32   // links that are free again, by next; 0: none
	first []uint32 // first link of an entry, by its number; 0: none
}

// link is an entry in a chain.
type link struct {
	entry   uint32
	prev    uint32 // in the chain; at its head the number of the chain, with the bit atHead
	next    uint32 // in the chain
	sibling uint32 // the entry's next link
}

const (
	// linksOfEntry is how many links there are for each entry, on average.
	linksOfEntry = 4
	linksOfBlock = 1 << 12
	atHead       = 1 << 31
)

func newSelectors(entries int) selectors {
	n := max(1<<bits.Len(uint(2*entries-1)), 2)
	return selectors{heads: make([]uint32, n), shift: 64 - bits.Len(uint(n-1)), first: make([]uint32, entries), count: 1}
}

func (s *selectors) headOf(digest uint64) uint32 {
	const golden = 0x9e3779b97f4a7c15 // spreads digests whose upper bits are alike
	return uint32(digest * golden >> s.shift)
}

func (s *selectors) link(n uint32) *link { return &s.links[n/linksOfBlock][n%linksOfBlock] }

// take returns the number of a free link, or 0 if there is none.
func (s *selectors) take() uint32 {
	if n := s.free; n != 0 {
		s.free = s.link(n).next
		return n
	}
	n := s.count
	if int(n) > linksOfEntry*len(s.first) {
		return 0
	}
	if int(n/linksOfBlock) == len(s.links) {
		s.links = append(s.links, make([]link, linksOfBlock))
	}
	s.count++
	return n
}

// add puts an entry without links into the chains of digests. It reports false, and
// leaves the entry without links, if there are too few links left.
func (s *selectors) add(entry int, digests []uint64) bool {
	for _, d := range digests {
		n := s.take()
		if n == 0 {
			s.remove(entry)
			return false
		}
		head := s.headOf(d)
		next := s.heads[head]
		*s.link(n) = link{entry: uint32(entry), prev: head | atHead, next: next, sibling: s.first[entry]}
		if next != 0 {
			s.link(next).prev = n
		}
		s.heads[head], s.first[entry] = n, n
	}
	return true
}

// remove takes an entry out of all chains.
func (s *selectors) remove(entry int) {
	for n := s.first[entry]; n != 0; {
		l := *s.link(n)
		if l.prev&atHead == 0 {
			s.link(l.prev).next = l.next
		} else {
			s.heads[l.prev&^atHead] = l.next
		}
		if l.next != 0 {
			s.link(l.next).prev = l.prev
		}
		*s.link(n) = link{next: s.free}
		s.free = n
		n = l.sibling
	}
	s.first[entry] = 0
}

// of returns the entries in the chain of a digest. The caller removes each before it
// takes the next one.
func (s *selectors) of(digest uint64) iter.Seq[int] {
	head := s.headOf(digest)
	return func(yield func(int) bool) {
		for s.heads[head] != 0 && yield(int(s.link(s.heads[head]).entry)) {
		}
	}
}
