package feed

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rescind/revocation/feed/feedpb"
)

// lostTime is the time for which a lost replica still counts as deciding.
const lostTime = time.Minute

// replicas holds all replicas that count. Each follows this node or another node,
// or was lost less than lostTime ago.
type replicas struct {
	logger    *slog.Logger
	limits    map[string]int // bound of each credential
	figures   *figures
	knowledge *knowledge
	onApplied func(name string, revision uint64)
	onChange  func() // is called with mu held when a replica is added or forgotten; does not wait

	news   chan struct{} // holds one token when there is something to send to other nodes
	asked  atomic.Bool   // another node asked for all replicas
	others int           // other nodes; 0: their number is not known

	mu        sync.Mutex
	all       map[identity]*replicaState
	connects  map[string]int       // connected replicas in all, by credential; see setConnected
	gone      []replicaRow         // replicas that said goodbye here, to be sent to other nodes
	nodesSeen map[string]time.Time // when each other node was heard last
	unmet     bool                 // other nodes may have replicas that are not in all

	// floor and rules are the least revision and the least version of the
	// rules of all replicas. Without replicas both are the largest number.
	// atFloor is how many replicas have the revision floor and none later. Every
	// change of a replica but an acknowledgement must end with settle.
	floor   uint64
	atFloor int
	rules   int
	waiters map[*waiter]struct{}
}

func newReplicas(logger *slog.Logger, tokens []Token, k *knowledge) *replicas {
	r := &replicas{
		logger: logger, limits: make(map[string]int), figures: newFigures(), knowledge: k, onChange: func() {},
		news: make(chan struct{}, 1), all: make(map[identity]*replicaState), connects: make(map[string]int), nodesSeen: make(map[string]time.Time),
		floor: math.MaxUint64, rules: math.MaxInt, waiters: make(map[*waiter]struct{}),
	}
	for _, t := range tokens {
		r.limits[t.Name] = cmp.Or(max(t.MaxReplicas, 0), defaultMaxReplicas)
	}
	return r
}

// arrival is a replica that connects.
type arrival struct {
	identity
	description
	remote   string
	revision uint64 // by the word of the replica, no acknowledgement; 0 unless known
	known    bool   // revision belongs to this log
	entries  uint64
}

// join makes s the stream that speaks for the replica, and ends an older stream
// of the same process. A hello confirms nothing: the replica may refuse this log. Only
// revisions that the same process has acknowledged here stay in force. join fails if
// the credential has its maximum of connected replicas. A lost replica of the
// credential makes room.
func (r *replicas) join(a arrival, s *session) (*replicaState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.find(a.identity)
	if p == nil {
		if err := r.refusal(a.credential); err != nil {
			return nil, err
		}
		if err := r.makeRoom(a.identity); err != nil {
			return nil, err
		}
		r.supersede(a.identity)
		p = &replicaState{identity: a.identity}
		r.all[a.identity] = p
		r.onChange()
	}
	if p.session != nil {
		p.session.replace()
	}
	joined := time.Now()
	if !joined.After(p.joined) { // the clock of the node that the replica followed before is ahead
		joined = p.joined.Add(1)
	}
	r.setConnected(p, true)
	p.session, p.remote, p.node, p.joined = s, a.remote, "", joined
	p.held, p.revision = a.revision, min(p.revision, a.revision)
	p.known, p.entries, p.description = a.known, a.entries, a.description
	p.ahead = nil
	if p.audit.failed { // the replica has connected again before all entries were in force
		s.reload.Store(true)
	}
	r.knowledge.see(p.credential, p.name, p.profile)
	r.warnOfTwins(p)
	r.markChanged(p)
	r.settle()
	return p, nil
}

// find returns the replica of this identity, or nil. Nodes and files of the
// first edition do not name the credential, so the first credential that is named
// for such a replica is believed.
// The caller holds mu.
func (r *replicas) find(id identity) *replicaState {
	p := r.all[id]
	if p != nil {
		return p
	}
	if id.credential == "" {
		for other, q := range r.all {
			if other.name == id.name && other.instance == id.instance {
				return q
			}
		}
		return nil
	}
	nameless := id
	nameless.credential = ""
	if p = r.all[nameless]; p != nil {
		connected := p.connected
		r.drop(p)
		p.identity, r.all[id] = id, p
		r.setConnected(p, connected)
	}
	return p
}

// supersede forgets the lost replicas that the replica of this identity replaces. The
// caller holds mu.
func (r *replicas) supersede(id identity) {
	for _, q := range r.all {
		if r.replaces(id, q) {
			r.drop(q)
		}
	}
}

// replaces reports whether the replica of this identity replaces q: q is lost and has
// the same credential and name, because the process was started again. The replica also
// replaces a lost replica of the same process whose credential is not configured any
// more, because no stream can speak for that replica again. The caller holds mu.
func (r *replicas) replaces(id identity, q *replicaState) bool {
	if q.connected || q.identity == id || q.name != id.name {
		return false
	}
	_, configured := r.limits[q.credential]
	return q.credential == id.credential || !configured && q.instance == id.instance
}

