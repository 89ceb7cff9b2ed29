package ledger

import (
	"slices"
	"sort"

	"rescind/revocation"
)

// A digest with many rows has a crowd: an index that keeps every operation on
// it cheap. At [maxStanding] revocations in force a digest takes only one that
// reaches further than all of them, which is a cover: replicas hold the cover
// and not the rows that it covers. If the cover is restored, they come back.
//
// The log says which revocations are covers, so every node hides the same rows.
const (
	crowdRows   = 16   // in a chain; beyond, the digest has a crowd
	maxStanding = 1000 // revocations in force of one digest
)

// crowd are the rows of one digest.
type crowd struct {
	rows     int                               // not expired
	standing int                               // in force
	shown    map[revocation.ID]struct{}        // in force, and held by replicas
	byCut    map[cut][]revocation.ID           // in force, in the order of the log
	covered  map[revocation.ID][]revocation.ID // by cover; rows may have ended since
	coverOf  map[revocation.ID]revocation.ID   // of covers that are covered themselves

	furthest reach // of the rows in force, unless stale
	stale    bool
}

// cut is the tokens that a row of a digest denies.
type cut struct {
	before revocation.Micros
	block  bool
	event  bool // an event may undo it, so it stands in for no other revocation
}

func (w *row) cut() cut { return cut{w.before, w.flags&isBlock != 0, w.flags&isEvent != 0} }

// reach says up to which iat tokens are denied, and until when.
type reach struct {
	before  revocation.Micros // 0: tokens of any iat
	expires revocation.Micros
}

// covers reports whether a denies every token that b denies, for at least as
// long.
func (a reach) covers(b reach) bool {
	return a.expires >= b.expires && (a.before == 0 || b.before != 0 && a.before >= b.before)
}

// and returns the least reach that covers both.
func (a reach) and(b reach) reach {
	if a.before == 0 || b.before == 0 {
		return reach{0, max(a.expires, b.expires)}
	}
	return reach{max(a.before, b.before), max(a.expires, b.expires)}
}

// noReach is covered by every reach.
var noReach = reach{before: -1 << 63, expires: -1 << 63}

// join enters a new row into the crowd of its digest, if there is one or the
// row makes one. It returns the rows that the row hides.
func (r *rows) join(w *row) (hidden []revocation.ID) {
	c := r.crowds[w.digest]
	if c == nil {
		n := 0
		for range r.chain(w.digest) {
			if n++; n > r.crowdRows {
				break
			}
		}
		if n <= r.crowdRows && w.flags&isCover == 0 {
			return nil
		}
		return r.gather(w.digest)
	}
	return r.enter(c, w)
}

// gather makes the crowd of a digest from its chain.
func (r *rows) gather(d revocation.Digest) (hidden []revocation.ID) {
	c := &crowd{shown: map[revocation.ID]struct{}{}, byCut: map[cut][]revocation.ID{}, furthest: noReach}
	var all []*row
	for w := range r.chain(d) {
		if w.digest == d {
			all = append(all, w)
		}
	}
	for _, w := range slices.Backward(all) {
		hidden = append(hidden, r.enter(c, w)...)
	}
	r.crowds[d] = c
	return hidden
}

func (r *rows) enter(c *crowd, w *row) (hidden []revocation.ID) {
	c.rows++
	if w.state != standing {
		return nil
	}
	id := w.id()
	c.standing++
	c.byCut[w.cut()] = append(c.byCut[w.cut()], id)
	if w.flags&isCover != 0 {
		hidden = r.cover(c, w)
	}
	c.shown[id] = struct{}{}
	c.furthest = c.furthest.and(w.reach())
	return hidden
}

