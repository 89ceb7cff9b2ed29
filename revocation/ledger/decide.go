package ledger

import (
	"errors"
	"fmt"
	"maps"

	"rescind/revocation"
)

// maxMoved bounds the older rows that one batch hides or shows, so that a
// replica applies every batch quickly.
const maxMoved = 1 << 14

// batch is the outcome of some attempts at one revision of the state.
type batch struct {
	after    uint64
	ops      []operation
	outcomes []outcome // of the attempts that the batch has; the others wait
	lasts    revocation.Micros

	index    uint32                   // of the next revocation
	added    additions                // revocations of this batch
	restored map[revocation.ID]uint64 // restored in this batch
	moved    int                      // older rows that it hides or shows
}

// additions are revocations that are not in the state yet.
type additions struct {
	digests map[revocation.Digest]addition
	sets    map[revocation.Shape]string // bounded shapes that are new, with their credential
}

// addition is the revocations that one digest gets.
type addition struct {
	newest fresh
	others map[cut]fresh // with another cut than the newest; mostly nil
	count  int
	reach  reach // of all of them
	covers bool  // one of them covers all older revocations of the digest
}

// fresh is a revocation that is not in the state yet.
type fresh struct {
	id      revocation.ID
	cut     cut
	expires revocation.Micros
}

// same returns the last addition with this cut.
func (a *addition) same(k cut) (fresh, bool) {
	if a.count > 0 && a.newest.cut == k {
		return a.newest, true
	}
	f, ok := a.others[k]
	return f, ok
}

func (a *addition) add(f fresh, reach reach, covers bool) {
	if a.count == 0 {
		a.reach = noReach
	} else if a.newest.cut != f.cut {
		if a.others == nil {
			a.others = map[cut]fresh{}
		}
		a.others[a.newest.cut] = a.newest
	}
	a.newest = f
	a.count++
	a.covers = a.covers || covers
	a.reach = a.reach.and(reach)
}

// take adds o, whose digests replace those that are there.
func (a *additions) take(o additions) {
	if len(a.digests) == 0 {
		a.digests = o.digests
	} else {
		maps.Copy(a.digests, o.digests)
	}
	if len(a.sets) == 0 {
		a.sets = o.sets
	} else {
		maps.Copy(a.sets, o.sets)
	}
}

// decide decides attempts against the state, as many as one batch may have and
// at least one. Only the committer calls it.
func (l *Ledger) decide(attempts []*attempt) *batch {
	b := &batch{restored: map[revocation.ID]uint64{}}
	l.mu.RLock()
	defer l.mu.RUnlock()
	b.after = l.revision
	now := l.clock()
	for _, a := range attempts {
		if b.moved > maxMoved {
			break
		}
		if a.restore != nil {
			b.outcomes = append(b.outcomes, l.decideRestore(b, a.restore, now))
		} else {
			b.outcomes = append(b.outcomes, l.decideRevokes(b, a, now))
		}
	}
	return b
}

// decideRevokes adds all candidates of an attempt to the batch, or none.
func (l *Ledger) decideRevokes(b *batch, a *attempt, now revocation.Micros) outcome {
	if !l.rows.room(len(a.revokes)) {
		return outcome{err: errors.New("the control endpoint holds as many revocations as it can")}
	}
	d := &decision{ledger: l, batch: b, attempt: a, now: now, index: b.index, moved: b.moved}
	d.added.digests = make(map[revocation.Digest]addition, len(a.revokes))
	d.ops = make([]operation, 0, len(a.revokes))
	d.out.ids = make([]revocation.ID, len(a.revokes))
	for i := range a.revokes {
		if why := d.candidate(i); why != nil {
			return outcome{err: l.refuse(&a.revokes[i], why)}
		}
	}
	if len(b.ops) == 0 {
		b.ops = d.ops
	} else {
		b.ops = append(b.ops, d.ops...)
	}
	if d.out.fresh > 0 {
		d.out.write = revocation.ID{Revision: b.after + 1, Index: b.index}
	}
	b.index, b.moved = d.index, d.moved
	b.lasts = max(b.lasts, d.lasts)
	b.added.take(d.added)
	return d.out
}

