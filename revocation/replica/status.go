package replica

import "time"

// Status is how a follower does.
type Status struct {
	Ready   bool
	Missing []string // why it is not ready, or what an operator should know although it is

	LogID    string
	Revision uint64
	Entries  int

	Connected   bool
	LastContact time.Time // when it was known last that nothing was beyond Revision; zero: never
	FromDisk    bool      // nothing has been heard since it was read from disk
	Stale       bool
	Overdue     bool
	DiskError   string // why the disk lacks what memory has; empty: it does not
	Refused     string // why the control endpoint is not followed; empty: it is

	FilterHeld, FilterFalse uint64 // look-ups that the filter did not answer
}

// Status takes no lock.
func (f *Follower) Status() Status {
	h := f.held.Load()
	s := Status{
		LogID: h.logID, Revision: h.revision, FromDisk: h.fromDisk, Connected: f.connected.Load(),
		FilterHeld: f.counts.held.Load(), FilterFalse: f.counts.none.Load(),
	}
	s.Stale, s.Overdue = f.stale(time.Now())
	c := f.contact.Load()
	if c != nil {
		s.LastContact = c.sure
	}
	if h.set == nil {
		s.Missing = append(s.Missing, "there is no complete set of revocations yet: it comes from the control endpoint, see revocation.control")
	} else {
		s.Entries = h.set.len()
	}
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		s.Missing = append(s.Missing, *p)
		return *p
	}
	if h.set != nil && c == nil {
		s.Missing = append(s.Missing, "the control endpoint has not said yet whether the revocations are up to date")
	}
	unfit := text(f.unfit.Load())
	s.Refused, s.DiskError = text(f.refused.Load()), text(f.diskError.Load())
	s.Ready = h.set != nil && c != nil && unfit == ""
	return s
}