// cover hides the rows that w covers.
func (r *rows) cover(c *crowd, w *row) (hidden []revocation.ID) {
	by := w.reach()
	for id := range c.shown {
		if _, o := r.find(id); by.covers(o.reach()) {
			o.flags |= isHidden
			r.hidden++
			r.census.Add(o.expires, -1)
			hidden = append(hidden, id)
			if o.flags&isCover != 0 {
				if c.coverOf == nil {
					c.coverOf = map[revocation.ID]revocation.ID{}
				}
				c.coverOf[id] = w.id()
			}
		}
	}
	slices.SortFunc(hidden, compareIDs)
	if n := len(hidden); n > crowdRows && n == len(c.shown) { // a map keeps its size, and each cover walks it
		c.shown = map[revocation.ID]struct{}{}
	} else {
		for _, id := range hidden {
			delete(c.shown, id)
		}
	}
	if c.covered == nil {
		c.covered = map[revocation.ID][]revocation.ID{}
	}
	c.covered[w.id()] = hidden
	return hidden
}

// uncover returns the rows that replicas hold again, now that the cover w is
// restored. If another row covers w, it covers them too.
func (r *rows) uncover(w *row) (shown []revocation.ID) {
	c := r.crowds[w.digest]
	if c == nil || w.flags&isCover == 0 {
		return nil
	}
	id := w.id()
	rows := c.covered[id]
	delete(c.covered, id)
	above, ok := c.coverOf[id]
	delete(c.coverOf, id)
	for _, under := range rows {
		_, o := r.find(under)
		if o == nil || o.state != standing {
			continue
		}
		if ok {
			c.covered[above] = append(c.covered[above], under)
			if o.flags&isCover != 0 {
				c.coverOf[under] = above
			}
			continue
		}
		o.flags &^= isHidden
		r.hidden--
		r.census.Add(o.expires, 1)
		delete(c.coverOf, under)
		c.shown[under] = struct{}{}
		shown = append(shown, under)
	}
	slices.SortFunc(shown, compareIDs)
	return shown
}

// covered returns how many rows come back at most if w is restored.
func (r *rows) covered(w *row) int {
	if c := r.crowds[w.digest]; c != nil {
		return len(c.covered[w.id()])
	}
	return 0
}

// end takes a row out of those in force.
func (c *crowd) end(w *row) {
	id := w.id()
	c.standing--
	c.stale = true
	delete(c.shown, id)
	list := c.byCut[w.cut()]
	i := sort.Search(len(list), func(i int) bool { return !less(list[i], id) })
	switch {
	case len(list) == 1:
		delete(c.byCut, w.cut())
	case i == 0: // the oldest mostly ends first
		c.byCut[w.cut()] = list[1:]
	default:
		c.byCut[w.cut()] = slices.Delete(list, i, i+1)
	}
}

// leave takes an expired row out of its crowd. The last row ends the crowd.
func (r *rows) leave(w *row) {
	c := r.crowds[w.digest]
	if c == nil {
		return
	}
	delete(c.covered, w.id())
	delete(c.coverOf, w.id())
	if c.rows--; c.rows == 0 {
		delete(r.crowds, w.digest)
	}
}

// same returns the newest row in force with a cut, if it lasts until least. An
// older row with the same cut does not last longer: it would have been found
// when the newer row was asked for.
func (c *crowd) same(r *rows, k cut, least, now revocation.Micros) *row {
	list := c.byCut[k]
	if len(list) == 0 {
		return nil
	}
	_, w := r.find(list[len(list)-1])
	if w.expires > now && w.expires >= least {
		return w
	}
	return nil
}

// inForce returns how many rows of a digest are in force, and how far they reach
// together.
func (r *rows) inForce(d revocation.Digest) (n int, furthest reach) {
	if c := r.crowds[d]; c != nil {
		return c.standing, c.reach(r)
	}
	furthest = noReach
	for w := range r.chain(d) { // a short one, because it has no crowd
		if w.digest == d && w.state == standing {
			n, furthest = n+1, furthest.and(w.reach())
		}
	}
	return n, furthest
}

// reach returns the reach of all rows in force.
func (c *crowd) reach(r *rows) reach {
	if c.stale {
		c.furthest, c.stale = noReach, false
		for id := range c.shown { // they cover the others
			_, w := r.find(id)
			c.furthest = c.furthest.and(w.reach())
		}
	}
	return c.furthest
}
