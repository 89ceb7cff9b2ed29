package ledger

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"rescind/revocation"
)

// ByIntake begins the name of the caller of an intake. No credential has such a
// name.
const ByIntake = "intake:"

// endsByEvent reports whether a later event may undo a revocation of this caller
// with this cut-off. Such a revocation stands in for no other one, because
// the caller of the other one would lose it with the event.
func endsByEvent(by string, before revocation.Micros) bool {
	return before == 0 && strings.HasPrefix(by, ByIntake)
}

// maxEarlier bounds the rows of one target that a search for earlier revocations
// looks at.
const maxEarlier = 4096

// Earlier returns the revocations of the target of the request that the caller
// has made, newest first, with those that are restored. It looks at the newest
// [maxEarlier] revocations of the target. It knows of the revocations that other
// nodes have made until now, and fails if no majority of nodes can tell.
func (a *Authority) Earlier(ctx context.Context, c *Caller, r *revocation.Request) ([]Item, error) {
	if err := a.ledger.Ready(); err != nil {
		return nil, err
	}
	wanted, _, faults := a.accept(c, &Line{Request: r}, a.ledger.now())
	if faults != nil {
		return nil, Invalidate([]Fault{{Fault: faults[0]}})
	}
	if !c.Covers(wanted.Issuer) {
		return nil, nil
	}
	if err := a.ledger.catchUpWithOthers(ctx); err != nil {
		return nil, err
	}
	a.ledger.mu.RLock()
	defer a.ledger.mu.RUnlock()
	var items []Item
	in := newInterner()
	for ch, w := range a.ledger.rows.earlier(wanted.entry.Digest, a.ledger.clock()) {
		if item := a.ledger.item(ch, w, in); item.CreatedBy == c.Name {
			items = append(items, item)
		}
	}
	return items, nil
}

// catchUpWithOthers waits for the revisions that other nodes have appended until
// now. It fails if no majority of nodes can tell.
func (l *Ledger) catchUpWithOthers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	head, err := l.log.Head(ctx, l.Revision())
	if err == nil && head > 0 {
		err = l.Wait(ctx, head-1)
	}
	if err != nil {
		return fmt.Errorf("%w: another node may be ahead of this one, and it cannot be reached: %w", ErrNotReady, err)
	}
	return nil
}

// earlier yields the newest rows of a digest that have not expired, newest first,
// with those that are restored.
func (r *rows) earlier(d revocation.Digest, now revocation.Micros) func(func(*chunk, *row) bool) {
	return func(yield func(*chunk, *row) bool) {
		looked := 0
		for w := range r.chain(d) {
			if w.digest != d || w.expires <= now {
				continue
			}
			if looked++; looked > maxEarlier {
				return
			}
			if c, _ := r.find(w.id()); !yield(c, w) {
				return
			}
		}
	}
}

// repeated returns the newest row that the same credential made of the target of
// a candidate with the same reason, in force or restored.
func (r *rows) repeated(c *Candidate, now revocation.Micros) *row {
	for ch, w := range r.earlier(c.entry.Digest, now) {
		packed := ch.packed(w)
		if !bytes.Contains(packed, []byte(c.Reason)) || !bytes.Contains(packed, []byte(c.CreatedBy)) {
			continue
		}
		if o := unpack(packed, newInterner()); o.Reason == c.Reason && o.CreatedBy == c.CreatedBy {
			return w
		}
	}
	return nil
}
