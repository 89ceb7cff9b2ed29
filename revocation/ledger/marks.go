package ledger

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// marks hold, for the newest revisions, a hash of each revision's record. Two logs
// of one name, of which one began as an older copy of the other, have other records
// since then, and so other marks. A record has the time of its writing, so the
// records differ even if both logs revoke the same.
type marks struct {
	first uint64 // the revision of list[0]
	list  []uint64
}

// markOf returns the mark of a record, or 0 for a revision without one.
func markOf(body []byte) uint64 {
	if len(body) == 0 {
		return 0
	}
	return max(1, xxhash.Sum64(body))
}

// add takes the mark of a revision that is later than all others. A revision without
// a record has a mark that follows from the mark before.
func (m *marks) add(revision, mark uint64) {
	if before := m.of(revision - 1); mark == 0 && before != 0 {
		b := binary.BigEndian.AppendUint64(nil, before)
		mark = markOf(binary.BigEndian.AppendUint64(b, revision))
	}
	next := m.first + uint64(len(m.list))
	switch {
	case len(m.list) == 0 || revision-next >= maxBehind:
		m.first, m.list = revision, m.list[:0]
	case revision > next: // revisions in between have ended
		m.list = append(m.list, make([]uint64, revision-next)...)
	}
	m.list = append(m.list, mark)
	if drop := len(m.list) - maxBehind; drop > maxBehind {
		m.first += uint64(drop)
		m.list = append([]uint64(nil), m.list[drop:]...)
	}
}

// of returns the mark of a revision, or 0 if the mark is not known.
func (m *marks) of(revision uint64) uint64 {
	if revision < m.first || revision-m.first >= uint64(len(m.list)) {
		return 0
	}
	return m.list[revision-m.first]
}
