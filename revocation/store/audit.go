package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The audit is a second stream: each attempt to change something, with its
// outcome. Its notes do not expire with the batches. It is bounded in notes, in
// bytes and in age, and at a bound the oldest notes go first. A note about
// accepted batches names the last revision that it covers, and lies under a
// subject of its writer, so that the writer finds out after a crash which of its
// batches have no note yet.

const auditOther = auditSubjects + "-"

func (l *Log) auditSubject() string { return auditSubjects + hex.EncodeToString([]byte(l.writer)) }

// Note adds a note to the audit and returns its number once the note is durable.
// covers is the last revision of this writer that the note is about, or 0.
func (l *Log) Note(ctx context.Context, covers uint64, body []byte) (uint64, error) {
	conn, err := l.connected()
	if err != nil {
		return 0, err
	}
	m := nats.NewMsg(auditOther)
	if covers > 0 {
		m.Subject = l.auditSubject()
	} else if err := l.Err(); err != nil { // the last room is for notes of accepted batches
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	f := frame{before: covers, body: body}
	m.Data = f.encode(l.id, 0)
	if len(body) > l.MaxBody() {
		return 0, ErrTooLarge
	}
	ack, err := l.send(ctx, conn, m, jetstream.WithMsgID(rand.Text()))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.accounting.lastNote = max(l.accounting.lastNote, ack.Sequence)
	l.mu.Unlock()
	return ack.Sequence, nil
}

// Notes calls yield with the notes before the given number, newest first, until
// yield returns false. 0 begins with the newest. The time of a note is by the
// clock of the store. A note that goes meanwhile, because the audit is full, ends
// the list.
func (l *Log) Notes(ctx context.Context, before uint64, yield func(number uint64, at time.Time, body []byte) bool) error {
	conn, err := l.awaitConnection(ctx)
	if err != nil {
		return err
	}
	info, err := conn.audit.Info(ctx)
	if err != nil {
		return err
	}
	n := info.State.LastSeq + 1
	if before > 0 {
		n = min(n, before)
	}
	for n--; n >= max(1, info.State.FirstSeq); n-- {
		f, at, err := l.note(ctx, conn, n)
		if errors.Is(err, errMissing) {
			if info, err = conn.audit.Info(ctx); err == nil && n < info.State.FirstSeq {
				return nil // it was the oldest, and a newer note took its room
			}
			if err == nil {
				err = fmt.Errorf("%w: note %d of its audit is gone", ErrDamaged, n)
			}
		}
		if err != nil {
			return err
		}
		if !yield(n, at, f.body) {
			return nil
		}
	}
	return nil
}

// note returns a note of the audit, and when the store took it.
func (l *Log) note(ctx context.Context, conn *connection, n uint64) (f frame, at time.Time, err error) {
	m, err := conn.audit.GetMsg(ctx, n)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return frame{}, at, errMissing
	}
	if err != nil {
		return frame{}, at, err
	}
	if f, err = decodeFrame(l.id, 0, m.Data); err != nil {
		return frame{}, at, fmt.Errorf("note %d of the audit: %w", n, err)
	}
	return f, m.Time, nil
}

// Noted returns the last revision of this writer that a note covers. If the
// audit no longer reaches back to such a note, all revisions count as covered.
// Noted waits for a majority as long as ctx allows.
func (l *Log) Noted(ctx context.Context) (uint64, error) {
	for {
		conn, err := l.awaitConnection(ctx)
		if err != nil {
			return 0, err
		}
		asking, cancel := context.WithTimeout(ctx, answerTimeout)
		covered, err := l.notedBy(asking, conn)
		cancel()
		if err == nil || errors.Is(err, ErrDamaged) {
			return covered, err
		}
		l.log.Debug("asking the audit anew", "error", err)
		if !pause(ctx, tryPause) {
			return 0, ctx.Err()
		}
	}
}

func (l *Log) notedBy(ctx context.Context, conn *connection) (uint64, error) {
	covered, err := l.covered(ctx, conn, l.auditSubject())
	if err != nil || covered > 0 {
		return covered, err
	}
	info, err := conn.audit.Info(ctx)
	if err != nil {
		return 0, err
	}
	if info.State.FirstSeq > 1 {
		return math.MaxUint64, nil
	}
	return 0, nil
}

func (l *Log) covered(ctx context.Context, conn *connection, subject string) (uint64, error) {
	m, err := conn.audit.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f, err := decodeFrame(l.id, 0, m.Data)
	return f.before, err
}

// boundAudit gives an audit of an earlier edition, which has fewer bounds, the
// present ones. A NATS elsewhere may not allow that; then the audit stays as it
// is, because revoking matters more.
func (l *Log) boundAudit(ctx context.Context, conn *connection) {
	present := conn.audit.CachedInfo().Config
	wanted := present
	wanted.MaxMsgs, wanted.MaxBytes, wanted.MaxAge = auditNotes, l.opt.auditBytes, auditAge
	if present.MaxMsgs == wanted.MaxMsgs && present.MaxBytes == wanted.MaxBytes && present.MaxAge == wanted.MaxAge {
		return
	}
	if _, err := conn.js.UpdateStream(ctx, wanted); err != nil {
		l.log.Warn("the bounds of the audit cannot be set, it keeps its own", "error", err)
	}
}

// inspectAudit refuses a log that ends before the last revision that its audit
// acknowledges, and an audit that has holes.
func (l *Log) inspectAudit(ctx context.Context, conn *connection, head uint64) error {
	info, err := conn.audit.Info(ctx, jetstream.WithSubjectFilter(auditSubjects+"*"))
	if err != nil {
		return err
	}
	if s := info.State; s.NumDeleted > 0 || s.Msgs > 0 && s.LastSeq-s.FirstSeq+1 != s.Msgs {
		return fmt.Errorf("%w: %d notes of its audit are gone; restore the store directory from a backup", ErrDamaged, s.LastSeq-s.FirstSeq+1-s.Msgs)
	}
	for subject := range info.State.Subjects {
		if subject == auditOther {
			continue
		}
		covered, err := l.covered(ctx, conn, subject)
		if err != nil {
			return err
		}
		if covered > head {
			return fmt.Errorf("%w: it ends at revision %d, but its audit has revision %d acknowledged; restore the store directory from a backup", ErrDamaged, head, covered)
		}
	}
	return nil
}

// auditReaches refuses an audit that ends before a note that a batch names.
func (l *Log) auditReaches(noted uint64) error {
	ctx, cancel := context.WithTimeout(l.stop, appendTimeout)
	defer cancel()
	conn, err := l.connected()
	if err != nil {
		return err
	}
	s, err := askLeader(ctx, conn.audit)
	if err != nil {
		return err
	}
	if s.head < noted {
		return fmt.Errorf("%w: its audit ends at note %d, but note %d was written; restore the store directory from a backup", ErrDamaged, s.head, noted)
	}
	return nil
}