// refuse returns the refusal of an attempt for the bound that a candidate meets,
// and counts it.
func (l *Ledger) refuse(c *Candidate, met *boundMet) *Refusal {
	l.metrics.bounds.WithLabelValues(met.bound).Inc()
	return Invalidate([]Fault{{c.Line, revocation.Fault{Member: met.member, Message: met.text}}})
}

// foresee returns the refusal that the candidates would meet now for their sets of
// claim names, or nil. The committer decides. foresee spares the replicas the
// weighing of an order that cannot come into force.
func (l *Ledger) foresee(candidates []Candidate, operator bool) *Refusal {
	l.mu.RLock()
	defer l.mu.RUnlock()
	d := &decision{ledger: l, batch: &batch{}, attempt: &attempt{operator: operator}}
	for i := range candidates {
		c := &candidates[i]
		if i > 0 && c.entry.Shape == candidates[i-1].entry.Shape {
			continue
		}
		if met := d.newSet(c); met != nil {
			return l.refuse(c, met)
		}
	}
	return nil
}

// decision is one attempt that is being decided. Nothing of it is in the batch
// until all of it is decided.
type decision struct {
	ledger  *Ledger
	batch   *batch
	attempt *attempt
	now     revocation.Micros

	ops   []operation
	index uint32
	added additions
	moved int
	lasts revocation.Micros
	out   outcome
}

// boundMet says which bound a candidate meets.
type boundMet struct{ bound, member, text string }

func (d *decision) candidate(i int) *boundMet {
	c := &d.attempt.revokes[i]
	k := cut{c.entry.Before, c.Block, endsByEvent(c.CreatedBy, c.entry.Before)}
	added := d.addition(c.entry.Digest)
	if id, ok := d.existing(c, k, &added); ok {
		d.out.ids[i], d.out.revision = id, max(d.out.revision, id.Revision)
		return nil
	}
	if met := d.newSet(c); met != nil {
		return met
	}
	cover, met := d.newInCrowd(c, &added)
	if met != nil {
		return met
	}
	id := revocation.ID{Revision: d.batch.after + 1, Index: d.index}
	d.index++
	entry := c.entry
	entry.ID = id
	d.ops = append(d.ops, operation{entry: entry, write: d.batch.index, block: c.Block, cover: cover, by: c.CreatedBy, packed: c.packed})
	added.add(fresh{id, k, c.ExpiresAt}, reach{c.entry.Before, c.ExpiresAt}, cover)
	d.added.digests[c.entry.Digest] = added
	d.lasts = max(d.lasts, c.ExpiresAt)
	d.out.ids[i], d.out.revision = id, id.Revision
	d.out.fresh++
	return nil
}

// addition returns the revocations that the attempt, or the batch before it,
// adds to a digest.
func (d *decision) addition(of revocation.Digest) addition {
	if a, ok := d.added.digests[of]; ok {
		return a
	}
	a, ok := d.batch.added.digests[of]
	if ok {
		a.others = maps.Clone(a.others) // the attempt may be refused
	}
	return a
}

// existing returns the revocation in force, or in this batch, that stands in
// for a candidate. The revocation that an event has made stands in for a
// repetition of the event, also once it is restored. Where a later event may undo
// the candidate, nothing else stands in for it.
func (d *decision) existing(c *Candidate, k cut, added *addition) (revocation.ID, bool) {
	if c.once {
		if w := d.ledger.rows.repeated(c, d.now); w != nil {
			return w.id(), true
		}
	}
	if k.event {
		return revocation.ID{}, false
	}
	if f, ok := added.same(k); ok && f.expires >= c.least {
		return f.id, true
	}
	w := d.ledger.rows.same(&c.entry, k, c.least, d.now)
	if w == nil || d.batch.restored[w.id()] != 0 {
		return revocation.ID{}, false
	}
	return w.id(), true
}

// Bounds of sets of claim names, beside Options.ShapesPerIssuer. A credential
// keeps a few sets that no other credential can take from it. Half are kept for
// each operator.
const (
	othersKeep    = 16 // 1/16 for each credential
	operatorsKeep = 2
	mostOfOne     = 2 // a credential that is no operator takes half at most
)

