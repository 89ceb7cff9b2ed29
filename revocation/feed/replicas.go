package feed

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
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
	node      string   // the other control node that it follows; empty: here
	session   *session // the stream that speaks for it here; nil once lost
	connected bool
	joined    time.Time // by the clock of its node
	remote    string
	revision  uint64
	known     bool // revision is one of this log's, not a beginner's 0
	entries   uint64
	lastAck   time.Time
	losses    int
	untold    bool // other nodes do not know this of it yet
}

// replicas are all that count. floor is the least revision that they have in
// force, the largest number there is if there are none; waiters are those who
// wait for more than floor.
type replicas struct {
	logger    *slog.Logger
	onApplied func(name string, revision uint64)
	changed   func() // is called when one is added or forgotten, with mu held

	news   chan struct{} // holds one token when other nodes are to be told something
	asked  atomic.Bool   // that is all there is
	others int           // other nodes; 0: it is not known how many

	mu      sync.Mutex
	all     map[identity]*replica
	floor   uint64
	waiters map[*waiter]struct{}
	heard   map[string]time.Time // when each other node was heard last
	unmet   bool                 // other nodes may have replicas that are not in all
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
		news: make(chan struct{}, 1), heard: make(map[string]time.Time),
	}
}

// join makes s the stream that speaks for the replica of its hello. An older
// stream of the same process is told to end. One of another process by the
// same name was restarted if it is lost, and is a mistake of the operator if
// it is not.
func (r *replicas) join(id identity, s *session, remote string, revision uint64, known bool, entries uint64) (*replica, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
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
	joined := time.Now()
	if !joined.After(p.joined) { // the clock of the node where it was is ahead
		joined = p.joined.Add(1)
	}
	p.session, p.remote, p.node, p.connected, p.joined = s, remote, "", true, joined
	p.revision, p.known, p.entries = revision, known, entries
	r.supersede(p)
	r.changedHere(p)
	r.settle()
	return p, nil
}

// supersede drops lost replicas of the same name: p is what they were
// restarted as. The caller holds mu.
func (r *replicas) supersede(p *replica) {
	for other, q := range r.all {
		switch {
		case other.name != p.name || q == p:
		case !q.connected:
			r.drop(q)
		default:
			r.logger.Warn("two replicas have one name; give each its own", "replica", p.name, "from", p.remote, "and", q.remote)
		}
	}
}

// drop forgets a replica. The caller holds mu.
func (r *replicas) drop(p *replica) {
	delete(r.all, p.identity)
	r.changed()
}

// leave notes that the stream is gone. The replica counts for a while longer.
func (r *replicas) leave(p *replica, s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.session != s {
		return
	}
	r.lose(p)
	r.changedHere(p)
}

// lose begins the minute that a lost replica counts. The caller holds mu.
func (r *replicas) lose(p *replica) {
	p.session, p.connected = nil, false
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
	if r.all[p.identity] != p || p.connected || p.losses != loss {
		return
	}
	r.drop(p)
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
	r.changedHere(p)
	if a.Revision > before {
		p.revision = a.Revision
		r.settle()
	}
	tell := r.onApplied
	r.mu.Unlock()
	if tell == nil || !known {
		return
	}
	tellEach(tell, p.name, before, a.Revision)
}

// tellEach tells of each revision after before, up to then.
func tellEach(tell func(name string, revision uint64), name string, before, then uint64) {
	for revision := max(before, then-min(then, maxTold)) + 1; revision <= then; revision++ {
		tell(name, revision)
	}
}

// maxTold bounds how many revisions one acknowledgement is split into.
const maxTold = 4096

// settle finds the floor, and ends the wait of those who waited for less. The
// caller holds mu.
func (r *replicas) settle() {
	floor := uint64(math.MaxUint64)
	if r.unmet {
		floor = 0
	}
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
	if r.unmet {
		a.Pending = append(a.Pending, "(replicas of control nodes that have not been heard yet)")
	}
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

// connected is how many follow now, here or at another node.
func (r *replicas) connected() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.connected {
			n++
		}
	}
	return n
}

// counted returns how many replicas decide whether a revision is in force
// everywhere. Replicas of a control node that was not heard yet count as one.
func (r *replicas) counted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unmet {
		return len(r.all) + 1
	}
	return len(r.all)
}

// list is all of them, by name.
func (r *replicas) list(head uint64) []Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Replica, 0, len(r.all))
	for _, p := range r.all {
		out = append(out, Replica{
			Name: p.name, Connected: p.connected, Revision: p.revision,
			Behind: head - min(head, p.revision), Entries: p.entries, LastAck: p.lastAck,
		})
	}
	slices.SortFunc(out, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Revision, a.Revision))
	})
	return out
}
