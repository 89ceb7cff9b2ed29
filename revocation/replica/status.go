package replica

import (
	"time"

	"rescind/revocation"
)

// Status is the state of a follower.
type Status struct {
	Ready   bool
	Missing []string // why it is not ready, or faults that leave it ready

	LogID    string
	Revision uint64
	Entries  int

	Connected   bool
	LastContact time.Time // when the set was known last to be up to date; zero: never
	FromDisk    bool      // there was no contact since the set was read from disk
	Stale       bool
	Overdue     bool
	DiskError   string // why the disk lacks entries that memory has; empty: it has them all
	Refused     string // why the control endpoint is not followed; empty: it is

	FilterHeld, FilterFalse uint64 // hits of the filter that an entry confirmed; hits without an entry
}

// Lasting returns how many entries of the follower's revision end after the
// minute, for the control endpoint to compare. ok is false if that is not known,
// or if entries of a later revision are in force already. A minute much earlier
// than one asked for before is not known.
func (f *Follower) Lasting(m revocation.Minute) (n int, ok bool) {
	c := f.current.Load()
	if c.set == nil || c.ahead != 0 {
		return 0, false
	}
	return c.set.lasting(m)
}

// Status returns the state of f. It takes no lock.
func (f *Follower) Status() Status {
	h := f.current.Load()
	s := Status{
		LogID: h.logID, Revision: h.revision, FromDisk: h.fromDisk, Connected: f.connected.Load(),
		DiskError: f.diskError.String(), Refused: f.refused.String(),
		FilterHeld: f.counts.confirmed.Load(), FilterFalse: f.counts.none.Load(),
	}
	s.Stale, s.Overdue = f.stale(time.Now())
	c := f.contact.Load()
	if c != nil {
		s.LastContact = c.sure
	}
	missing := func(text string) {
		if text != "" {
			s.Missing = append(s.Missing, text)
		}
	}
	if h.set == nil {
		missing("there is no complete set of revocations yet: it comes from the control endpoint, see revocation.control")
	} else {
		s.Entries = h.entries()
		if c == nil {
			missing("the control endpoint has not confirmed yet that the revocations are up to date")
		}
	}
	retention := f.retentionTooShort.String()
	for _, text := range []string{f.otherRules.String(), retention, s.Refused, s.DiskError} {
		missing(text)
	}
	s.Ready = h.set != nil && c != nil && retention == ""
	return s
}
