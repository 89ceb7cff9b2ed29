package intake

import (
	"maps"
	"slices"
	"time"
)

// Outcomes that are counted beside the states.
const (
	outcomeTurned = "turned" // the sender or the form of the request is wrong
	outcomeFailed = "failed" // not made durable; the sender must send it again
)

// outcomes are all that an event can come to.
func outcomes() (all []string) {
	for _, s := range states {
		all = append(all, string(s))
	}
	return append(all, outcomeTurned, outcomeFailed)
}

// Status is how an intake stands on this node.
type Status struct {
	LastEvent     time.Time // when the last event was taken; zero: none since the start
	LastEventType string
	LastSuccess   time.Time // when the intake last heard from its sender; of a poller, its last good poll
	Lag           time.Duration
	Error         string            // of the last poll or the last event; empty: it went well
	ErrorAt       time.Time         // when it began
	Counts        map[string]uint64 // by outcome, since the start
}

// Status returns how the intake stands.
func (d *Door) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.status
	s.Counts = maps.Clone(s.Counts)
	return s
}

// Polled says how a poll went: how far behind the sender the intake is, or why
// the poll failed. A kind that pulls calls it after each poll. So does a kind that
// checks its stream at the sender.
func (d *Door) Polled(lag time.Duration, err error) {
	now := d.Authority.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.status.fail(err, now)
		return
	}
	d.status.Lag, d.status.LastSuccess, d.status.Error, d.status.ErrorAt = max(0, lag), now, "", time.Time{}
}

// fail notes an error. The caller holds mu.
func (s *Status) fail(err error, now time.Time) {
	if s.Error == "" {
		s.ErrorAt = now
	}
	s.Error = clean(err.Error())
}

// took notes an event that was taken.
func (d *Door) took(name eventName, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.LastEvent, d.status.LastEventType, d.status.LastSuccess = now, name.kind, now
	d.status.Lag, d.status.Error, d.status.ErrorAt = now.Sub(name.at), "", time.Time{}
}

// failed notes an event that was not made durable.
func (d *Door) failed(err error) {
	d.count(outcomeFailed)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.fail(err, d.Authority.Now())
}

func (d *Door) count(outcome string) {
	if !slices.Contains(outcomes(), outcome) {
		return
	}
	d.Figures.events.WithLabelValues(d.Name, outcome).Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Counts[outcome]++
}
