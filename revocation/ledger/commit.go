package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rescind/revocation"
)

// attempt is one request for a change on its way through the committer. All of
// it is committed, or none.
type attempt struct {
	revokes  []Candidate
	restore  *restoration
	operator bool       // the caller is one
	size     int        // in the log
	entry    AuditEntry // of the audit; the committer adds the outcome
	done     chan outcome
}

// Candidate is a revocation that a caller asks for.
type Candidate struct {
	revocation.Revocation
	Line   int               // in a body of many lines, from 1; 0 for a lone request
	once   bool              // as in [Order]
	least  revocation.Micros // an existing revocation stands in for it only if it lasts until then
	entry  revocation.Entry  // without its ID
	packed []byte
}

// newCandidate prepares r, so that the committer has less to do.
func newCandidate(r revocation.Revocation, least revocation.Micros) Candidate {
	return Candidate{Revocation: r, least: least, entry: r.Entry(), packed: pack(&r)}
}

// outcome is the end of an attempt.
type outcome struct {
	revision uint64
	ids      []revocation.ID // for each candidate
	write    revocation.ID   // of the fresh candidates; zero if there are none
	fresh    int             // candidates that were not in force before, or revocations that are restored now
	err      error
}

// Bounds of a batch.
const (
	batchAttempts = 512
	batchBytes    = 4 << 20
	commitTimeout = 15 * time.Second
)

// revoke makes the candidates part of the log, all of them or none. It returns
// the ID of an equal revocation in force in place of a new one. It returns when
// the revocations and their note in the audit are durable.
func (l *Ledger) revoke(ctx context.Context, candidates []Candidate, operator bool, entry AuditEntry) outcome {
	a := &attempt{revokes: candidates, operator: operator, entry: entry, size: 256}
	for i := range candidates {
		a.size += 8 + len(candidates[i].packed)
	}
	return l.submit(ctx, a)
}

// restore undoes count revocations from id on, which are of one write. The
// outcome has the revision that did it, or the last one that did it before.
func (l *Ledger) restore(ctx context.Context, id revocation.ID, count uint32, entry AuditEntry) outcome {
	r := &restoration{ID: id, Count: count, At: entry.At, By: entry.By}
	return l.submit(ctx, &attempt{restore: r, entry: entry, size: 256 + len(entry.By)})
}

// submit gives an attempt to the committer, and waits for its outcome.
func (l *Ledger) submit(ctx context.Context, a *attempt) outcome {
	if err := l.Ready(); err != nil {
		return l.unsent(a, err)
	}
	if a.size > l.log.MaxBody() {
		return l.unsent(a, ErrTooLarge)
	}
	a.done = make(chan outcome, 1)
	select {
	case l.queue <- a:
	case <-ctx.Done():
		return l.unsent(a, ctx.Err())
	}
	if l.Ready() != nil {
		l.drain() // the committer has ended
	}
	select {
	case o := <-a.done:
		return o
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	}
}

// unsent logs an attempt that the committer does not get, and returns its outcome.
func (l *Ledger) unsent(a *attempt, err error) outcome {
	e := a.entry
	e.Outcome, e.Detail = Failed, err.Error()
	l.lines.announce(&e)
	return outcome{err: err}
}

// drain answers waiting attempts and notes after the ledger has ended.
func (l *Ledger) drain() {
	for {
		select {
		case a := <-l.queue:
			a.done <- outcome{err: ErrNotReady}
		case n := <-l.notes:
			n.answer(ErrNotReady)
		default:
			return
		}
	}
}

// commit turns attempts into batches. Attempts that arrive while a batch becomes
// durable wait for the next one, so they share one append.
func (l *Ledger) commit(ctx context.Context) error {
	var left *attempt // did not fit the batch before
	for {
		first := left
		left = nil
		if first == nil {
			select {
			case first = <-l.queue:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		attempts, size := []*attempt{first}, first.size
	gather:
		for len(attempts) < batchAttempts {
			select {
			case a := <-l.queue:
				if size += a.size; size > min(batchBytes, l.log.MaxBody()) {
					left = a
					break gather
				}
				attempts = append(attempts, a)
			default:
				break gather
			}
		}
		l.commitAll(ctx, attempts)
	}
}

// commitAll appends batches for the attempts. It decides a batch again whenever
// another node appended first.
func (l *Ledger) commitAll(ctx context.Context, attempts []*attempt) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for len(attempts) > 0 {
		after, done, err := l.commitOnce(ctx, attempts)
		attempts = attempts[done:]
		if done > 0 {
			continue
		}
		if err == nil {
			err = l.Wait(ctx, after)
		}
		if err != nil {
			for _, a := range attempts {
				l.settle(ctx, a, outcome{err: err}, 0)
			}
			return
		}
	}
}

// commitOnce decides the attempts against the state, appends the batch and
// applies it. It returns how many attempts it settled. That is none if the log has
// moved past the revision after.
func (l *Ledger) commitOnce(ctx context.Context, attempts []*attempt) (after uint64, done int, err error) {
	l.order.Lock()
	defer l.order.Unlock()
	b := l.decide(attempts)
	covers := uint64(0)
	if len(b.ops) > 0 {
		accepted := l.now()
		body := packBatch(l.log.Writer(), b.ops)
		covers, err = l.log.Append(ctx, b.after, b.lasts.Time(), body)
		if err != nil || covers == 0 {
			return b.after, 0, err
		}
		l.mu.Lock()
		l.appends++
		l.accepted.add(covers, accepted)
		l.mu.Unlock()
		l.apply(covers, markOf(body), b.ops)
	}
	for i, o := range b.outcomes {
		l.settle(ctx, attempts[i], o, covers)
	}
	return b.after, len(b.outcomes), nil
}

// settle passes an attempt with its outcome to the auditor, which answers it.
func (l *Ledger) settle(ctx context.Context, a *attempt, o outcome, covers uint64) {
	e := a.entry
	e.Revision = o.revision
	if len(o.ids) == 1 {
		e.ID = o.ids[0].String()
	}
	if o.fresh > 0 && e.Action == ActImport {
		e.Write = o.write.String()
	}
	if o.err == nil && e.Write != "" && a.restore != nil {
		e.Count = o.fresh
	}
	switch {
	case errors.Is(o.err, ErrUnknown), errors.As(o.err, new(*Refusal)):
		e.Outcome = Refused
	case o.err != nil:
		e.Outcome = Failed
	case o.fresh > 0:
		e.Outcome = Accepted
	default:
		e.Outcome = Existing
	}
	if o.err != nil {
		e.Detail = o.err.Error()
	}
	l.pass(ctx, note{entries: []AuditEntry{e}, covers: covers, answer: func(err error) {
		if err != nil && o.err == nil {
			o = outcome{err: fmt.Errorf("the audit cannot be written: %w", err)}
		}
		a.done <- o
	}})
}