// newSet reports the bound that a candidate meets because its set of claim
// names is new.
func (d *decision) newSet(c *Candidate) *boundMet {
	shape := c.entry.Shape
	if !bounded(shape) || d.ledger.rows.shapes.inForce(shape) {
		return nil
	}
	by, limit := c.CreatedBy, d.ledger.shapesPerIssuer
	total, own := d.ledger.rows.shapes.sets(shape.Issuer, by)
	for _, added := range []*additions{&d.batch.added, &d.added} {
		for s, owner := range added.sets {
			if s == shape {
				return nil
			}
			if s.Issuer == shape.Issuer {
				total++
				if owner == by {
					own++
				}
			}
		}
	}
	kept, most := max(1, limit/othersKeep), max(1, limit/mostOfOne)
	if d.attempt.operator {
		kept, most = max(1, limit/operatorsKeep), total+1
	}
	if own >= most || total >= limit && own >= kept {
		return &boundMet{"shapes", "claims", fmt.Sprintf("is a set of claim names that no revocation in force for this issuer has. "+
			"An issuer has at most %d such sets (limits.shapes_per_issuer), a credential that is not an operator at most %d: this issuer has %d, of which this credential made %d. "+
			"Use claims that are in use, or restore revocations of a set that is not needed", limit, max(1, limit/mostOfOne), total, own)}
	}
	if d.added.sets == nil {
		d.added.sets = map[revocation.Shape]string{}
	}
	d.added.sets[shape] = by
	return nil
}

// newInCrowd reports the bound that a candidate meets because its digest has
// as many revocations in force as it may, and whether the candidate is a cover.
func (d *decision) newInCrowd(c *Candidate, added *addition) (cover bool, _ *boundMet) {
	rows := d.ledger.rows
	crowd := rows.crowds[c.entry.Digest]
	if crowd == nil && added.count+rows.crowdRows < d.ledger.maxStanding {
		return false, nil
	}
	count, furthest := rows.inForce(c.entry.Digest)
	if added.count > 0 {
		count, furthest = count+added.count, furthest.and(added.reach)
	}
	if count < d.ledger.maxStanding {
		return false, nil
	}
	if mine := (reach{c.entry.Before, c.ExpiresAt}); !mine.covers(furthest) {
		return false, &boundMet{"entries", "claims", fmt.Sprintf(
			"has %d revocations in force, and at most %d are possible for the same claims. Only one that reaches further than all of them is taken: with a later or no issued_before, and a later expires_at",
			count, d.ledger.maxStanding)}
	}
	hides := 0 // of the older rows; replicas never hold the rows that the batch itself covers
	if crowd != nil && !added.covers {
		hides = len(crowd.shown)
	}
	if d.moved+hides <= maxMoved {
		cover = true
		d.moved += hides
	}
	return cover, nil
}

// maxRestored bounds the rows that one restoration takes out of force and shows
// again. It is above the lines of an import, and below the entries that a replica
// takes in one revision.
const maxRestored = 1 << 18

// decideRestore adds a restoration to the batch, unless all of its revocations
// are restored already.
func (l *Ledger) decideRestore(b *batch, r *restoration, now revocation.Micros) outcome {
	out := outcome{err: ErrUnknown}
	var ends []revocation.ID
	moved, lasts := 0, revocation.Micros(0)
	for w := range l.rows.restoredBy(r) {
		if w.expires <= now {
			continue
		}
		out.err = nil
		switch id := w.id(); {
		case w.state == restored:
			out.revision = max(out.revision, l.rows.restorations[id].revision)
		case b.restored[id] != 0:
			out.revision = b.restored[id]
		default:
			ends = append(ends, id)
			moved += 1 + l.rows.covered(w)
			lasts = max(lasts, w.expires)
		}
	}
	switch {
	case len(ends) == 0:
		return out
	case moved > l.maxRestored:
		l.metrics.bounds.WithLabelValues("restored").Inc()
		return outcome{err: &Refusal{Detail: fmt.Sprintf("it restores %d revocations and brings back those that they cover, %d in all; at most %d are possible at once. Restore some of them one by one", len(ends), moved, l.maxRestored)}}
	}
	b.ops = append(b.ops, operation{restore: *r})
	for _, id := range ends {
		b.restored[id] = b.after + 1
	}
	b.moved += moved
	// It must be there for as long as the revocations that it undoes, which lie
	// in a batch that lasts as long as its longest.
	b.lasts = max(b.lasts, lasts)
	return outcome{revision: b.after + 1, fresh: len(ends)}
}
