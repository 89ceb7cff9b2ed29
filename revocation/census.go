package revocation

import "time"

// Minute is a minute since the Unix epoch.
type Minute int64

// MinuteOf returns the minute that t lies in.
func MinuteOf(t time.Time) Minute { return Micros(t.UnixMicro()).Minute() }

// Minute returns the minute that m lies in.
func (m Micros) Minute() Minute { return Minute(m / Micros(time.Minute/time.Microsecond)) }

// Census counts entries by the minute in which they end. A control endpoint and
// a replica that hold the same revision count the same entries after a minute.
// Entries that ended earlier do not count, so it does not matter which of them
// each has dropped. A replica that has lost an entry is thus found out. The
// zero value counts none.
type Census struct {
	minutes map[Minute]int
	total   int    // of all minutes
	past    Minute // not counted any more, up to and with it
}

// Add counts n entries more that end at this instant, or fewer if n is negative.
func (c *Census) Add(ends Micros, n int) { c.AddMinute(ends.Minute(), n) }

// AddMinute counts n entries more that end in this minute, or fewer if n is
// negative.
func (c *Census) AddMinute(m Minute, n int) {
	if m <= c.past {
		return
	}
	if c.minutes == nil {
		c.minutes = make(map[Minute]int)
	}
	c.total += n
	if c.minutes[m] += n; c.minutes[m] == 0 {
		delete(c.minutes, m)
	}
}

// After returns how many entries end after the minute. ok is false if the
// census has forgotten some of them.
func (c *Census) After(m Minute) (n int, ok bool) {
	if m < c.past {
		return 0, false
	}
	n = c.total
	c.each(m, func(_ Minute, count int) { n -= count })
	return n, true
}

// Forget drops the counts up to and with the minute.
func (c *Census) Forget(m Minute) {
	if m <= c.past {
		return
	}
	c.each(m, func(minute Minute, count int) {
		c.total -= count
		delete(c.minutes, minute)
	})
	c.past = m
}

// each calls f with the minutes up to and with last that have entries.
func (c *Census) each(last Minute, f func(m Minute, count int)) {
	if last-c.past > Minute(len(c.minutes)) {
		for m, count := range c.minutes {
			if m <= last {
				f(m, count)
			}
		}
		return
	}
	for m := c.past + 1; m <= last; m++ {
		if count := c.minutes[m]; count != 0 {
			f(m, count)
		}
	}
}
