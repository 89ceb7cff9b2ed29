package feed

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

// Several control nodes may serve one log, each with replicas of its own, and
// each node must be able to say "in force everywhere". So each node tells the
// other nodes the names and revisions of its replicas: one replica at once after
// a change, and all replicas every second. If a replica moved from one node to
// another, the later join counts. The replicas of a node that is silent for
// nodeLost count as lost until these replicas follow another node.

// Nodes carries messages from one control node to all others. A message may be
// lost, and Broadcast does not wait.
type Nodes interface {
	Broadcast(message []byte) error
	Subscribe(f func(node string, message []byte)) error
}

// Times among nodes.
const (
	gossipInterval = time.Second          // how often a node lists all its replicas
	gossipPause    = 2 * time.Millisecond // between two messages
	gossipRowPause = 5 * time.Microsecond // of pause more for each replica told
	nodeLost       = 3 * time.Second      // without a message
	// meetTime is for how long a node that has just started waits to hear about
	// the replicas of all others.
	meetTime = 3 * time.Second
)

// Bounds of one gossip message, which may exceed maxGossipBytes by one profile.
// A NATS server takes messages of up to 1 MB by default.
const (
	maxGossipRows  = 1000
	maxGossipBytes = 256 << 10 // of profiles
)

// gossip is one message between control nodes. Its members are published: nodes
// of two versions form a cluster during an upgrade.
type gossip struct {
	Ask      bool                        `json:"ask,omitzero"` // the sender asks for all replicas of the others
	All      bool                        `json:"all,omitzero"` // the sender has no other replicas than Replicas
	Replicas []replicaRow                `json:"replicas,omitzero"`
	Profiles map[string][]acceptedIssuer `json:"profiles,omitzero"` // that the rows name, by key
	// Here has the sum of every replica of the sender, if the replicas do not fit
	// one message. The sender has no other replica.
	Here  []uint64      `json:"here,omitzero"`
	Known []knownRecord `json:"known,omitzero"`

	Query  *nodeQuery  `json:"query,omitzero"`
	Answer *nodeAnswer `json:"answer,omitzero"`
	Alerts *nodeAlerts `json:"alerts,omitzero"`
}

// replicaRow is one replica of the sender.
type replicaRow struct {
	Credential string    `json:"credential,omitzero"` // empty from a node of the first edition
	Name       string    `json:"name"`
	Instance   [16]byte  `json:"instance"`
	Connected  bool      `json:"connected,omitzero"`
	Gone       bool      `json:"gone,omitzero"` // the replica said goodbye
	Joined     time.Time `json:"joined"`
	Revision   uint64    `json:"revision,omitzero"`
	Ahead      []uint64  `json:"ahead,omitzero"` // later revisions that are in force
	Entries    uint64    `json:"entries,omitzero"`
	LastAck    time.Time `json:"last_ack,omitzero"`
	Version    string    `json:"version,omitzero"`
	Rules      int       `json:"rules,omitzero"`
	Incomplete bool      `json:"incomplete,omitzero"`
	Profile    string    `json:"profile,omitzero"` // key; empty: the replica reports no issuers
}

func (t *replicaRow) identity() identity { return identity{t.Credential, t.Name, t.Instance} }

// rowOf returns the row of p for a message to other nodes. The caller holds replicas.mu.
func rowOf(p *replicaState) replicaRow {
	row := replicaRow{
		Credential: p.credential, Name: p.name, Instance: p.instance, Connected: p.connected, Joined: p.joined,
		Revision: p.revision, Entries: p.entries, LastAck: p.lastAck, Version: p.version, Rules: p.rules, Incomplete: p.audit.failed,
	}
	if p.profile != nil {
		row.Profile = p.profile.key
	}
	for revision := range p.ahead {
		row.Ahead = append(row.Ahead, revision)
	}
	return row
}

// sum returns a short form of id for gossip.Here.
func (id *identity) sum() uint64 {
	h := sha256.Sum256([]byte(id.credential + "\x00" + id.name + "\x00" + string(id.instance[:])))
	return binary.BigEndian.Uint64(h[:])
}

