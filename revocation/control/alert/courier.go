package alert

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/revocation/control/outbound"
	"rescind/revocation/insight"
)

// Target is a receiver of alerts.
type Target struct {
	Name      string             // label of metrics, and its name in the file
	Detectors []insight.Detector // nil: alerts of all
	// OncePerKey: the target is told of one alert of each key alone, as far
	// back as the inbox goes.
	OncePerKey bool
	// NoHearsay: the target is not told of an alert while it is hearsay.
	NoHearsay bool
	// Send delivers one alert. After an error it is called again, unless the
	// error is [Permanent].
	Send func(ctx context.Context, a insight.Alert) error
}

func (t *Target) wants(a *insight.Alert) bool {
	if t.NoHearsay && a.Hearsay {
		return false
	}
	return t.Detectors == nil || slices.Contains(t.Detectors, a.Detector)
}

// Permanent marks err as not retryable.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ error }

func (p *permanentError) Unwrap() error { return p.error }

func permanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// Times of a delivery.
const (
	sendTime     = 15 * time.Second // for one try
	firstPause   = 200 * time.Millisecond
	longestPause = time.Minute
	giveUpAfter  = 24 * time.Hour
)

// courier delivers alerts to one target.
type courier struct {
	in     *Inbox
	target Target
	wake   chan struct{} // holds one token when queue may not be empty
	queue  []*record     // that may have to be delivered; guarded by in.mu
	failed bool          // the last try failed, for the log; used by run alone
}

func newCourier(in *Inbox, t Target) *courier {
	return &courier{in: in, target: t, wake: make(chan struct{}, 1)}
}

// wakeUp makes run look at the queue.
func (c *courier) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run delivers the alerts of the queue until ctx ends.
func (c *courier) run(ctx context.Context) {
	for ctx.Err() == nil {
		r, a := c.next()
		if r == nil {
			select {
			case <-c.wake:
			case <-ctx.Done():
			}
			continue
		}
		result := c.deliver(ctx, a)
		if ctx.Err() != nil && result != resultDelivered {
			return // it is delivered after the next start
		}
		c.in.metrics.deliveries.WithLabelValues(c.target.Name, result).Inc()
		c.in.delivered(r, c.target.Name)
	}
}

// add queues r. When the queue has become long, records that the inbox has
// forgotten leave it. The caller holds in.mu.
func (c *courier) add(r *record) {
	r.pending = append(slices.Clone(r.pending), c.target.Name)
	if len(c.queue) > 2*c.in.most {
		c.queue = slices.DeleteFunc(c.queue, func(r *record) bool { return !slices.Contains(r.pending, c.target.Name) })
	}
	c.queue = append(c.queue, r)
}

// next returns the oldest alert that has to be delivered, or nil.
func (c *courier) next() (*record, insight.Alert) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for len(c.queue) > 0 {
		r := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		if slices.Contains(r.pending, c.target.Name) {
			return r, r.alert
		}
	}
	c.queue = nil
	return nil, insight.Alert{}
}

// delivered notes that an alert no longer has to be delivered to a target.
func (in *Inbox) delivered(r *record, name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r.pending = slices.DeleteFunc(slices.Clone(r.pending), func(n string) bool { return n == name })
	in.dirty = true
}

// deliver sends an alert until the target takes it or refuses it for good, or
// until a day has passed.
func (c *courier) deliver(ctx context.Context, a insight.Alert) (result string) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 2, RandomizationFactor: 0.3,
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		try, cancel := context.WithTimeout(ctx, sendTime)
		defer cancel()
		err := c.target.Send(try, a)
		c.note(ctx, err)
		if permanent(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(giveUpAfter))
	switch {
	case err == nil:
		return resultDelivered
	case permanent(err):
		c.in.logger.Error("alert refused, not sending it again", "target", c.target.Name, "alert", a.ID, "error", err)
		return resultRefused
	}
	if ctx.Err() == nil {
		c.in.logger.Error("alert not delivered within a day, giving it up", "target", c.target.Name, "alert", a.ID, "error", err)
	}
	return resultDropped
}

// note logs the first failure of deliveries, and the first success after it.
func (c *courier) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	failed := err != nil && !permanent(err)
	if failed {
		c.in.metrics.deliveries.WithLabelValues(c.target.Name, resultFailed).Inc()
	}
	switch {
	case failed && !c.failed:
		c.in.logger.Warn("alerts cannot be delivered, keeping them and sending them again", "target", c.target.Name, "error", err)
	case err == nil && c.failed:
		c.in.logger.Info("alerts are delivered again", "target", c.target.Name)
	}
	c.failed = failed
}

// answered returns nil if an HTTP answer takes the alert, and else an error,
// which is permanent if the same request could not succeed later.
func answered(a *outbound.Answer) error {
	err := a.Err()
	switch {
	case err == nil:
		return nil
	case a.Status == 400 || a.Status == 413 || a.Status == 415 || a.Status == 422:
		return Permanent(err)
	case a.After > 0:
		return &backoff.RetryAfterError{Duration: min(a.After, 5*time.Minute)}
	}
	return err
}
