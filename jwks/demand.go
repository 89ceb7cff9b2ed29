package jwks

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// patience is how long a request waits for keys, and how long after its
	// start a fetch is waited for.
	patience = 500 * time.Millisecond
	// maxWaiting is how many requests may wait at once. Anybody can make up
	// such requests, and each holds some memory.
	maxWaiting = 1000
	// maxMisses is how many kids each of the two generations remembers.
	maxMisses = 4096
	// burst is how many fetches for unknown kids may follow each other at once,
	// so that an issuer may change its keys twice within one interval.
	burst = 3
)

// demand passes the requests' wish for missing keys on to the goroutine that
// fetches. mu is held over a few map operations, never over a fetch.
//
// Fetches for unknown kids have an interval of their own. A fetch that the
// background made just before does not delay them. After a fetch that failed,
// there is no burst: the next one waits for its interval.
type demand struct {
	every  time.Duration // one fetch for unknown kids in this time, with a burst
	wakeup chan struct{} // makes the goroutine ask for the next time again

	mu       sync.Mutex
	flight   *flight   // the fetch under way or asked for; nil if there is none
	began    time.Time // start of the last fetch for unknown kids
	paid     time.Time // until here the fetches for unknown kids have used up their intervals
	failed   bool      // the last fetch did not succeed
	earliest time.Time // the issuer has asked for no fetch before this time
	wanted   bool      // a kid has come that no fetch since could have brought
	answered time.Time // start of the last fetch that succeeded
	waiting  int
	misses   misses
	closed   bool
}

func (d *demand) init(every, longest time.Duration) {
	d.every = every
	d.wakeup = make(chan struct{}, 1)
	d.misses = misses{first: every, longest: longest, seed: maphash.MakeSeed(), young: map[uint64]miss{}, old: map[uint64]miss{}}
}

// await makes a request that did not find its key wait, until latest, for a
// fetch that may bring the key. It reports whether there was such a fetch. keys
// says whether the issuer has any keys; without keys every kid deserves a fetch.
func (d *demand) await(ctx context.Context, kid string, keys bool, now, latest time.Time) bool {
	f := d.ask(kid, keys, now)
	if f == nil {
		return false
	}
	f.wait(ctx, latest)
	d.mu.Lock()
	d.waiting--
	d.mu.Unlock()
	return ctx.Err() == nil
}

// ask returns the fetch to wait for and counts the request in waiting, or returns
// nil.
func (d *demand) ask(kid string, keys bool, now time.Time) *flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || keys && !d.misses.due(kid, now, d.answered):
		return nil
	case d.flight == nil && now.Before(d.allowed()):
		d.want()
		return nil
	case d.flight == nil:
		d.flight = newFlight(now)
		d.spend(now)
		d.wake()
	case !now.Before(d.flight.began.Add(patience)):
		d.want() // the fetch may have started too early for this kid
		return nil
	}
	if d.waiting >= maxWaiting {
		d.want()
		return nil
	}
	d.waiting++
	return d.flight
}

// allowed returns when the next fetch for unknown kids may begin.
func (d *demand) allowed() time.Time {
	at := d.paid.Add(-(burst - 1) * d.every)
	if d.failed {
		at = later(at, d.began.Add(d.every))
	}
	return later(at, d.earliest)
}

func (d *demand) spend(now time.Time) {
	d.began = now
	d.paid = later(d.paid, now).Add(d.every)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (d *demand) want() {
	if !d.wanted {
		d.wanted = true
		d.wake()
	}
}

// seeking reports whether a fetch is under way, or is due for a kid that no fetch
// could have brought.
func (d *demand) seeking() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flight != nil || d.wanted
}

func (d *demand) wake() {
	select {
	case d.wakeup <- struct{}{}:
	default:
	}
}

// next returns when the next fetch is due, at regular or before.
func (d *demand) next(regular time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight != nil {
		return d.flight.began
	}
	if at := d.allowed(); d.wanted && at.Before(regular) {
		return at
	}
	return regular
}

// begin is called before every fetch, whether a request asked for it or not.
func (d *demand) begin(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight == nil {
		d.flight = newFlight(now)
		if d.wanted && !now.Before(d.allowed()) {
			d.spend(now)
		}
	}
	d.wanted = false
}

// end is called after every fetch. The keys of a good fetch are in use already.
// No fetch for unknown kids begins before earliest.
func (d *demand) end(good bool, earliest time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed, d.earliest = !good, earliest
	if good {
		d.answered = d.flight.began
	}
	close(d.flight.done)
	d.flight = nil
}

// close releases every request that waits, and makes none wait again.
func (d *demand) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.flight != nil {
		close(d.flight.done)
		d.flight = nil
	}
}

// flight is one fetch.
type flight struct {
	began time.Time     // not after its first byte is sent
	done  chan struct{} // closed when it has ended
}

func newFlight(now time.Time) *flight { return &flight{now, make(chan struct{})} }

// wait waits for the end of f, until latest, and not beyond the patience of f.
func (f *flight) wait(ctx context.Context, latest time.Time) {
	if until := f.began.Add(patience); until.Before(latest) {
		latest = until
	}
	timer := time.NewTimer(time.Until(latest))
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// misses remembers unknown kids, so that one kid does not cause a fetch in every
// interval for ever. The pause before a kid may cause another fetch doubles, from
// one interval to the interval of the background. A token can come before its
// issuer has published the key, for example where issuers are replicated. It is
// then accepted after at most twice the issuer's own delay.
//
// misses holds two generations of hashes and forgets the older one. So a flood of
// kids takes a fixed amount of memory, and makes misses forget only that a kid
// was unknown. The maps are used again, because collecting them as garbage would
// slow honest requests during a flood.
type misses struct {
	first, longest time.Duration
	seed           maphash.Seed
	young, old     map[uint64]miss
}

type miss struct {
	asked time.Time // when the kid last caused a fetch
	pause time.Duration
}

// due reports whether kid may cause a fetch now. answered is the start of the
// last fetch that succeeded.
func (m *misses) due(kid string, now, answered time.Time) bool {
	h := maphash.String(m.seed, kid)
	e, known := m.young[h]
	if !known {
		e, known = m.old[h]
	}
	switch {
	case !known:
		e = miss{asked: now, pause: m.first}
	case answered.Before(e.asked): // no fetch has succeeded since
	case now.Before(e.asked.Add(e.pause)):
		return false
	default:
		e = miss{asked: now, pause: min(2*e.pause, m.longest)}
	}
	if len(m.young) >= maxMisses {
		m.old, m.young = m.young, m.old
		clear(m.young)
	}
	m.young[h] = e
	return true
}
