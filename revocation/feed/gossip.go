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
// each must be able to say "in force everywhere". So each tells the others
// which replicas follow it and how far these are: a change at once, and all of
// them every second. Of a replica that moved from one node to another the later
// join counts. The replicas of a node that is silent for nodeLost are lost ones
// until they turn up elsewhere.

// Nodes carries messages from one control node to all others. A message may be
// lost, and Broadcast does not wait.
type Nodes interface {
	Broadcast(message []byte) error
	Subscribe(f func(node string, message []byte)) error
}

// Times among nodes.
const (
	gossipInterval = time.Second          // how often a node tells all
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
	Ask      bool                        `json:"ask,omitzero"` // the sender wants to be told all
	All      bool                        `json:"all,omitzero"` // the sender has no replicas but these
	Replicas []replicaRow                `json:"replicas,omitzero"`
	Profiles map[string][]acceptedIssuer `json:"profiles,omitzero"` // that the rows name, by key
	// Here has the sum of every replica of the sender, where they do not fit one
	// message: it has no other.
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
	Gone       bool      `json:"gone,omitzero"` // it said goodbye
	Joined     time.Time `json:"joined"`
	Revision   uint64    `json:"revision,omitzero"`
	Ahead      []uint64  `json:"ahead,omitzero"` // later revisions that are in force
	Entries    uint64    `json:"entries,omitzero"`
	LastAck    time.Time `json:"last_ack,omitzero"`
	Version    string    `json:"version,omitzero"`
	Rules      int       `json:"rules,omitzero"`
	Incomplete bool      `json:"incomplete,omitzero"`
	Profile    string    `json:"profile,omitzero"` // key; empty: it reports no issuers
}

func (t *replicaRow) identity() identity { return identity{t.Credential, t.Name, t.Instance} }

// rowOf returns p as other nodes are told. The caller holds replicas.mu.
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

// gossip tells the other nodes and listens to them until ctx ends.
func (s *Server) gossip(ctx context.Context) {
	r := s.replicas
	err := s.nodes.Subscribe(func(node string, message []byte) {
		var g gossip
		if err := json.Unmarshal(message, &g); err != nil {
			s.logger.Warn("a message of another control node cannot be read", "node", node, "error", err)
			return
		}
		r.merge(node, &g)
		s.knowledge.learn(g.Known)
		s.answerPeer(node, &g)
	})
	if err != nil {
		s.logger.Error("the other control nodes are not heard", "error", err)
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
		if err := s.broadcast(g); err != nil { // all is told again within a second
			s.logger.Debug("the other control nodes were not told of the replicas here", "error", err)
		}
		rest(ctx, gossipPause+time.Duration(len(g.Replicas))*gossipRowPause)
	}
}

// broadcast sends one message to the other nodes. It does not wait.
func (s *Server) broadcast(g *gossip) error {
	message, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return s.nodes.Broadcast(message)
}

// messages returns the messages to the other nodes about the replicas here: about
// all of them, or about those that have changed. There is at least one message.
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

// markChanged has the other nodes told p's present state. The caller holds mu.
func (r *replicas) markChanged(p *replicaState) {
	p.changed = true
	r.wakeGossip()
}

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

// dropOthers forgets the replicas of a node that are not among those that the
// node has. The caller holds mu.
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

// mergeRow takes in one row of a node. fresh is the profile that the row names;
// nil if the message does not have it. ok says that the replica was that node's
// before, at the revision returned. The caller holds mu.
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
		return 0, false // it has been somewhere else since
	case p.node == node:
		before, ok = p.revision, p.known
	}
	if p.session != nil {
		p.session.replace() // it has gone to the other node
		p.session = nil
	}
	was := p.connected
	p.node, p.remote, p.joined, p.known = node, node, row.Joined, true
	p.revision, p.entries, p.lastAck, p.connected = row.Revision, row.Entries, row.LastAck, row.Connected
	p.ahead = nil
	for _, revision := range row.Ahead[:min(len(row.Ahead), maxAhead)] {
		if p.ahead == nil {
			p.ahead = make(map[uint64]bool)
		}
		p.ahead[revision] = true
	}
	r.redescribe(p, row, fresh, all)
	if !p.connected && (was || !ok) {
		r.lose(p)
	}
	return before, ok
}

// redescribe takes a row's description of p. The caller holds mu.
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

// missNodes makes lost ones of the replicas of nodes that have fallen silent.
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

// meet ends the wait for nodes that were not heard since the start.
func (r *replicas) meet() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmet = false
	r.settle()
}
