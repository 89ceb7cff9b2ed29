package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	appendTimeout = 5 * time.Second
	// After the embedded server has logged an error an acknowledgement is most
	// likely not coming: it does not answer when a write fails.
	troubleGrace = 300 * time.Millisecond
)

// Append adds body as the revision that follows after, and returns that
// revision once it is durable. It returns 0 and no error if after is not the
// last revision any more: the caller reads on and tries again. lasts says how
// long the batch is wanted.
//
// After an error the batch may be there all the same; if so, Read delivers it.
func (l *Log) Append(ctx context.Context, after uint64, lasts time.Time, body []byte) (revision uint64, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	k, err := l.current()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	if l.short {
		defer l.mu.Unlock()
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, l.cause)
	}
	if l.tally.revision != after || !l.tally.whole {
		l.mu.Unlock()
		return 0, nil
	}
	f := frame{givenUp: l.tally.givenUp, before: l.tally.kept, noted: l.tally.noted, body: body}
	hour := max(hourOf(lasts), l.tally.givenUp+1)
	l.mu.Unlock()
	return l.publish(ctx, k, after, hour, &f)
}

// publish writes one frame and counts it. The caller holds appending.
func (l *Log) publish(ctx context.Context, k *link, after uint64, hour uint32, f *frame) (uint64, error) {
	m := nats.NewMsg(hourSubject(hour))
	m.Data = f.encode(l.id, after+1)
	if limit := l.MaxBody(); len(f.body) > limit {
		return 0, fmt.Errorf("%w: it has %d bytes and a message may have %d", ErrTooLarge, len(f.body), limit)
	}
	ack, err := l.send(ctx, k, m, jetstream.WithExpectLastSequence(after))
	switch {
	case isConflict(err):
		return 0, nil
	case err != nil:
		return 0, err
	case ack.Sequence != after+1:
		err := fmt.Errorf("%w: revision %d was given to what should follow revision %d", ErrDamaged, ack.Sequence, after)
		l.detach(k, err)
		return 0, err
	}
	l.mu.Lock()
	if l.tally.revision < ack.Sequence { // else Read has seen it already
		l.tally.take(ack.Sequence, hour, f)
	}
	l.mu.Unlock()
	return ack.Sequence, nil
}

// send publishes m and waits until it is durable. Anything but an answer puts
// an embedded log down, so that it is opened again.
func (l *Log) send(ctx context.Context, k *link, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	sent := make(chan struct{})
	defer close(sent)
	select { // of an earlier time
	case <-k.trouble.logged:
	default:
	}
	if l.alone() {
		go func() {
			select {
			case <-sent:
			case <-k.trouble.logged:
				select {
				case <-sent:
				case <-time.After(troubleGrace):
					cancel()
				}
			}
		}()
	}
	ack, err := k.js.PublishMsg(ctx, m, append(opts, jetstream.WithRetryAttempts(0))...)
	if err == nil || isConflict(err) {
		return ack, err
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) && l.alone() && l.stop.Err() == nil {
		l.detach(k, fmt.Errorf("a write was not acknowledged: %s", k.trouble))
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// MaxBody is the size of the largest body that Append and Note take.
func (l *Log) MaxBody() int {
	const overhead = headerSize + 1024 // the frame, and the headers of the message
	if l.opt.NATS == nil {
		return maxMessage - overhead
	}
	k, err := l.current()
	if err != nil {
		return 0
	}
	return int(k.conn.MaxPayload()) - overhead
}

// alone says that the server is here and is the only one.
func (l *Log) alone() bool { return l.opt.NATS == nil && l.opt.Cluster == nil }
