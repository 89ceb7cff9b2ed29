package known

import (
	"iter"
	"math/bits"
)

// selectors finds the entries that a revocation may deny, by a digest. Two digests may
// share a chain, and then a revocation takes out too much, which is safe. It holds no
// digest, so that a million tokens take little memory.
type selectors struct {
	heads []uint32 // of the chains, by digest; 0: empty
	shift int
	links []link // links[0] is none
	free  uint32
	first []uint32 // link of an entry, by its number
}

// link is an entry in a chain.
type link struct {
	entry      uint32
	prev, next uint32 // in the chain; prev is 0 at the head
	head       uint32 // of the chain
	sibling    uint32 // the entry's next link
}

// linksOfEntry is how many links there are for each entry, on average.
const linksOfEntry = 4

func newSelectors(entries int) selectors {
	n := max(1<<bits.Len(uint(2*entries-1)), 2)
	s := selectors{heads: make([]uint32, n), shift: 64 - bits.Len(uint(n-1)), first: make([]uint32, entries)}
	s.links = make([]link, 1, 1024)
	return s
}

func (s *selectors) headOf(digest uint64) uint32 {
	const golden = 0x9e3779b97f4a7c15 // spreads digests whose upper bits are alike
	return uint32(digest * golden >> s.shift)
}

// add puts an entry without links into the chains of digests. It reports false, and
// adds none, if there is no room.
func (s *selectors) add(entry int, digests []uint64) bool {
	for _, d := range digests {
		n := s.free
		switch {
		case n != 0:
			s.free = s.links[n].next
		case len(s.links) <= linksOfEntry*len(s.first):
			n = uint32(len(s.links))
			s.links = append(s.links, link{})
		default:
			s.remove(entry)
			return false
		}
		head := s.headOf(d)
		s.links[n] = link{entry: uint32(entry), next: s.heads[head], head: head, sibling: s.first[entry]}
		if next := s.heads[head]; next != 0 {
			s.links[next].prev = n
		}
		s.heads[head], s.first[entry] = n, n
	}
	return true
}

// remove takes an entry out of all chains.
func (s *selectors) remove(entry int) {
	for n := s.first[entry]; n != 0; {
		l := s.links[n]
		if l.prev != 0 {
			s.links[l.prev].next = l.next
		} else {
			s.heads[l.head] = l.next
		}
		if l.next != 0 {
			s.links[l.next].prev = l.prev
		}
		s.links[n] = link{next: s.free}
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
		for s.heads[head] != 0 && yield(int(s.links[s.heads[head]].entry)) {
		}
	}
}
