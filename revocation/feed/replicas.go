package feed

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"rescind/revocation/feed/feedpb"
)

// remember is how long a lost replica counts as one that decides.
const remember = time.Minute

// maxReplicas bounds what names made up by followers can cost.
const maxReplicas = 4096

var errTooManyReplicas = errors.New("too many replicas follow here")

// Replica is a follower, connected now or lost less than a minute ago.
type Replica struct {
	Name      string
	Connected bool
	Revision  uint64 // the last one that it has in force
	Behind    uint64 // how many revisions it lacks
	Entries   uint64
	LastAck   time.Time // zero if there was none yet
}

// Applied says how far a revision has got.
type Applied struct {
	Applied int      // replicas that have it in force
	Total   int      // replicas
	Pending []string // names of those that have not; sorted, never nil
}

// identity tells replicas apart. Two processes that were given one name are
// two replicas: both decide.
type identity struct {
	name     string
	instance [16]byte
}

// replica is what is known of one. Its fields are guarded by replicas.mu.
type replica struct {
	identity
	session  *session // the stream that speaks for it; nil once lost
	remote   string
	revision uint64
	known    bool // revision is one of this log's, not a beginner's 0
	entries  uint64
	lastAck  time.Time
	losses   int
}

// replicas are all that count. floor is the least revision that they have in
// force, the largest number there is if there are none; waiters are those who
// wait for more than floor.
type replicas struct {
	logger    *slog.Logger
	onApplied func(name string, revision uint64)
	changed   func() // is called when one is added or forgotten, with mu held

	mu      sync.Mutex
	all     map[identity]*replica
	floor   uint64
	waiters map[*waiter]struct{}
}

type waiter struct {
	revision uint64
	done     chan struct{}
	result   Applied // set before done is closed
}

func newReplicas(logger *slog.Logger) *replicas {
	return &replicas{
		logger: logger, changed: func() {}, all: make(map[identity]*replica),
		floor: math.MaxUint64, waiters: make(map[*waiter]struct{}),
	}
}

// join makes s the stream that speaks for the replica of its hello. An older
// stream of the same process is told to end. One of another process by the
// same name was restarted if it is lost, and is a mistake of the operator if
// it is not.
func (r *replicas) join(id identity, s *session, remote string, revision uint64, known bool, entries uint64) (*replica, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, p := range r.all {
		switch {
		case other.name != id.name || other == id:
		case p.session == nil:
			delete(r.all, other)
		default:
			r.logger.Warn("two replicas have one name; give each its own", "replica", id.name, "from", remote, "and", p.remote)
		}
	}
	p := r.all[id]
	if p == nil {
		if len(r.all) >= maxReplicas {
			return nil, errTooManyReplicas
		}
		p = &replica{identity: id}
		r.all[id] = p
		r.changed()
	}
	if p.session != nil {
		p.session.replace()
	}
	p.session, p.remote = s, remote
	p.revision, p.known, p.entries = revision, known, entries
	r.settle()
	return p, nil
}

// leave notes that the stream is gone. The replica counts for a while longer.
func (r *replicas) leave(p *replica, s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.session != s {
		return
	}
	r.lose(p)
}

// lose begins the minute that a lost replica counts. The caller holds mu.
func (r *replicas) lose(p *replica) {
	p.session = nil
	p.losses++
	loss := p.losses
	time.AfterFunc(remember, func() { r.forget(p, loss) })
}

// recall makes those known that an earlier process had: they have been lost
// with it.
func (r *replicas) recall(ids []identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		p := &replica{identity: id}
		r.all[id] = p
		r.lose(p)
	}
	r.settle()
}

// identities are all that count.
func (r *replicas) identities() []identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.all))
}

// forget drops a replica that was lost, unless it came back since.
func (r *replicas) forget(p *replica, loss int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[p.identity] != p || p.session != nil || p.losses != loss {
		return
	}
	delete(r.all, p.identity)
	r.changed()
	r.settle()
}

// ack takes in what a replica says that it has in force.
func (r *replicas) ack(p *replica, s *session, a *feedpb.Ack) {
	r.mu.Lock()
	if p.session != s {
		r.mu.Unlock()
		return
	}
	p.lastAck, p.entries = time.Now(), a.Entries
	before, known := p.revision, p.known
	p.known = true
	if a.Revision > before {
		p.revision = a.Revision
		r.settle()
	}
	tell := r.onApplied
	r.mu.Unlock()
	if tell == nil || !known {
		return
	}
	for revision := max(before, a.Revision-min(a.Revision, maxTold)) + 1; revision <= a.Revision; revision++ {
		tell(p.name, revision)
	}
}

// maxTold bounds how many revisions one acknowledgement is split into.
const maxTold = 4096

// settle finds the floor, and ends the wait of those who waited for less. The
// caller holds mu.
func (r *replicas) settle() {
	floor := uint64(math.MaxUint64)
	for _, p := range r.all {
		floor = min(floor, p.revision)
	}
	rose := floor > r.floor
	r.floor = floor
	if !rose {
		return
	}
	for w := range r.waiters {
		if w.revision <= floor {
			w.result = r.applied(w.revision)
			close(w.done)
			delete(r.waiters, w)
		}
	}
}

// applied is how far the revision has got. The caller holds mu.
func (r *replicas) applied(revision uint64) Applied {
	a := Applied{Total: len(r.all), Pending: []string{}}
	for _, p := range r.all {
		if p.revision >= revision {
			a.Applied++
		} else {
			a.Pending = append(a.Pending, p.name)
		}
	}
	slices.Sort(a.Pending)
	return a
}

// wait begins to wait for a revision. If every replica has it, w is done.
func (r *replicas) wait(revision uint64) *waiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &waiter{revision: revision, done: make(chan struct{})}
	if revision <= r.floor {
		w.result = r.applied(revision)
		close(w.done)
	} else {
		r.waiters[w] = struct{}{}
	}
	return w
}

// giveUp ends the wait; the result is how far the revision has got.
func (r *replicas) giveUp(w *waiter) Applied {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waiting := r.waiters[w]; !waiting {
		return w.result
	}
	delete(r.waiters, w)
	return r.applied(w.revision)
}

// connected is how many follow now.
func (r *replicas) connected() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.session != nil {
			n++
		}
	}
	return n
}

// list is all of them, by name.
func (r *replicas) list(head uint64) []Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Replica, 0, len(r.all))
	for _, p := range r.all {
		out = append(out, Replica{
			Name: p.name, Connected: p.session != nil, Revision: p.revision,
			Behind: head - min(head, p.revision), Entries: p.entries, LastAck: p.lastAck,
		})
	}
	slices.SortFunc(out, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Revision, a.Revision))
	})
	return out
}
