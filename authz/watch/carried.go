package watch

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
)

// carried remembers the names of the claims that an issuer's tokens carry, so
// that an answer can say that no token carries a claim. Tokens with the same names
// have one layout.
type carried struct {
	layouts map[uint64]*layout
	short   memoryLoss
}

// layout is one set of claim names.
type layout struct {
	names *claimNames
	last  stamp
}

// claimNames are the claims of a token without their values: an object is a map,
// an array is an empty array, and everything else is nil. They are never changed.
type claimNames struct {
	claims map[string]any
	whole  bool // false: there are more names than are kept
}

// Bounds of the memory of one issuer.
const (
	maxLayouts = 128
	maxNames   = 256 // of one layout, each of at most [revocation.MaxName] bytes
)

var layoutSeed = maphash.MakeSeed()

// layoutOf returns a hash of the names of claims, which is the same in any order.
// It is never 0.
func layoutOf(issuer string, claims map[string]any) uint64 {
	return max(spread(maphash.String(layoutSeed, issuer)^hashOfNames(claims)), 1)
}

func hashOfNames(claims map[string]any) (sum uint64) {
	for name, claim := range claims {
		h := maphash.String(layoutSeed, name)
		switch v := claim.(type) {
		case map[string]any:
			h = spread(h ^ (hashOfNames(v) + 1))
		case []any:
			h = spread(h + 1)
		}
		sum += h
	}
	return sum
}

// namesOf returns the names of claims.
func namesOf(claims map[string]any) *claimNames {
	n := &claimNames{whole: true}
	left := maxNames
	n.claims = n.object(claims, &left)
	return n
}

func (n *claimNames) object(claims map[string]any, left *int) map[string]any {
	out := make(map[string]any, min(len(claims), *left))
	for name, claim := range claims {
		if len(name) > revocation.MaxName {
			continue // no revocation can name it
		}
		if *left--; *left < 0 {
			n.whole = false
			return out
		}
		switch v := claim.(type) {
		case map[string]any:
			out[name] = n.object(v, left)
		case []any:
			out[name] = []any{}
		default:
			out[name] = nil
		}
	}
	return out
}

// mayHave reports whether a token of the layout may have the claim. The elements
// of an array are not known.
func (n *claimNames) mayHave(name jwt.ClaimName) bool {
	if !n.whole {
		return true
	}
	if _, ok := name.In(n.claims); ok {
		return true
	}
	for parent, ok := name.Parent(); ok; parent, ok = parent.Parent() {
		if claim, ok := parent.In(n.claims); ok {
			_, array := claim.([]any)
			return array
		}
	}
	return false
}

// note takes in a token of an event. It reports whether the names of the layout
// are needed.
func (c *carried) note(e *event, now stamp) (unknown bool) {
	l := c.layouts[e.layout]
	switch {
	case l != nil:
		if now.after(l.last) {
			l.last = now
		}
		return false
	case e.names == nil:
		c.short = memoryLoss{now, true}
		return true
	case len(c.layouts) >= maxLayouts:
		c.evict(now)
	}
	if c.layouts == nil {
		c.layouts = map[uint64]*layout{}
	}
	c.layouts[e.layout] = &layout{e.names, now}
	return false
}

// evict forgets the layout that was seen last the longest time ago.
func (c *carried) evict(now stamp) {
	var oldest uint64
	for id, l := range c.layouts {
		if oldest == 0 || c.layouts[oldest].last.after(l.last) {
			oldest = id
		}
	}
	delete(c.layouts, oldest)
	c.short = memoryLoss{now, true}
}

// lacks reports whether it is certain that no token seen within the window has the
// claim of this name.
func (c *carried) lacks(name string, now stamp, window time.Duration) bool {
	n, err := jwt.ParseClaimName(name)
	if err != nil || c.short.was && now.since(c.short.at) <= window {
		return false
	}
	for _, l := range c.layouts {
		if now.since(l.last) <= window && l.names.mayHave(n) {
			return false
		}
	}
	return true
}

// sweep forgets the layouts that were not seen within the window, so that the next event
// of each brings its names again.
func (c *carried) sweep(now stamp, window time.Duration, given *layouts) {
	for id, l := range c.layouts {
		if now.since(l.last) > window {
			delete(c.layouts, id)
			given.forget(id)
		}
	}
}

// layouts are layouts whose names the memory has been given, so that most events
// need not bring them. A layout may be missing here. One that is here and not in
// the memory is noticed with its next event.
type layouts [1 << 10]atomic.Uint64

func (l *layouts) slot(layout uint64) *atomic.Uint64 { return &l[layout%uint64(len(l))] }

// learn reports whether a layout is new, and takes it in.
func (l *layouts) learn(layout uint64) bool {
	slot := l.slot(layout)
	if slot.Load() == layout {
		return false
	}
	slot.Store(layout)
	return true
}

func (l *layouts) clear() {
	for i := range l {
		l[i].Store(0)
	}
}

func (l *layouts) forget(layout uint64) { l.slot(layout).CompareAndSwap(layout, 0) }
