package intake

import (
	"maps"
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

// Status is how an intake stands on one node, or on all together.
type Status struct {
	LastEvent     time.Time         `json:"last_event,omitzero"` // when the last event was taken
	LastEventType string            `json:"last_event_type,omitempty"`
	LastSuccess   time.Time         `json:"last_success,omitzero"` // of an event, or of a poll
	Lag           time.Duration     `json:"lag,omitempty"`         // behind the sender, at the last success
	Error         string            `json:"error,omitempty"`       // of the last poll or event; empty: it went well
	ErrorAt       time.Time         `json:"error_at,omitzero"`     // when it began
	Active        time.Time         `json:"active,omitzero"`       // of the last success or error
	Counts        map[string]uint64 `json:"counts,omitempty"`      // by outcome, since the start of the node
}

// equal reports whether two statuses say the same, but for the time of a poll that
// is like the one before.
func (s Status) equal(o *Status) bool {
	return s.LastEvent.Equal(o.LastEvent) && s.Error == o.Error && maps.Equal(s.Counts, o.Counts) &&
		o.LastSuccess.Sub(s.LastSuccess) < time.Minute && o.Active.Sub(s.Active) < time.Minute
}

// Status returns how the intake stands on this node.
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
	d.status.succeed(lag, now)
}

// succeed notes that the intake has heard from its sender. The caller holds mu.
func (s *Status) succeed(lag time.Duration, now time.Time) {
	s.Lag, s.LastSuccess, s.Active, s.Error, s.ErrorAt = max(0, lag), now, now, "", time.Time{}
}

// fail notes an error. The caller holds mu.
func (s *Status) fail(err error, now time.Time) {
	if s.Error == "" {
		s.ErrorAt = now
	}
	s.Error, s.Active = clean(err.Error()), now
}

// took notes an event that was taken.
func (d *Door) took(name eventName, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.LastEvent, d.status.LastEventType = now, name.kind
	d.status.succeed(now.Sub(name.at), now)
}

// failed notes an event that was not made durable.
func (d *Door) failed(err error) {
	d.count(outcomeFailed)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.fail(err, d.Authority.Now())
}

// count counts an outcome, which is one of a fixed list.
func (d *Door) count(outcome string) {
	d.Figures.events.WithLabelValues(d.Name, outcome).Inc()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Counts[outcome]++
}

// heldNow notes how many events are held.
func (d *Door) heldNow(n int) { d.waiting.Store(int64(n)) }