// gossip sends the state of the replicas to the other nodes, and merges the
// messages of other nodes, until ctx ends.
func (s *Server) gossip(ctx context.Context) {
	r := s.replicas
	err := s.nodes.Subscribe(func(node string, message []byte) {
		var g gossip
		if err := json.Unmarshal(message, &g); err != nil {
			s.logger.Warn("message of another control node cannot be read, dropping it", "node", node, "error", err)
			return
		}
		r.merge(node, &g)
		s.knowledge.learn(g.Known)
		s.answerPeer(node, &g)
	})
	if err != nil {
		s.logger.Error("messages of the other control nodes are not received", "error", err)
	}
	met := time.AfterFunc(meetTime, r.meet)
	defer met.Stop()
	tick := time.NewTicker(gossipInterval)
	defer tick.Stop()
	messages := r.messages(true)
	messages[0].Ask = true
	for {
		s.broadcastAll(ctx, messages)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.missNodes()
			messages = r.messages(true)
		case <-r.news:
			all := r.asked.Swap(false)
			messages = r.messages(all)
			if all {
				messages = append(messages, s.knowledge.messages()...)
			}
		}
	}
}

// broadcastAll sends messages to the other nodes, with a pause behind each.
func (s *Server) broadcastAll(ctx context.Context, messages []*gossip) {
	for _, g := range messages {
		if err := s.broadcast(g); err != nil { // gossip sends all replicas again within a second
			s.logger.Debug("the replicas here were not sent to the other control nodes, sending them again within a second", "error", err)
		}
		rest(ctx, gossipPause+time.Duration(len(g.Replicas))*gossipRowPause)
	}
}

// broadcast sends one message to the other nodes, and does not wait.
func (s *Server) broadcast(g *gossip) error {
	message, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return s.nodes.Broadcast(message)
}

// messages returns the messages to the other nodes about the replicas here: about
// all replicas, or about the replicas that have changed. There is at least one
// message.
func (r *replicas) messages(all bool) []*gossip {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := &gossip{Replicas: r.gone}
	r.gone = nil
	messages := []*gossip{current}
	var here []uint64
	bytes := 0
	for _, p := range r.all {
		if p.node != "" || !all && !p.changed {
			continue
		}
		p.changed = false
		if len(current.Replicas) >= maxGossipRows || bytes >= maxGossipBytes {
			current, bytes = &gossip{}, 0
			messages = append(messages, current)
		}
		current.Replicas = append(current.Replicas, rowOf(p))
		if p.profile != nil && current.Profiles[p.profile.key] == nil {
			if current.Profiles == nil {
				current.Profiles = make(map[string][]acceptedIssuer)
			}
			current.Profiles[p.profile.key] = p.profile.issuers
			bytes += p.profile.size
		}
		here = append(here, p.sum())
	}
	switch {
	case !all:
	case len(messages) == 1:
		current.All = true
	default:
		current.Here = here
	}
	return messages
}

// markChanged wakes gossip to send p's present state to the other nodes. The caller holds mu.
func (r *replicas) markChanged(p *replicaState) {
	p.changed = true
	r.wakeGossip()
}

// wakeGossip wakes gossip, and does not wait.
func (r *replicas) wakeGossip() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// merge takes in the replicas of a message of another node.
func (r *replicas) merge(node string, g *gossip) {
	r.mu.Lock()
	_, met := r.nodesSeen[node]
	r.nodesSeen[node] = time.Now()
	type progress struct {
		name         string
		before, last uint64
	}
	var progressed []progress
	profiles := make(map[string]*profile, len(g.Profiles))
	for key, issuers := range g.Profiles {
		if p, err := newProfile(issuers); err == nil {
			profiles[key] = p
		}
	}
	for i := range g.Replicas {
		row := &g.Replicas[i]
		if before, ok := r.mergeRow(node, row, profiles[row.Profile], g.All); ok && before < row.Revision {
			progressed = append(progressed, progress{row.Name, before, row.Revision})
		}
	}
	r.dropOthers(node, g)
	if len(r.nodesSeen) >= r.others && r.others > 0 {
		r.unmet = false
	}
	r.settle()
	r.release()
	r.mu.Unlock()
	if !met || g.Ask {
		r.asked.Store(true)
		r.wakeGossip()
	}
	if r.onApplied == nil {
		return
	}
	for _, p := range progressed {
		eachRevision(p.before, p.last, func(revision uint64) { r.onApplied(p.name, revision) })
	}
}

