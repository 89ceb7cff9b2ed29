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

// Target is somebody, or something, that is told of alerts.
type Target struct {
	Name      string             // is a label of figures, and names it in the file
	Detectors []insight.Detector // nil: alerts of all
	// OncePerKey: it is not told of an alert whose like it, or another, was
	// told of before, as far back as the inbox goes.
	OncePerKey bool
	// NoHearsay: the target is not told of an alert while it is hearsay.
	NoHearsay bool
	// Send tells of one alert. Its error says that it is to be told again,
	// unless it is [Refused].
	Send func(ctx context.Context, a insight.Alert) error
}

func (t *Target) wants(a *insight.Alert) bool {
	return (t.Detectors == nil || slices.Contains(t.Detectors, a.Detector)) && !(t.NoHearsay && a.Hearsay)
}

// Refused makes of err one that would be no other the next time.
func Refused(err error) error { return &refusal{err} }

type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func refused(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// Times of telling.
const (
	sendTime     = 15 * time.Second // for one try
	firstPause   = 200 * time.Millisecond
	longestPause = time.Minute
	giveUpAfter  = 24 * time.Hour
)

// courier tells one target.
type courier struct {
	in     *Inbox
	target Target
	wake   chan struct{} // holds one token when queue may have something
	queue  []*record     // that the target may not have; guarded by in.mu
	failed bool          // the last try, for the log; used by run alone
}

func newCourier(in *Inbox, t Target) *courier {
	return &courier{in: in, target: t, wake: make(chan struct{}, 1)}
}

func (c *courier) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

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
		result := c.tell(ctx, a)
		if ctx.Err() != nil && result != resultDelivered {
			return // it is told after the next start
		}
		c.in.figures.deliveries.WithLabelValues(c.target.Name, result).Inc()
		c.in.told(r, c.target.Name)
	}
}

// add has the target told of r. What is forgotten leaves the queue when it has
// become long. The caller holds in.mu.
func (c *courier) add(r *record) {
	r.pending = append(slices.Clone(r.pending), c.target.Name)
	if len(c.queue) > 2*c.in.most {
		c.queue = slices.DeleteFunc(c.queue, func(r *record) bool { return !slices.Contains(r.pending, c.target.Name) })
	}
	c.queue = append(c.queue, r)
}

// next is the oldest alert that the target has not been told of.
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

// told notes that a target need not be told of an alert any more.
func (in *Inbox) told(r *record, name string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	r.pending = slices.DeleteFunc(slices.Clone(r.pending), func(n string) bool { return n == name })
	in.late = true
}

// tell tells until it is taken, or there is no sense in going on.
func (c *courier) tell(ctx context.Context, a insight.Alert) (result string) {
	pauses := &backoff.ExponentialBackOff{
		InitialInterval: firstPause, MaxInterval: longestPause, Multiplier: 2, RandomizationFactor: 0.3,
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		try, cancel := context.WithTimeout(ctx, sendTime)
		defer cancel()
		err := c.target.Send(try, a)
		c.note(ctx, err)
		if refused(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(giveUpAfter))
	switch {
	case err == nil:
		return resultDelivered
	case refused(err):
		c.in.logger.Error("an alert is refused, and is not sent again", "target", c.target.Name, "alert", a.ID, "error", err)
		return resultRefused
	}
	if ctx.Err() == nil {
		c.in.logger.Error("an alert could not be handed on for a day, and is not sent any more", "target", c.target.Name, "alert", a.ID, "error", err)
	}
	return resultDropped
}

// note logs when telling begins to fail, and when it works again.
func (c *courier) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	failed := err != nil && !refused(err)
	if failed {
		c.in.figures.deliveries.WithLabelValues(c.target.Name, resultFailed).Inc()
	}
	switch {
	case failed && !c.failed:
		c.in.logger.Warn("alerts cannot be handed on; they are kept, and sent again", "target", c.target.Name, "error", err)
	case err == nil && c.failed:
		c.in.logger.Info("alerts can be handed on again", "target", c.target.Name)
	}
	c.failed = failed
}

// answered makes of an HTTP answer what a target has to say: nil is taken.
func answered(a *outbound.Answer) error {
	err := a.Err()
	switch {
	case err == nil:
		return nil
	case a.Status == 400 || a.Status == 413 || a.Status == 415 || a.Status == 422:
		return Refused(err)
	case a.After > 0:
		return &backoff.RetryAfterError{Duration: min(a.After, 5*time.Minute)}
	}
	return err
}
