package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Read delivers every batch after the given revision, in order, and goes on
// with those that are appended, here or on other nodes, until ctx ends, the
// log is closed or deliver fails. A batch may be delivered that Append has
// returned already. A revision that only kept the log's books is delivered
// with a nil body. caughtUp is called once, when all is delivered that was
// there when Read began and the log was found whole; before that Append does
// nothing. The body is the callee's to keep.
//
// There is one Read for one Log.
func (l *Log) Read(ctx context.Context, after uint64, deliver func(revision uint64, body []byte) error, caughtUp func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.stop, cancel)()
	r := reader{Log: l, next: after + 1, deliver: deliver, caughtUp: caughtUp}
	for {
		k, err := l.await(ctx)
		if err != nil {
			return err
		}
		err = r.follow(ctx, k)
		var stop *stopError
		switch {
		case errors.As(err, &stop):
			return stop.error
		case errors.Is(err, ErrDamaged):
			l.detach(k, err)
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

// stopError is what deliver returned.
type stopError struct{ error }

type reader struct {
	*Log
	next     uint64
	head     uint64 // to be reached before the log counts as whole
	deliver  func(uint64, []byte) error
	caughtUp func()
}

// follow reads over one link for as long as that works.
func (r *reader) follow(ctx context.Context, k *link) error {
	if r.head == 0 {
		head, err := r.inspect(ctx, k)
		if err != nil {
			return err
		}
		if head < r.next {
			return fmt.Errorf("%w: it ends at revision %d, and revision %d was read before", ErrDamaged, head, r.next-1)
		}
		r.head = head
	}
	if r.next > r.head { // only the end was not told yet
		if err := r.end(); err != nil {
			return err
		}
	}
	if !r.alone() {
		return r.poll(ctx, k)
	}
	consumer, err := k.batches.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		InactiveThreshold: 30 * time.Second,
		// Else it tries for ever, whatever ctx says: Read begins anew instead.
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

// Head is the last revision of the log, on whichever node. Somebody knows of
// the wanted one: where other nodes write too, a no is asked for again for a
// moment, since a leader that was deposed may not know it yet.
func (l *Log) Head(ctx context.Context, wanted uint64) (uint64, error) {
	k, err := l.current()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for begun := time.Now(); ; {
		s, err := led(ctx, k.batches)
		switch {
		case err != nil:
			return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case s.head >= wanted || l.alone() || time.Since(begun) > unanswered || !pause(ctx, tryPause):
			return s.head, nil
		}
	}
}

// inspect looks at the ends of both streams before the first message is read.
func (r *reader) inspect(ctx context.Context, k *link) (head uint64, err error) {
	s, err := led(ctx, k.batches)
	if err != nil {
		return 0, err
	}
	r.agree(s)
	head = s.head
	if head == 0 {
		return 0, fmt.Errorf("%w: it is empty, and a log never is; restore the store directory from a backup", ErrDamaged)
	}
	if err := k.stored(ctx, head); errors.Is(err, errMissing) {
		return 0, fmt.Errorf("%w: its last revision, %d, cannot be read; restore the store directory from a backup", ErrDamaged, head)
	} else if err != nil {
		return 0, err
	}
	return head, r.inspectAudit(ctx, k, head)
}

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
	if revision > r.tally.revision {
		agreed := r.tally.take(revision, hour, &f)
		if !agreed && (r.tally.whole || revision >= r.head) {
			// What was counted includes this message by now.
			if hour > r.tally.givenUp {
				r.tally.kept--
			}
			err = r.tally.disagrees(revision, &f)
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
		return r.end()
	}
	return nil
}

// end calls the log whole, the first time that all was delivered that was there
// at the beginning.
func (r *reader) end() error {
	r.mu.Lock()
	whole, noted := r.tally.whole, r.tally.noted
	r.mu.Unlock()
	if whole {
		return nil
	}
	if err := r.auditReaches(noted); err != nil {
		return err
	}
	r.mu.Lock()
	r.tally.whole = true
	r.mu.Unlock()
	r.caughtUp()
	return nil
}
