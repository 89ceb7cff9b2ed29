package jwks

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// patience is how long a request waits for keys, and how long after its
	// begin a fetch is waited for.
	patience = 500 * time.Millisecond
	// maxWaiting is how many requests may wait at once. They can all be made
	// up, and each holds some memory.
	maxWaiting = 1000
	// maxMisses is how many kids each of the two generations remembers.
	maxMisses = 4096
)

// demand is what requests whose key is not there want of the goroutine that
// fetches. mu is held over a few map operations, never over a fetch.
//
// Fetches for unknown kids have an interval of their own: one that was made in
// the background just before does not delay them.
type demand struct {
	every time.Duration // at most one fetch for unknown kids in this time
	kick  chan struct{} // tells the goroutine to look again

	mu       sync.Mutex
	flight   *flight   // the fetch under way or asked for; nil if there is none
	began    time.Time // of the last fetch for unknown kids
	wanted   bool      // a kid has come that no fetch since could have brought
	answered time.Time // begin of the last fetch that was good
	waiting  int
	misses   misses
	closed   bool
}

func (d *demand) init(every, longest time.Duration) {
	d.every = every
	d.kick = make(chan struct{}, 1)
	d.misses = misses{first: every, longest: longest, seed: maphash.MakeSeed(), young: map[uint64]miss{}, old: map[uint64]miss{}}
}

// await is for a request that did not find its key. It waits for a fetch that
// may bring it, until latest, and says whether there was one to wait for. keys
// says whether there are any keys: without, the kid is not to blame.
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

// ask is the fetch to wait for, if there is one; waiting is then counted up.
func (d *demand) ask(kid string, keys bool, now time.Time) *flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed || keys && !d.misses.due(kid, now, d.answered):
		return nil
	case d.flight == nil && now.Before(d.began.Add(d.every)):
		d.want()
		return nil
	case d.flight == nil:
		d.flight, d.began = newFlight(now), now
		d.wake()
	case !now.Before(d.flight.began.Add(patience)):
		d.want() // it may have been too early for this kid
		return nil
	}
	if d.waiting >= maxWaiting {
		d.want()
		return nil
	}
	d.waiting++
	return d.flight
}

func (d *demand) want() {
	if !d.wanted {
		d.wanted = true
		d.wake()
	}
}

func (d *demand) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// next is when the next fetch is due; regular is when it is in any case.
func (d *demand) next(regular time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight != nil {
		return d.flight.began
	}
	if at := d.began.Add(d.every); d.wanted && at.Before(regular) {
		return at
	}
	return regular
}

// begin is called before a fetch, by whom it is asked for or not.
func (d *demand) begin(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight == nil {
		d.flight = newFlight(now)
		if d.wanted && !now.Before(d.began.Add(d.every)) {
			d.began = now
		}
	}
	d.wanted = false
}

// end is called after a fetch; if it was good, its keys are already in use.
func (d *demand) end(good bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if good {
		d.answered = d.flight.began
	}
	close(d.flight.done)
	d.flight = nil
}

// close lets all go who wait, and lets nobody wait any more.
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
	began time.Time     // no later than its first byte is sent
	done  chan struct{} // closed when it has ended
}

func newFlight(now time.Time) *flight { return &flight{now, make(chan struct{})} }

// wait waits for the end of f: until latest, and no longer than anybody waits
// for f.
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

// misses remembers kids that were asked for and not there, so that the same one
// does not cause a fetch in every interval for ever. The pause before it may
// again doubles, from one interval to that of the background: a token that
// comes before the issuer has published its key, which happens where issuers
// are replicated, is accepted after at most twice the delay that it had anyway.
//
// It holds two generations of hashes and forgets the older one, so a flood of
// kids costs a fixed amount of memory, and what it makes us forget is only that
// a kid was asked for. The maps are used again: as garbage they would cost the
// honest requests beside a flood a multiple of their time.
type misses struct {
	first, longest time.Duration
	seed           maphash.Seed
	young, old     map[uint64]miss
}

type miss struct {
	asked time.Time // when it last was cause for a fetch
	pause time.Duration
}

// due says whether kid may cause a fetch now. answered is the begin of the last
// fetch that was good.
func (m *misses) due(kid string, now, answered time.Time) bool {
	h := maphash.String(m.seed, kid)
	e, known := m.young[h]
	if !known {
		e, known = m.old[h]
	}
	switch {
	case !known:
		e = miss{asked: now, pause: m.first}
	case answered.Before(e.asked): // it has had no answer yet
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
