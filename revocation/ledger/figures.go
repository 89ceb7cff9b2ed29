package ledger

import "time"

// Figures are the numbers that the control endpoint publishes about its
// ledger.
type Figures struct {
	Revision uint64 // the last revision applied
	InForce  int    // revocations in force
	Appends  uint64 // batches that this node appended
}

// Figures returns the current numbers.
func (l *Ledger) Figures() Figures {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return Figures{Revision: l.revision, InForce: l.rows.live, Appends: l.appends}
}

// AcceptedAt returns the time at which this node accepted a revision. ok is
// false for revisions of other nodes, and for old ones.
func (l *Ledger) AcceptedAt(revision uint64) (at time.Time, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.accepted.of(revision)
}

// Now returns the time by the ledger's clock.
func (l *Ledger) Now() time.Time { return l.now() }

// acceptances remember when recent revisions were accepted here, for the time
// that they take to a replica.
type acceptances struct {
	first uint64
	at    []time.Time
}

const maxAcceptances = 1 << 13

func (a *acceptances) add(revision uint64, at time.Time) {
	if revision != a.first+uint64(len(a.at)) || len(a.at) == maxAcceptances { // begin anew
		a.first, a.at = revision, a.at[:0]
	}
	a.at = append(a.at, at)
}

func (a *acceptances) of(revision uint64) (time.Time, bool) {
	if revision < a.first || revision >= a.first+uint64(len(a.at)) {
		return time.Time{}, false
	}
	return a.at[revision-a.first], true
}
