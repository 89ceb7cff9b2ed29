package known

import (
	"runtime"
	"slices"
	"time"
)

// portion is how many requests are read under one hold of the table's lock.
const portion = 512

// mostDraining bounds the time of a call of [Server.Drain], because the caller has to
// beat.
const mostDraining = 10 * time.Millisecond

// Drain reads the requests that the Envoys have answered since the last call. When its time is
// over, it leaves the rest to the next call. While a connection ends, it does nothing.
func (s *Server) Drain() {
	if !s.draining.TryLock() {
		return
	}
	defer s.draining.Unlock()
	s.mu.Lock()
	for c := range s.connections { // each time in another order
		s.drained = append(s.drained, c)
	}
	s.mu.Unlock()
	end := time.Now().Add(mostDraining)
	for _, c := range s.drained {
		s.drain(c, end)
	}
	clear(s.drained)
	s.drained = s.drained[:0]
}

// drain reads the ring of c until the end, and at most once round, because the Envoy may
// write on and on. The zero time is no end. The observers run without the lock of the table.
// The caller holds s.draining.
func (s *Server) drain(c *connection, end time.Time) {
	for range c.ring.workers*c.ring.cells/portion + 1 {
		if !end.IsZero() && time.Now().After(end) {
			return
		}
		uses := c.drain(s.uses)
		if len(uses) > 0 {
			s.o.Uses(uses)
		}
		clear(uses) // the texts
		if len(uses) < portion {
			return
		}
		runtime.Gosched() // the observers have goroutines too, with queues that become full
	}
}

// drain returns a portion of the requests that the Envoy has answered.
func (c *connection) drain(memory []Use) []Use {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	if c.table.closed || !slices.Contains(c.table.rings, c.ring) {
		return nil // the memory may be gone
	}
	return c.ring.drain(c.table, memory)
}
