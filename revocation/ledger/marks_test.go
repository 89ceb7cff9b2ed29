package ledger

import (
	"fmt"
	"testing"
)

// The mark of a revision depends on the record alone, and so is the same on each node
// and after each start. A revision without a record has a mark that depends on the one
// before, if that is known.
func TestMarks(t *testing.T) {
	type step struct {
		revision uint64
		body     string
	}
	add := func(steps ...step) *marks {
		m := &marks{}
		for _, s := range steps {
			m.add(s.revision, markOf([]byte(s.body)))
		}
		return m
	}
	all := add(step{1, "a"}, step{2, "b"}, step{3, ""}, step{4, ""}, step{5, "c"})
	other := add(step{1, "a"}, step{2, "B"}, step{3, ""}, step{4, ""}, step{5, "c"})
	late := add(step{2, "b"}, step{4, ""}, step{5, "c"}) // the records of 1 and 3 have ended
	for revision, want := range map[uint64][3]bool{      // known, as in other, known in late
		0: {false, true, false}, 1: {true, true, false}, 2: {true, false, true}, 3: {true, false, false},
		4: {true, false, false}, 5: {true, true, true}, 6: {false, true, false},
	} {
		got := [3]bool{all.of(revision) != 0, all.of(revision) == other.of(revision), late.of(revision) != 0}
		if got != want {
			t.Errorf("revision %d: known, equal to that of a log with another revision 2, and known after a later start: got %v, want %v", revision, got, want)
		}
		if want[2] && late.of(revision) != all.of(revision) {
			t.Errorf("revision %d: got mark %d after a later start, want %d", revision, late.of(revision), all.of(revision))
		}
	}
}

// The marks of more than maxBehind revisions are known, and never those of more than
// twice as many, with any gaps between revisions.
func TestMarksAreBounded(t *testing.T) {
	for _, gap := range []uint64{1, 1000, maxBehind - 1, maxBehind, maxBehind + 7} {
		m := &marks{}
		last := uint64(0)
		for n := range 5 * maxBehind / gap {
			last = 1 + n*gap
			m.add(last, markOf(fmt.Append(nil, last)))
			if len(m.list) > 2*maxBehind+1 {
				t.Fatalf("gaps of %d: %d marks are held at revision %d, want at most %d", gap, len(m.list), last, 2*maxBehind+1)
			}
		}
		for back := uint64(0); back < maxBehind && back < last; back += gap {
			if got, want := m.of(last-back), markOf(fmt.Append(nil, last-back)); got != want {
				t.Fatalf("gaps of %d: got mark %d of revision %d, want %d", gap, got, last-back, want)
			}
		}
	}
}
