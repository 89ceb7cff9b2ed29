package tokencache

import (
	"sync"
	"time"
)

// Patience is how long a request waits for another request that verifies the same
// token. A verification takes processor time alone, mostly less than a tenth of a
// millisecond.
const Patience = 10 * time.Millisecond

// Flight is the verification of a token that other requests may wait for.
type Flight struct {
	flights *flights
	key     Key
	landed  chan struct{} // made by the first request that waits; guarded by flights.mu
}

// flights are the verifications under way, each of a request that is answered now.
type flights struct {
	mu sync.Mutex // held over an operation on the map
	of map[Key]*Flight
}

// Begin returns the flight of the token under key if nobody verifies the token yet. The
// caller must call Land. Begin returns nil if another request verifies the token. It then
// has waited until that request is done, or for [Patience], and the caller looks
// again and verifies the token itself if it is not there.
func (c *Cache[V]) Begin(key Key) *Flight {
	f := &c.flights
	f.mu.Lock()
	other := f.of[key]
	if other == nil {
		mine := &Flight{flights: f, key: key}
		f.of[key] = mine
		f.mu.Unlock()
		return mine
	}
	if other.landed == nil {
		other.landed = make(chan struct{})
	}
	landed := other.landed
	f.mu.Unlock()
	patience := time.NewTimer(Patience)
	defer patience.Stop()
	select {
	case <-landed:
	case <-patience.C:
	}
	return nil
}

// Land lets the waiting requests go on. It does nothing for a nil Flight.
func (f *Flight) Land() {
	if f == nil {
		return
	}
	f.flights.mu.Lock()
	delete(f.flights.of, f.key)
	landed := f.landed
	f.flights.mu.Unlock()
	if landed != nil {
		close(landed)
	}
}