// warnOfTwins logs that a connected replica has p's credential and name. The
// caller holds mu.
func (r *replicas) warnOfTwins(p *replicaState) {
	for other, q := range r.all {
		if q != p && q.connected && other.name == p.name && other.credential == p.credential {
			r.logger.Warn("two replicas have one name; give each replica its own name", "replica", p.name, "from", p.remote, "and", q.remote)
		}
	}
}

// drop forgets a replica. The caller holds mu.
func (r *replicas) drop(p *replicaState) {
	r.setConnected(p, false)
	delete(r.all, p.identity)
	r.onChange()
}

// leave notes that the stream is gone, and reports whether the stream spoke for
// the replica. If so, the replica counts for lostTime more, unless the replica
// said goodbye.
func (r *replicas) leave(p *replicaState, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.session != s {
		return false
	}
	p.session = nil
	if r.all[p.identity] == p {
		r.lose(p)
		r.markChanged(p)
	}
	return true
}

// lose notes that p is lost, and orders that p is forgotten after lostTime. The
// caller holds mu.
func (r *replicas) lose(p *replicaState) {
	r.setConnected(p, false)
	p.session, p.lost = nil, time.Now()
	p.losses++
	losses := p.losses
	time.AfterFunc(lostTime, func() { r.forget(p, losses) })
	r.knowledge.see(p.credential, p.name, p.profile)
}

// forget drops a lost replica, unless the replica has come back since.
func (r *replicas) forget(p *replicaState, losses int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[p.identity] != p || p.connected || p.losses != losses {
		return
	}
	r.drop(p)
	r.settle()
}

// goodbye takes a replica's goodbye. The replica decides no more, so nothing waits
// for the replica.
func (r *replicas) goodbye(p *replicaState, s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.session != s {
		return
	}
	r.knowledge.see(p.credential, p.name, p.profile)
	row := rowOf(p)
	row.Connected, row.Gone = false, true
	r.gone = append(r.gone, row)
	r.drop(p)
	r.wakeGossip()
	r.settle()
}

// describe takes a replica's new profile.
func (r *replicas) describe(p *replicaState, s *session, fresh *profile) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.session != s {
		return
	}
	p.profile = fresh
	r.knowledge.see(p.credential, p.name, fresh)
	r.markChanged(p)
}

// recall takes in the replicas of an earlier process of the control endpoint. These
// replicas were lost with that process.
func (r *replicas) recall(ids []identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		p := &replicaState{identity: id}
		r.all[id] = p
		p.lost = time.Now()
		p.losses++
		time.AfterFunc(lostTime, func() { r.forget(p, 1) })
	}
	r.settle()
}

// identities returns the identities of all replicas.
func (r *replicas) identities() []identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := make([]identity, 0, len(r.all))
	for id := range r.all {
		ids = append(ids, id)
	}
	return ids
}

// seeAll notes that all connected replicas are there now.
func (r *replicas) seeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.connected {
			r.knowledge.see(p.credential, p.name, p.profile)
		}
	}
}

// ack takes in an acknowledgement.
func (r *replicas) ack(p *replicaState, s *session, a *feedpb.Ack) {
	r.mu.Lock()
	if p.session != s || r.all[p.identity] != p {
		r.mu.Unlock()
		return
	}
	p.lastAck, p.entries = time.Now(), a.Entries
	before, known := max(p.revision, p.held), p.known
	p.known = true
	r.markChanged(p)
	early := p.overtaken(a)
	if a.Revision > p.revision {
		r.advance(p, a.Revision)
	}
	var fresh []uint64
	for _, revision := range a.Ahead {
		if revision > p.revision && !p.ahead[revision] && len(p.ahead) < maxAhead {
			p.ahead[revision] = true
			fresh = append(fresh, revision)
		}
	}
	if fresh != nil {
		r.release()
	}
	r.mu.Unlock()
	if r.onApplied == nil || !known {
		return
	}
	eachRevision(before, a.Revision, func(revision uint64) {
		if !early[revision] {
			r.onApplied(p.name, revision)
		}
	})
	for _, revision := range fresh {
		r.onApplied(p.name, revision)
	}
}

// maxEach bounds how many revisions one acknowledgement is split into.
const maxEach = 4096

// eachRevision calls f with the revisions after before, up to last.
func eachRevision(before, last uint64, f func(revision uint64)) {
	for revision := max(before, last-min(last, maxEach)) + 1; revision <= last; revision++ {
		f(revision)
	}
}

// connected returns how many replicas follow now, this node or another.
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

// list returns all replicas, by name.
func (r *replicas) list(head uint64) []Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Replica, 0, len(r.all))
	for _, p := range r.all {
		out = append(out, p.outside(head))
	}
	slices.SortFunc(out, func(a, b Replica) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Credential, b.Credential), cmp.Compare(b.Revision, a.Revision))
	})
	return out
}

// following returns the replica of this identity. following fails if the replica
// does not follow this node.
func (r *replicas) following(id identity, head uint64) (Replica, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.all[id]
	if p == nil || p.session == nil {
		return Replica{}, errors.New("a replica reports beside its Follow stream to the same control endpoint, and this replica has no such stream")
	}
	return p.outside(head), nil
}
