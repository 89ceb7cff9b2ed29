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
	// errorGrace is the time that an acknowledgement still has after the
	// embedded server has logged an error. The server does not answer a write
	// that fails.
	errorGrace = 300 * time.Millisecond
)

// Append adds body as the revision that follows after, and returns that
// revision once it is durable. lasts is the time until which the batch is
// wanted. Append returns 0 and no error if after is not the last revision any
// more, or Read has not caught up: the caller reads on and tries again.
//
// After an error the batch may be in the log all the same. Then Read delivers
// it.
func (l *Log) Append(ctx context.Context, after uint64, lasts time.Time, body []byte) (revision uint64, err error) {
	l.appending.Lock()
	defer l.appending.Unlock()
	conn, err := l.connected()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	if l.outOfRoom {
		defer l.mu.Unlock()
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, l.failure)
	}
	if l.accounting.revision != after || !l.accounting.verified {
		l.mu.Unlock()
		return 0, nil
	}
	f := frame{givenUp: l.accounting.givenUp, before: l.accounting.remaining, noted: l.accounting.lastNote, body: body}
	hour := max(hourOf(lasts), l.accounting.givenUp+1)
	l.mu.Unlock()
	return l.publish(ctx, conn, after, hour, &f)
}

// publish writes one frame and counts it. The caller holds appending.
func (l *Log) publish(ctx context.Context, conn *connection, after uint64, hour uint32, f *frame) (uint64, error) {
	m := nats.NewMsg(hourSubject(hour))
	m.Data = f.encode(l.id, after+1)
	if limit := l.MaxBody(); len(f.body) > limit {
		return 0, fmt.Errorf("%w: it has %d bytes and a message may have %d", ErrTooLarge, len(f.body), limit)
	}
	ack, err := l.send(ctx, conn, m, jetstream.WithExpectLastSequence(after))
	switch {
	case isConflict(err):
		return 0, nil
	case err != nil:
		return 0, err
	case ack.Sequence != after+1:
		err := fmt.Errorf("%w: a batch that follows revision %d was acknowledged as revision %d", ErrDamaged, after, ack.Sequence)
		l.detach(conn, err)
		return 0, err
	}
	if !l.standalone() {
		conn.announce(ack.Sequence)
	}
	l.mu.Lock()
	if l.accounting.revision < ack.Sequence { // Read may have counted it already
		l.accounting.count(ack.Sequence, hour, f)
	}
	l.mu.Unlock()
	return ack.Sequence, nil
}

// send publishes m and waits until it is durable. m must not count twice if it
// arrives twice, because several nodes are sent m again while they elect a
// leader. Once the nodes have had the time for an election and there is still no
// leader, send fails at once.
func (l *Log) send(ctx context.Context, conn *connection, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	opts = append(opts, jetstream.WithRetryAttempts(0))
	if l.standalone() {
		return l.sendEmbedded(ctx, conn, m, opts)
	}
	for {
		trying, cancel := context.WithTimeout(ctx, tryTimeout+time.Duration(len(m.Data))*tryByte)
		ack, err := conn.js.PublishMsg(trying, m, opts...)
		cancel()
		if err == nil || isConflict(err) {
			l.recordMajority(nil)
			return ack, err
		}
		var api *jetstream.APIError
		if without := l.recordMajority(err); errors.As(err, &api) && api.ErrorCode != noQuorum || without > electionTime || !pause(ctx, tryPause) {
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

// recordMajority records whether several nodes take writes: err is nil, or the
// reason why they do not. It returns for how long they have not.
func (l *Log) recordMajority(err error) (without time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.failure
	switch {
	case l.outOfRoom: // the failure is that of the disk
		return 0
	case err == nil:
		l.failure = nil
		if before != nil {
			l.log.Info("the durable log takes writes again", "after", time.Since(l.noMajoritySince).Round(time.Millisecond))
		}
		return 0
	case before == nil:
		l.noMajoritySince = time.Now()
		l.failure = err
		l.log.Warn("the durable log takes no writes", "error", l.failure)
	}
	return time.Since(l.noMajoritySince)
}

// pause waits for d, and reports whether d passed before ctx ended.
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

// sendEmbedded publishes m to the only server, within this process. Without an
// answer it puts the log down, so that the server is opened again.
func (l *Log) sendEmbedded(ctx context.Context, conn *connection, m *nats.Msg, opts []jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	sent := make(chan struct{})
	defer close(sent)
	select { // drop an error of an earlier write
	case <-conn.lastError.logged:
	default:
	}
	go func() {
		select {
		case <-sent:
		case <-conn.lastError.logged:
			select {
			case <-sent:
			case <-time.After(errorGrace):
				cancel()
			}
		}
	}()
	ack, err := conn.js.PublishMsg(ctx, m, opts...)
	if err == nil || isConflict(err) {
		return ack, err
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) && l.stop.Err() == nil {
		l.detach(conn, fmt.Errorf("a write was not acknowledged: %s", conn.lastError))
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// MaxBody returns the size of the largest body that Append and Note take.
func (l *Log) MaxBody() int {
	const overhead = headerSize + 1024 // the frame, and the headers of the message
	if l.opt.NATS == nil {
		return maxMessage - overhead
	}
	conn, err := l.connected()
	if err != nil {
		return 0
	}
	return int(conn.nats.MaxPayload()) - overhead
}