// dropOthers forgets the replicas of a node that a full list of the node does not
// have. The caller holds mu.
func (r *replicas) dropOthers(node string, g *gossip) {
	var here func(p *replicaState) bool
	switch {
	case g.All:
		named := make(map[*replicaState]bool, len(g.Replicas))
		for i := range g.Replicas {
			named[r.find(g.Replicas[i].identity())] = true
		}
		here = func(p *replicaState) bool { return named[p] }
	case g.Here != nil:
		slices.Sort(g.Here)
		here = func(p *replicaState) bool { _, found := slices.BinarySearch(g.Here, p.sum()); return found }
	default:
		return
	}
	for _, p := range r.all {
		if p.node == node && !here(p) {
			r.drop(p)
		}
	}
}

// mergeRow takes in one row of a node. fresh is the profile that the row names, or
// nil if the message lacks the profile. ok reports whether the replica followed
// that node before, at the returned revision. The caller holds mu.
func (r *replicas) mergeRow(node string, row *replicaRow, fresh *profile, all bool) (before uint64, ok bool) {
	if !goodName(row.Name) || len(row.Credential) > maxName || len(row.Version) > maxVersion {
		return 0, false
	}
	p := r.find(row.identity())
	switch {
	case row.Gone:
		if p != nil && p.node == node {
			r.drop(p)
		}
		return 0, false
	case p == nil:
		if row.Connected {
			r.supersede(row.identity())
		}
		p = &replicaState{identity: row.identity(), node: node}
		r.all[p.identity] = p
		r.onChange()
	case p.node != node && !row.Joined.After(p.joined):
		return 0, false // the replica has followed another node since
	case p.node == node:
		before, ok = p.revision, p.known
	}
	if p.session != nil {
		p.session.replace() // the replica has moved to the other node
		p.session = nil
	}
	was := p.connected
	r.setConnected(p, row.Connected)
	p.follow(node, row)
	r.redescribe(p, row, fresh, all)
	if !p.connected && (was || !ok) {
		r.lose(p)
	}
	return before, ok
}

// follow sets p to the state that the row of another node has, apart from
// connected. The caller holds mu.
func (p *replicaState) follow(node string, row *replicaRow) {
	p.node, p.remote, p.joined, p.known = node, node, row.Joined, true
	p.revision, p.entries, p.lastAck = row.Revision, row.Entries, row.LastAck
	p.ahead = nil
	for _, revision := range row.Ahead[:min(len(row.Ahead), maxAhead)] {
		if p.ahead == nil {
			p.ahead = make(map[uint64]bool)
		}
		p.ahead[revision] = true
	}
}

// redescribe sets the description of p to the row's. The caller holds mu.
func (r *replicas) redescribe(p *replicaState, row *replicaRow, fresh *profile, all bool) {
	old := p.profile
	switch {
	case row.Profile == "":
		fresh = nil
	case fresh == nil && old != nil && old.key == row.Profile:
		fresh = old
	}
	p.version, p.rules, p.profile, p.audit.failed = row.Version, row.Rules, fresh, row.Incomplete
	if p.connected && (all || old != fresh || p.losses == 0 && old == nil) {
		r.knowledge.see(p.credential, p.name, fresh)
	}
}

// missNodes counts the replicas of a silent node as lost.
func (r *replicas) missNodes() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, at := range r.nodesSeen {
		if time.Since(at) < nodeLost {
			continue
		}
		delete(r.nodesSeen, node)
		for _, p := range r.all {
			if p.node == node && p.connected {
				r.lose(p)
			}
		}
	}
}

// meet ends the wait for the nodes that were not heard since the start.
func (r *replicas) meet() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmet = false
	r.settle()
}
