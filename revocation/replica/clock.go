package replica

import (
	"time"

	"rescind/revocation"
)

// contact is the last time that the control endpoint said that the follower is
// up to date.
type contact struct {
	sure   time.Time // the follower was up to date then, by our clock
	at     time.Time // the contact, by our clock
	server time.Time // the contact, by the control endpoint's clock; zero: unknown, as after a restart
}

// staleAfter is the age from which a set without a limit counts as stale.
const staleAfter = 30 * time.Second

// stale compares the age of the set with its limits. The age does not depend on
// the wall clock, except for a set that came from disk. A contact in the future
// makes the set stale.
func (f *Follower) stale(now time.Time) (stale, overdue bool) {
	limit := time.Duration(f.maxStaleness.Load())
	c := f.contact.Load()
	late := func(limit time.Duration) bool {
		if c == nil {
			return true
		}
		age := now.Sub(c.sure)
		return age > limit || age < -time.Minute
	}
	if limit <= 0 {
		return late(staleAfter), false
	}
	overdue = late(limit)
	return overdue, overdue
}

// ended returns the instant until which entries have ended by both clocks. It
// returns 0, so no entry has ended, while the control endpoint's clock is
// unknown.
func (f *Follower) ended(now time.Time) revocation.Micros {
	c := f.contact.Load()
	if c == nil || c.server.IsZero() {
		return 0
	}
	if theirs := c.server.Add(now.Sub(c.at)); theirs.Before(now) {
		now = theirs
	}
	return revocation.MicrosOf(now)
}

// clock returns the time for a change of the set.
func (f *Follower) clock() clock {
	now := time.Now()
	return clock{now: revocation.MicrosOf(now), ended: f.ended(now)}
}
