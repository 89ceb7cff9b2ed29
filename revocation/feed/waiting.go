package feed

import (
	"math"
	"slices"
)

// Wanted is the condition that a caller waits for.
type Wanted struct {
	Revision uint64
	// Rules is the version of the matching rules that the revision needs. A
	// replica of an earlier version counts as pending.
	Rules int
	// Issuer is the issuer that the revision is about; empty: several.
	Issuer string
}

// Applied is how far a revision has got.
type Applied struct {
	Applied   int      // replicas that have the revision in force
	Total     int      // replicas
	Accepting int      // the applied replicas that accept its issuer; of several issuers, all
	Pending   []string // names of the other replicas; sorted, never nil
}

// waiter is a caller that waits for a condition.
type waiter struct {
	Wanted
	done   chan struct{}
	result Applied // set before done is closed
}

// has reports whether p has the wanted revision in force. The caller holds mu.
func (p *replicaState) has(w Wanted) bool {
	applied := p.inForce() >= w.Revision || p.ahead[w.Revision] && !p.audit.failed
	return applied && max(p.rules, 1) >= w.Rules
}

// settle computes floor, atFloor and rules, and releases waiters if floor or rules
// rose. The caller holds mu.
func (r *replicas) settle() {
	floor, atFloor, rules := uint64(math.MaxUint64), 0, math.MaxInt
	if r.unmet {
		floor = 0
	}
	for _, p := range r.all {
		switch in := p.inForce(); {
		case in < floor:
			floor, atFloor = in, 1
		case in == floor:
			atFloor++
		}
		rules = min(rules, max(p.rules, 1))
	}
	rose := floor > r.floor || rules > r.rules
	r.floor, r.atFloor, r.rules = floor, atFloor, rules
	if rose {
		r.release()
	}
}

// advance sets the revision of p. The last replica that leaves floor raises floor.
// So a revision costs one pass over the replicas, and not one for each replica. The
// caller holds mu.
func (r *replicas) advance(p *replicaState, revision uint64) {
	was := p.inForce()
	p.revision = revision
	if was > r.floor || p.inForce() <= r.floor {
		return
	}
	if r.atFloor--; r.atFloor <= 0 {
		r.settle()
	}
}

// release releases the waiters whose condition holds. The caller holds mu.
func (r *replicas) release() {
	for w := range r.waiters {
		if r.everywhere(w.Wanted) {
			w.result = r.applied(w.Wanted)
			close(w.done)
			delete(r.waiters, w)
		}
	}
}

// everywhere reports whether every replica has the wanted revision in force. The
// caller holds mu.
func (r *replicas) everywhere(w Wanted) bool {
	if w.Revision <= r.floor && w.Rules <= r.rules {
		return true
	}
	if r.unmet {
		return false
	}
	for _, p := range r.all {
		if !p.has(w) {
			return false
		}
	}
	return true
}

// unmetNodes stands in for the replicas of control nodes that have not been
// heard since this one started.
const unmetNodes = "(replicas of control nodes that have not been heard yet)"

// applied returns how far the revision has got. The caller holds mu.
func (r *replicas) applied(w Wanted) Applied {
	a := Applied{Total: len(r.all), Pending: []string{}}
	if r.unmet {
		a.Pending = append(a.Pending, unmetNodes)
	}
	for _, p := range r.all {
		if !p.has(w) {
			a.Pending = append(a.Pending, p.name)
			continue
		}
		a.Applied++
		if w.Issuer == "" || p.profile.accepts(w.Issuer) {
			a.Accepting++
		}
	}
	slices.Sort(a.Pending)
	return a
}

// wait returns a waiter for the condition. The waiter is done at once if the
// condition holds.
func (r *replicas) wait(wanted Wanted) *waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &waiter{Wanted: wanted, done: make(chan struct{})}
	if r.everywhere(wanted) {
		w.result = r.applied(wanted)
		close(w.done)
	} else {
		r.waiters[w] = struct{}{}
	}
	return w
}

// giveUp ends the wait and returns how far the revision has got.
func (r *replicas) giveUp(w *waiter) Applied {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waiting := r.waiters[w]; !waiting {
		return w.result
	}
	delete(r.waiters, w)
	return r.applied(w.Wanted)
}
