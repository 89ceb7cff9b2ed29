package ssf

import (
	"cmp"
	"sync"
)

// health is why events may not come. The poller and the watch know of different
// faults, and the door shows one of them.
type health struct {
	mu           sync.Mutex
	poll, stream error
}

// polled notes how the last poll went.
func (r *Receiver) polled(err error) { r.report(&r.health.poll, err) }

// streamIs notes why no events come from the stream, or nil.
func (r *Receiver) streamIs(fault error) { r.report(&r.health.stream, fault) }

func (r *Receiver) report(part *error, fault error) {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	*part = fault
	r.Door.Polled(0, cmp.Or(r.health.stream, r.health.poll))
}
