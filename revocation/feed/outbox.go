package feed

import (
	"slices"
	"sync"

	"github.com/go-json-experiment/json"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// Bounds of the alerts that a replica keeps for the control endpoint.
const (
	maxPending = 1000      // alerts
	maxAlerts  = 100       // in one message
	maxBatch   = 256 << 10 // bytes of alerts in one message, but for the last
	maxAlert   = 32 << 10  // bytes of one alert
)

// outbox holds the alerts that the control endpoint has not taken. One message at
// a time is on its way. Meanwhile several alerts of one key become one alert.
//
// A full outbox drops the newest alert of the detector with the most alerts, so
// that a flood of one kind does not wash away the other kinds.
type outbox struct {
	wake chan struct{} // holds one token when next may have something

	mu      sync.Mutex
	pending map[string]*insight.Alert // by key
	order   []string                  // keys of pending, oldest first
	sent    *feedpb.Alerts            // not taken yet
	unsent  bool                      // sent, but over a stream that has ended
	number  uint64
	figures Reported
	empty   chan struct{} // not nil: closed when all is taken
}

// add takes an alert.
func (o *outbox) add(a insight.Alert) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if old := o.pending[a.Key]; old != nil {
		*old = insight.MergeAlerts(*old, a)
		return
	}
	if len(o.pending) >= maxPending {
		o.figures.Dropped++
		victim := o.most(a.Detector)
		if victim == "" {
			return
		}
		o.forget(victim)
	}
	o.pending[a.Key] = &a
	o.order = append(o.order, a.Key)
	o.wakeUp()
}

// most returns the newest key of the detector with the most alerts, or "" if that
// detector is the given one. The caller holds mu.
func (o *outbox) most(of insight.Detector) string {
	counts := map[insight.Detector]int{of: 1}
	for _, a := range o.pending {
		counts[a.Detector]++
	}
	top := of
	for d, n := range counts {
		if n > counts[top] {
			top = d
		}
	}
	if top == of {
		return ""
	}
	for _, key := range slices.Backward(o.order) {
		if o.pending[key].Detector == top {
			return key
		}
	}
	return ""
}

// forget removes a pending alert. The caller holds mu.
func (o *outbox) forget(key string) {
	delete(o.pending, key)
	i := slices.Index(o.order, key)
	o.order = slices.Delete(o.order, i, i+1)
}

// wakeUp wakes the reporter, and does not wait.
func (o *outbox) wakeUp() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// again marks a message of an earlier stream as not sent, so that next returns the
// message again.
func (o *outbox) again() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unsent = o.sent != nil
}

// next returns the message to send, or nil if there is nothing to send now.
func (o *outbox) next() *feedpb.Alerts {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.unsent:
		o.unsent = false
		return o.sent
	case o.sent != nil || len(o.order) == 0:
		return nil
	}
	m := &feedpb.Alerts{}
	for size := 0; len(o.order) > 0 && len(m.Alerts) < maxAlerts && size < maxBatch; {
		key := o.order[0]
		b, err := json.Marshal(o.pending[key])
		o.forget(key)
		if err != nil || len(b) > maxAlert { // the watcher makes no such alert
			o.figures.Dropped++
			continue
		}
		size += len(b)
		m.Alerts = append(m.Alerts, b)
	}
	if len(m.Alerts) == 0 {
		return nil
	}
	o.number++
	m.Number = o.number
	o.sent = m
	return m
}

// taken notes that the control endpoint has taken the alerts up to a number.
func (o *outbox) taken(number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sent == nil || number < o.sent.Number {
		return
	}
	o.figures.Taken += uint64(len(o.sent.Alerts))
	o.sent, o.unsent = nil, false
	if len(o.order) == 0 && o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
	o.wakeUp()
}

// drained returns a channel that is closed when all alerts are taken, or nil if
// there are no alerts.
func (o *outbox) drained() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.sent == nil && len(o.order) == 0:
		return nil
	case o.empty == nil:
		o.empty = make(chan struct{})
	}
	return o.empty
}

// reported returns the figures.
func (o *outbox) reported() Reported {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.figures
	r.Pending = len(o.pending)
	if o.sent != nil {
		r.Pending += len(o.sent.Alerts)
	}
	return r
}
