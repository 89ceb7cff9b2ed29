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
	shown        string // the fault that was logged last; empty: none
}

// polled notes how the last poll went.
func (r *Receiver) polled(err error) { r.report(&r.health.poll, err) }

// streamIs notes why no events come from the stream, or nil.
func (r *Receiver) streamIs(fault error) { r.report(&r.health.stream, fault) }

func (r *Receiver) report(part *error, fault error) {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	*part = fault
	now := cmp.Or(r.health.stream, r.health.poll)
	switch was := r.health.shown; {
	case now == nil && was != "":
		r.Door.Logger.Info("events come from the sender again")
		r.health.shown = ""
	case now != nil && now.Error() != was:
		r.health.shown = now.Error()
		r.Door.Logger.Warn("no events come from the sender", "error", r.health.shown)
	}
	r.Door.Polled(0, now)
}
