package ssf

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"rescind/revocation/intake/ssf/stream"
)

// Times of a watch.
const (
	statusPause = time.Minute     // between two looks at the status
	silence     = 5 * time.Minute // after which a verification that has not come is missed
)

// Watch asks the transmitter whether the stream is well, and for verification
// events. Some transmitters pause a stream whose receiver never asks. One node
// runs the watch.
type Watch struct {
	Receiver    *Receiver
	Transmitter *stream.Transmitter
	Every       time.Duration // between two verifications; 0: none

	interval time.Duration // Every, or the least that the stream allows; 0: not known yet
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := w.look(ctx)
		if ctx.Err() == nil {
			w.Receiver.streamIs(err)
		}
		sleep(ctx, max(statusPause, askedPause(err)))
	}
	return ctx.Err()
}

// look returns why no events come from the stream, or nil.
func (w *Watch) look(ctx context.Context) error {
	r := w.Receiver
	s, err := w.Transmitter.Status(ctx, r.Stream)
	switch {
	case stream.Gone(err):
		return fmt.Errorf("the stream %s is not at the transmitter, so no events come; create another: rescind stream create", r.Stream)
	case err != nil:
		return fmt.Errorf("the status of the stream: %w", err)
	case statusFault(s) != nil:
		return statusFault(s)
	case w.Every == 0:
		return nil
	}
	return w.verify(ctx)
}

// verify asks for a verification event if it is time, and returns an error while
// one that was asked for has not come.
func (w *Watch) verify(ctx context.Context) error {
	interval, err := w.least(ctx)
	if err != nil {
		return err
	}
	now, _, err := w.Receiver.load(ctx)
	if err != nil {
		return err
	}
	if len(now.Asked) == 0 || time.Since(now.Asked[0].At) >= interval {
		err = w.ask(ctx)
	}
	if missing := missed(now); missing != nil {
		return missing
	}
	return err
}

// least returns the time between two verifications.
func (w *Watch) least(ctx context.Context) (time.Duration, error) {
	if w.interval == 0 {
		s, err := w.Transmitter.Stream(ctx, w.Receiver.Stream)
		if err != nil {
			return 0, fmt.Errorf("the configuration of the stream: %w", err)
		}
		w.interval = max(w.Every, time.Duration(s.MinVerification)*time.Second)
	}
	return w.interval, nil
}

// ask asks for a verification event. Its state is durable before, because the
// event may arrive during the request.
func (w *Watch) ask(ctx context.Context) error {
	state := rand.Text()
	err := w.Receiver.change(ctx, func(now *record) error {
		now.Asked = slices.Insert(now.Asked, 0, asked{state, time.Now().UTC()})
		now.Asked = now.Asked[:min(len(now.Asked), maxAsked)]
		return nil
	})
	if err != nil {
		return err
	}
	if err := w.Transmitter.Verify(ctx, w.Receiver.Stream, state); err != nil && !stream.TooSoon(err) {
		return fmt.Errorf("a verification could not be asked for: %w", err)
	}
	return nil
}

// missed returns an error if a verification was asked for and has not come in
// time. The first that was missed counts.
func missed(now *record) error {
	for _, a := range slices.Backward(now.Asked) {
		if a.At.After(now.Verified) && time.Since(a.At) > silence {
			return errors.New("the stream is silent: a verification that was asked for at " + a.At.Format(time.RFC3339) + " has not come")
		}
	}
	return nil
}
