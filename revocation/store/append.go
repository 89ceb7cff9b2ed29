package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
	if !l.alone() {
		k.tellAppended(ack.Sequence)
	}
	l.mu.Lock()
	if l.tally.revision < ack.Sequence { // else Read has seen it already
		l.tally.take(ack.Sequence, hour, f)
	}
	l.mu.Unlock()
	return ack.Sequence, nil
}

// send publishes m, which must not count twice if it comes twice, and waits
// until it is durable.
//
// Where there are several nodes m is sent again while they elect a leader. Once
// they have had the time for that and there is none, nothing waits any more.
func (l *Log) send(ctx context.Context, k *link, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	opts = append(opts, jetstream.WithRetryAttempts(0))
	if l.alone() {
		return l.sendAlone(ctx, k, m, opts)
	}
	for {
		trying, cancel := context.WithTimeout(ctx, tryTimeout+time.Duration(len(m.Data))*tryByte)
		ack, err := k.js.PublishMsg(trying, m, opts...)
		cancel()
		if err == nil || isConflict(err) {
			l.answered(nil)
			return ack, err
		}
		var api *jetstream.APIError
		if silent := l.answered(err); errors.As(err, &api) && api.ErrorCode != noQuorum || silent > electionTime || !pause(ctx, tryPause) {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

// Times of a log on several nodes.
const (
	tryTimeout   = time.Second           // one message, from here to a majority
	tryByte      = 250 * time.Nanosecond // and more for each of its bytes
	tryPause     = 100 * time.Millisecond
	electionTime = 11 * time.Second // NATS waits for up to 9 s before an election
)

// noQuorum is the error of an API call that finds no majority. The client
// library has no name for it.
const noQuorum = jetstream.ErrorCode(server.JSClusterNotAvailErr)

// answered takes note of whether the nodes of a log that is not alone take
// writes, and says for how long they have not.
func (l *Log) answered(err error) (silent time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.cause
	switch {
	case l.short: // which has a cause of its own
		return 0
	case err == nil:
		l.cause = nil
		if before != nil {
			l.log.Info("the durable log takes writes again", "after", time.Since(l.silent).Round(time.Millisecond))
		}
		return 0
	case before == nil:
		l.silent = time.Now()
		l.cause = err
		l.log.Warn("the durable log takes no writes", "error", l.cause)
	}
	return time.Since(l.silent)
}

// pause says whether d went by before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sendAlone sends to the server within this process. Anything but an answer
// puts the log down, so that it is opened again.
func (l *Log) sendAlone(ctx context.Context, k *link, m *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	sent := make(chan struct{})
	defer close(sent)
	select { // of an earlier time
	case <-k.trouble.logged:
	default:
	}
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
	ack, err := k.js.PublishMsg(ctx, m, opts...)
	if err == nil || isConflict(err) {
		return ack, err
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) && l.stop.Err() == nil {
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
