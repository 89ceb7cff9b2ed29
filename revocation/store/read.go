package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Read calls deliver with every batch after the given revision, in order, and
// goes on with the batches that this or another node appends. It returns when
// ctx ends, the log is closed, the log is damaged or deliver fails. The body is
// deliver's to keep. It is nil for a revision that only gives up hours. A batch
// that Append has returned is delivered too.
//
// Read calls caughtUp once, when it has delivered all that was there at its
// beginning and has verified the log. Until then Append does nothing.
//
// A Log has one Read.
func (l *Log) Read(ctx context.Context, after uint64, deliver func(revision uint64, body []byte) error, caughtUp func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.stop, cancel)()
	r := reader{Log: l, next: after + 1, deliver: deliver, caughtUp: caughtUp}
	for {
		conn, err := l.awaitConnection(ctx)
		if err != nil {
			return err
		}
		err = r.follow(ctx, conn)
		var stop *stopError
		switch {
		case errors.As(err, &stop):
			return stop.error
		case errors.Is(err, ErrDamaged):
			l.detach(conn, err)
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		l.log.Debug("reading the log anew", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stopError is the error of deliver, which ends Read.
type stopError struct{ error }

// reader is the state of one Read.
type reader struct {
	*Log
	next     uint64
	head     uint64 // revision at which the log is verified; 0: not known yet
	deliver  func(uint64, []byte) error
	caughtUp func()
}

// follow reads over one connection. It returns the error that ends the reading.
func (r *reader) follow(ctx context.Context, conn *connection) error {
	if r.head == 0 {
		head, err := r.inspect(ctx, conn)
		if err != nil {
			return err
		}
		if head < r.next {
			return fmt.Errorf("%w: it ends at revision %d, and revision %d was read before", ErrDamaged, head, r.next-1)
		}
		r.head = head
	}
	if r.next > r.head { // all is delivered, caughtUp is not called yet
		if err := r.finish(); err != nil {
			return err
		}
	}
	if !r.standalone() {
		return r.poll(ctx, conn)
	}
	consumer, err := conn.batches.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		InactiveThreshold: 30 * time.Second,
		// By default the consumer tries for ever, even after ctx has ended.
		// With a limit Read begins anew instead.
		MaxResetAttempts: 2,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxBytes(4*maxMessage), jetstream.PullHeartbeat(5*time.Second))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if err := r.take(meta.Sequence.Stream, m.Subject(), m.Data()); err != nil {
			return err
		}
	}
}

// Head returns the last revision of the log, on whichever node. The caller knows
// of the wanted revision from somewhere. Where other nodes write too, an answer
// below it is retried for up to a second, because a deposed leader may be
// behind.
func (l *Log) Head(ctx context.Context, wanted uint64) (uint64, error) {
	conn, err := l.connected()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for begun := time.Now(); ; {
		s, err := askLeader(ctx, conn.batches)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case s.head >= wanted || l.standalone() || time.Since(begun) > answerTimeout || !pause(ctx, tryPause):
			return s.head, nil
		}
	}
}

// inspect returns the last revision of the log, and checks the ends of both
// streams before the first message is read.
func (r *reader) inspect(ctx context.Context, conn *connection) (head uint64, err error) {
	s, err := askLeader(ctx, conn.batches)
	if err != nil {
		return 0, err
	}
	r.agree(s.agreement)
	head = s.head
	if head == 0 {
		return 0, fmt.Errorf("%w: it is empty, and a log never is; restore the store directory from a backup", ErrDamaged)
	}
	if err := conn.stored(ctx, head); errors.Is(err, errMissing) {
		return 0, fmt.Errorf("%w: its last revision, %d, cannot be read; restore the store directory from a backup", ErrDamaged, head)
	} else if err != nil {
		return 0, err
	}
	return head, r.inspectAudit(ctx, conn, head)
}

// take checks and counts one message, and delivers its body. A message that was
// delivered before is ignored.
func (r *reader) take(revision uint64, subject string, data []byte) error {
	if revision < r.next {
		return nil
	}
	hour, err := subjectHour(subject)
	if err != nil {
		return err
	}
	f, err := decodeFrame(r.id, revision, data)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if revision > r.accounting.revision {
		agreed := r.accounting.count(revision, hour, &f)
		if !agreed && (r.accounting.verified || revision >= r.head) {
			found := r.accounting.remaining // includes this message
			if hour > r.accounting.givenUp {
				found--
			}
			err = mismatch(revision, &f, found)
		}
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.next = revision + 1
	if len(f.body) == 0 {
		f.body = nil
	}
	if err := r.deliver(revision, f.body); err != nil {
		return &stopError{err}
	}
	if r.next > r.head {
		return r.finish()
	}
	return nil
}

// finish marks the log as verified, and calls caughtUp. It does so once, when all
// that was there at the beginning has been delivered.
func (r *reader) finish() error {
	r.mu.Lock()
	verified, lastNote := r.accounting.verified, r.accounting.lastNote
	r.mu.Unlock()
	if verified {
		return nil
	}
	if err := r.auditReaches(lastNote); err != nil {
		return err
	}
	r.mu.Lock()
	r.accounting.verified = true
	r.mu.Unlock()
	r.caughtUp()
	return nil
}
