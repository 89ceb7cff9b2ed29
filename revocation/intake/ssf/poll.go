package ssf

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/revocation/intake"
	"rescind/revocation/intake/secevent"
	"rescind/revocation/intake/ssf/stream"
)

// maxEvents is how many tokens a poll asks for.
const maxEvents = 32

// Poller polls for the events of a receiver (RFC 8936). The transmitter keeps
// each token until it is acknowledged, so a poller that starts again goes on where
// the last one was.
type Poller struct {
	Receiver    *Receiver
	Transmitter *stream.Transmitter
	URL         string        // empty: the one that the stream says
	Interval    time.Duration // between two polls, if the transmitter does not hold an empty answer back
}

// Run polls until ctx ends.
func (p *Poller) Run(ctx context.Context) error {
	pause := &backoff.ExponentialBackOff{InitialInterval: p.Interval, MaxInterval: max(p.Interval, time.Minute), Multiplier: 2, RandomizationFactor: 0.2}
	pause.Reset()
	request := stream.Request{Max: maxEvents, Immediately: true}
	for ctx.Err() == nil {
		begun := time.Now()
		answer, err := p.poll(ctx, &request)
		if err == nil {
			err = p.takeAll(ctx, answer, &request)
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			p.Receiver.polled(err)
			request.Immediately = true // the error is told at once, and so is the end of it
			sleep(ctx, max(pause.NextBackOff(), askedPause(err)))
			continue
		}
		pause.Reset()
		if len(answer.Tokens) == 0 && !answer.More {
			p.Receiver.polled(nil)
			sleep(ctx, p.Interval-time.Since(begun))
		}
		request.Immediately = answer.More
	}
	return ctx.Err()
}

// poll makes one poll. What the request acknowledges is settled once there is an
// answer, and is sent again otherwise. A long poll that ends without an answer is
// an empty answer.
func (p *Poller) poll(ctx context.Context, request *stream.Request) (*stream.Answer, error) {
	at, err := p.url(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := p.Transmitter.Poll(ctx, at, *request)
	if errors.Is(err, context.DeadlineExceeded) && !request.Immediately && ctx.Err() == nil {
		return &stream.Answer{More: true}, nil // the next poll does not wait, and shows whether the transmitter is there
	}
	if err == nil {
		request.Ack, request.Refused = nil, nil
	}
	return answer, err
}

// url returns where to poll.
func (p *Poller) url(ctx context.Context) (string, error) {
	if p.URL != "" {
		return p.URL, nil
	}
	s, err := p.Transmitter.Stream(ctx, p.Receiver.Stream)
	if err != nil {
		return "", err
	}
	if !s.Polls() || s.Delivery.Endpoint == "" {
		return "", errors.New("the stream is not polled; create it with the delivery poll, or configure delivery: push")
	}
	p.URL = s.Delivery.Endpoint
	return p.URL, nil
}

// takeAll carries the tokens of an answer out, and notes in the request which of
// them are done and which are faulty. It returns the first error after which a
// token must be sent again.
func (p *Poller) takeAll(ctx context.Context, answer *stream.Answer, request *stream.Request) (again error) {
	for _, id := range slices.Sorted(maps.Keys(answer.Tokens)) {
		err := p.take(ctx, id, answer.Tokens[id])
		var fault *secevent.Fault
		switch {
		case err == nil:
			request.Ack = append(request.Ack, id)
		case errors.As(err, &fault):
			p.Receiver.Door.Turn(ctx, p.URL, err)
			if request.Refused == nil {
				request.Refused = map[string]stream.Refusal{}
			}
			request.Refused[id] = stream.Refusal{Code: string(fault.Code), Description: fault.Description}
		case again == nil:
			again = err
		}
	}
	return again
}

func (p *Poller) take(ctx context.Context, id, raw string) error {
	if len(raw) > intake.MaxBody {
		return &secevent.Fault{Code: secevent.InvalidRequest, Description: "the token is larger than 64 KiB"}
	}
	return p.Receiver.take(ctx, raw, id)
}

func askedPause(err error) time.Duration {
	status := (*stream.StatusError)(nil)
	if errors.As(err, &status) {
		return min(status.RetryAfter, 10*time.Minute)
	}
	return 0
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
