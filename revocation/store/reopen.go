package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// connected returns the live connection, or the reason why there is none.
func (l *Log) connected() (*connection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, l.failure)
	}
	return l.conn, nil
}

// awaitConnection waits for a live connection. It fails when ctx or the log
// ends, and at once if the log is damaged.
func (l *Log) awaitConnection(ctx context.Context) (*connection, error) {
	for {
		l.mu.Lock()
		conn, up, failure := l.conn, l.up, l.failure
		l.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		if errors.Is(failure, ErrDamaged) {
			return nil, failure
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.stop.Done():
			return nil, ErrUnavailable
		}
	}
}

// attach makes conn the live connection.
func (l *Log) attach(conn *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	if err := l.subscribe(conn); err != nil {
		l.log.Warn("broadcasts of other nodes are not received", "error", err)
	}
	close(l.up)
}

// detach puts the log down for err. Damage is for good. An embedded server is
// opened again. A connection to a NATS elsewhere recovers by itself.
func (l *Log) detach(conn *connection, err error) {
	damaged := errors.Is(err, ErrDamaged)
	if !damaged && conn.server == nil {
		return
	}
	l.mu.Lock()
	if l.conn != conn || l.stop.Err() != nil {
		l.mu.Unlock()
		return
	}
	l.conn, l.failure, l.up = nil, err, make(chan struct{})
	l.outOfRoom = l.dir != nil
	l.done.Go(func() {
		conn.close()
		if !damaged {
			l.dir.releaseBallast()
			l.reopen()
		}
	})
	l.mu.Unlock()
	l.log.Error("the durable log takes no writes", "error", err)
}

// reopen opens the log until that succeeds, or the log is damaged or closed.
func (l *Log) reopen() {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-l.stop.Done():
			return
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(l.stop, time.Minute)
		conn, err := l.connect(ctx)
		if err == nil {
			if err = l.checkAcknowledged(ctx, conn); err == nil {
				cancel()
				l.attach(conn)
				return
			}
			conn.close()
		}
		cancel()
		l.mu.Lock()
		l.failure = err
		l.mu.Unlock()
		l.log.Error("the durable log cannot be opened again yet", "error", err)
		if errors.Is(err, ErrDamaged) {
			return
		}
	}
}

// checkAcknowledged refuses a log that was opened again and ends before a
// revision that was acknowledged.
func (l *Log) checkAcknowledged(ctx context.Context, conn *connection) error {
	s, err := askLeader(ctx, conn.batches)
	if err != nil {
		return err
	}
	l.mu.Lock()
	known := l.accounting.revision
	l.mu.Unlock()
	if s.head < known {
		return fmt.Errorf("%w: it ends at revision %d, but revision %d was acknowledged", ErrDamaged, s.head, known)
	}
	return nil
}
