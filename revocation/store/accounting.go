package store

import "fmt"

// accounting is how far the log has been read or written here, and the counts
// up to there. Log.mu guards it.
type accounting struct {
	revision  uint64            // counted up to here
	givenUp   uint32            // hours up to this one are given up
	hours     map[uint32]uint64 // messages of each hour, given up or not, until it is purged
	remaining uint64            // messages of the hours that are not given up
	lastNote  uint64            // the highest number of a note that a batch or this node names
	verified  bool              // read to the end once; from then on every count must agree
}

// count counts the message at revision. It reports whether the message's own
// count of the messages before it agrees with ours.
func (a *accounting) count(revision uint64, hour uint32, f *frame) (agreed bool) {
	a.revision = revision
	a.lastNote = max(a.lastNote, f.noted)
	if f.givenUp > a.givenUp {
		a.givenUp = f.givenUp
		a.remaining = 0
		for h, n := range a.hours {
			if h > a.givenUp {
				a.remaining += n
			}
		}
	}
	agreed = a.remaining == f.before
	a.hours[hour]++
	if hour > a.givenUp {
		a.remaining++
	}
	return agreed
}

// mismatch returns the error for a message that counts found messages before
// it otherwise than we do.
func mismatch(revision uint64, f *frame, found uint64) error {
	return fmt.Errorf("%w: revision %d says that %d batches stand before it, and %d were found; restore the store directory from a backup (or, in a cluster, empty it and let the other nodes fill it)",
		ErrDamaged, revision, f.before, found)
}

// purgeable returns the hours that are given up and still have messages.
func (a *accounting) purgeable() (hours []uint32) {
	for h := range a.hours {
		if h <= a.givenUp {
			hours = append(hours, h)
		}
	}
	return hours
}

// hasPassed reports whether an hour that has messages may be given up at now.
func (a *accounting) hasPassed(now uint32) bool {
	for h := range a.hours {
		if h > a.givenUp && h <= now {
			return true
		}
	}
	return false
}
