package store

import "fmt"

// tally is how far the log has been read or written here, and what that came
// to. It is guarded by Log.mu.
type tally struct {
	revision uint64            // everything up to it is counted
	givenUp  uint32            // the hours up to this one are not
	hours    map[uint32]uint64 // messages for each hour, given up or not, until purged
	kept     uint64            // messages of the hours that are not given up
	noted    uint64            // the highest audit sequence that a batch or a note named
	whole    bool              // caught up once: from then on every count must agree
}

// take counts the message at revision. agreed says whether its own count of
// what stood before it agrees with ours.
func (t *tally) take(revision uint64, hour uint32, f *frame) (agreed bool) {
	t.revision = revision
	t.noted = max(t.noted, f.noted)
	if f.givenUp > t.givenUp {
		t.givenUp = f.givenUp
		t.kept = 0
		for h, n := range t.hours {
			if h > t.givenUp {
				t.kept += n
			}
		}
	}
	agreed = t.kept == f.before
	t.hours[hour]++
	if hour > t.givenUp {
		t.kept++
	}
	return agreed
}

// disagrees is the error for a message whose count is not ours.
func (t *tally) disagrees(revision uint64, f *frame) error {
	return fmt.Errorf("%w: revision %d says that %d batches stand before it, and %d were found; restore the store directory from a backup (or, in a cluster, empty it and let the other nodes fill it)",
		ErrDamaged, revision, f.before, t.kept)
}

// purgeable are the hours that were given up and have messages still.
func (t *tally) purgeable() (hours []uint32) {
	for h := range t.hours {
		if h <= t.givenUp {
			hours = append(hours, h)
		}
	}
	return hours
}

// passed says whether an hour that has messages may be given up at now.
func (t *tally) passed(now uint32) bool {
	for h := range t.hours {
		if h > t.givenUp && h <= now {
			return true
		}
	}
	return false
}
