package control

import (
	"fmt"
	"sync"

	"rescind/revocation/ledger"
)

// Requests at once. An import may hold its body and its revocations in memory,
// and the restoration of a write reads as many, so there are few of them.
const (
	maxRequests = 512
	maxImports  = 3
	maxWaits    = 8192 // requests that wait for replicas
)

// slots bound the requests that are served at once. One credential cannot take
// all of them, and some are kept for operators, so no other credential can keep
// an operator out.
type slots struct {
	bound string // label of the metric
	total int    // of all credentials
	each  int    // of one credential
	kept  int    // for operators

	mu    sync.Mutex
	taken int
	by    map[string]int
}

func newSlots(bound string, total, each, kept int) *slots {
	return &slots{bound: bound, total: total, each: each, kept: kept, by: map[string]int{}}
}

// slot is one place among the slots.
type slot struct {
	of   *slots // nil once it is free
	name string
	once sync.Once
}

// take returns a slot for the caller, or nil if it may have none now.
func (s *slots) take(c *ledger.Caller) *slot {
	total := s.total
	if !c.Has(ledger.Operator) {
		total -= s.kept
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= total || s.by[c.Name] >= s.each {
		return nil
	}
	s.taken++
	s.by[c.Name]++
	return &slot{of: s, name: c.Name}
}

// full returns the bound that a caller met.
func (s *slots) full() string {
	noun := s.bound
	if noun == "imports" {
		noun = "imports and restorations of a write"
	}
	return fmt.Sprintf("too many %s at once: a credential may have %d of %d, and %d are kept for operators; try again", noun, s.each, s.total, s.kept)
}

// free gives the slot back. Another call does nothing.
func (s *slot) free() {
	s.once.Do(func() {
		if s.of == nil {
			return
		}
		s.of.mu.Lock()
		defer s.of.mu.Unlock()
		s.of.taken--
		if s.of.by[s.name]--; s.of.by[s.name] == 0 {
			delete(s.of.by, s.name)
		}
	})
}
