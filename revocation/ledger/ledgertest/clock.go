package ledgertest

import (
	"sync/atomic"
	"time"
)

// Clock is a clock that a test sets.
type Clock struct{ micros atomic.Int64 }

// NewClock returns a clock that stands at a fixed time.
func NewClock() *Clock {
	c := &Clock{}
	c.micros.Store(time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC).UnixMicro())
	return c
}

// Now returns the time of the clock.
func (c *Clock) Now() time.Time { return time.UnixMicro(c.micros.Load()).UTC() }

// Advance moves the clock by d, backwards if d is negative.
func (c *Clock) Advance(d time.Duration) { c.micros.Add(d.Microseconds()) }
