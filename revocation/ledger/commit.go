package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rescind/revocation"
)

// attempt is one request to change something, on its way through the
// committer. All of it happens or none.
type attempt struct {
	revokes []Candidate
	restore *restoration
	size    int        // in the log
	entry   AuditEntry // of the audit; the committer adds the outcome
	done    chan outcome
}

// Candidate is a revocation that is asked for.
type Candidate struct {
	revocation.Revocation
	least  revocation.Micros // until when one that is there already must last to do in its place
	entry  revocation.Entry  // without its ID
	packed []byte
}

// NewCandidate prepares r, outside of any lock. One that is in force already
// does in its place if it lasts until least.
func NewCandidate(r revocation.Revocation, least revocation.Micros) Candidate {
	return Candidate{Revocation: r, least: least, entry: r.Entry(), packed: pack(&r)}
}

// outcome is what became of an attempt.
type outcome struct {
	revision uint64
	ids      []revocation.ID // for each candidate
	fresh    int             // how many were not there before
	err      error
}

const (
	batchAttempts = 512
	batchBytes    = 4 << 20
	commitTimeout = 15 * time.Second
)

// revoke makes the candidates part of the log, all of them or none. Where the
// same is in force already its ID is returned instead. It returns when the
// revocations and the note in the audit are durable.
func (l *Ledger) revoke(ctx context.Context, candidates []Candidate, entry AuditEntry) (revision uint64, ids []revocation.ID, fresh int, err error) {
	a := &attempt{revokes: candidates, entry: entry, size: 256}
	for i := range candidates {
		a.size += 8 + len(candidates[i].packed)
	}
	o := l.submit(ctx, a)
	return o.revision, o.ids, o.fresh, o.err
}

// restore undoes a revocation, and returns the revision that did. Repeated, it
// returns that of the first time.
func (l *Ledger) restore(ctx context.Context, id revocation.ID, entry AuditEntry) (revision uint64, err error) {
	o := l.submit(ctx, &attempt{restore: &restoration{ID: id, At: entry.At, By: entry.By}, entry: entry, size: 256 + len(entry.By)})
	return o.revision, o.err
}

func (l *Ledger) submit(ctx context.Context, a *attempt) outcome {
	if err := l.Ready(); err != nil {
		return outcome{err: err}
	}
	if a.size > l.log.MaxBody() {
		return outcome{err: ErrTooLarge}
	}
	a.done = make(chan outcome, 1)
	select {
	case l.queue <- a:
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	}
	if l.Ready() != nil {
		l.drain() // nobody else does any more
	}
	select {
	case o := <-a.done:
		return o
	case <-ctx.Done():
		return outcome{err: ctx.Err()}
	}
}

// drain answers what waits when the ledger has ended.
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

// commit turns attempts into batches. While one batch becomes durable the
// attempts that arrive wait for the next, so they share one append.
func (l *Ledger) commit(ctx context.Context) error {
	var held *attempt // did not fit the batch before
	for {
		first := held
		held = nil
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
					held = a
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

// commitAll appends one batch for the attempts, again whenever another node
// was first.
func (l *Ledger) commitAll(ctx context.Context, attempts []*attempt) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for {
		after, done, err := l.commitOnce(ctx, attempts)
		if done {
			return
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

// commitOnce weighs the attempts against the state, appends what they come to
// and applies it. done is false if the log has moved on past after.
func (l *Ledger) commitOnce(ctx context.Context, attempts []*attempt) (after uint64, done bool, err error) {
	l.order.Lock()
	defer l.order.Unlock()
	b := l.weigh(attempts)
	revision := b.after
	if len(b.ops) > 0 {
		accepted := l.now()
		body := packBatch(l.log.Writer(), b.ops)
		revision, err = l.log.Append(ctx, b.after, b.lasts.Time(), body)
		if err != nil || revision == 0 {
			return b.after, false, err
		}
		l.mu.Lock()
		l.appends++
		l.accepted.add(revision, accepted)
		l.mu.Unlock()
		l.apply(revision, b.ops)
	}
	for i, a := range attempts {
		covers := uint64(0)
		if len(b.ops) > 0 {
			covers = revision
		}
		l.settle(ctx, a, b.outcomes[i], covers)
	}
	return b.after, true, nil
}

// batch is what some attempts come to at one revision of the state.
type batch struct {
	after    uint64
	ops      []operation
	outcomes []outcome
	lasts    revocation.Micros

	index    uint32                   // of the next revocation
	same     map[sameness]fresh       // revocations of this batch
	restored map[revocation.ID]uint64 // restored in this batch
}

// sameness is what two revocations have in common if one can do for the other.
type sameness struct {
	shape  revocation.Shape
	digest revocation.Digest
	before revocation.Micros
	block  bool
}

type fresh struct {
	id      revocation.ID
	expires revocation.Micros
}

func (l *Ledger) weigh(attempts []*attempt) *batch {
	b := &batch{same: map[sameness]fresh{}, restored: map[revocation.ID]uint64{}, outcomes: make([]outcome, len(attempts))}
	l.mu.RLock()
	defer l.mu.RUnlock()
	b.after = l.revision
	now := l.clock()
	for i, a := range attempts {
		if a.restore != nil {
			b.outcomes[i] = l.weighRestore(b, a.restore, now)
		} else {
			b.outcomes[i] = l.weighRevokes(b, a.revokes, now)
		}
	}
	return b
}

func (l *Ledger) weighRevokes(b *batch, candidates []Candidate, now revocation.Micros) (o outcome) {
	if !l.rows.room(len(candidates)) {
		return outcome{err: errors.New("the control endpoint holds as many revocations as it can")}
	}
	o.ids = make([]revocation.ID, len(candidates))
	b.ops = slices.Grow(b.ops, len(candidates))
	for i := range candidates {
		c, e := &candidates[i], &candidates[i].entry
		k := sameness{e.Shape, e.Digest, e.Before, c.Block}
		if f, ok := b.same[k]; ok && f.expires >= c.least {
			o.ids[i], o.revision = f.id, max(o.revision, f.id.Revision)
			continue
		}
		if w := l.rows.same(e, c.Block, c.least, now); w != nil && b.restored[w.id()] == 0 {
			o.ids[i], o.revision = w.id(), max(o.revision, w.revision)
			continue
		}
		id := revocation.ID{Revision: b.after + 1, Index: b.index}
		b.index++
		entry := *e
		entry.ID = id
		b.ops = append(b.ops, operation{entry: entry, block: c.Block, packed: c.packed})
		b.same[k] = fresh{id, c.ExpiresAt}
		b.lasts = max(b.lasts, c.ExpiresAt)
		o.ids[i], o.revision = id, id.Revision
		o.fresh++
	}
	return o
}

func (l *Ledger) weighRestore(b *batch, r *restoration, now revocation.Micros) outcome {
	_, w := l.rows.find(r.ID)
	switch {
	case w == nil || w.expires <= now:
		return outcome{err: ErrUnknown}
	case w.state == restored:
		return outcome{revision: l.rows.undone[r.ID].revision}
	case b.restored[r.ID] != 0:
		return outcome{revision: b.restored[r.ID]}
	}
	b.ops = append(b.ops, operation{restore: *r})
	b.restored[r.ID] = b.after + 1
	// It must be there for as long as what it undoes, which lies in a batch
	// that lasts as long as its longest.
	b.lasts = max(b.lasts, w.expires)
	return outcome{revision: b.after + 1, fresh: 1}
}

// settle hands the attempt to the auditor, who answers it.
func (l *Ledger) settle(ctx context.Context, a *attempt, o outcome, covers uint64) {
	e := a.entry
	e.Revision = o.revision
	if len(o.ids) == 1 {
		e.ID = o.ids[0].String()
	}
	switch {
	case errors.Is(o.err, ErrUnknown):
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
	l.hand(ctx, note{entries: []AuditEntry{e}, covers: covers, answer: func(err error) {
		if err != nil && o.err == nil {
			o = outcome{err: fmt.Errorf("the audit cannot be written: %w", err)}
		}
		a.done <- o
	}})
}
