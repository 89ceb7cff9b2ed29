package feed

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
)

// Several control nodes may serve one log, each with followers of its own, and
// each must be able to say "in force everywhere". So each tells the others who
// follows it and how far those are: what has changed, at once, and all of it
// every second. Of a replica that moved from one node to another the later
// word counts. The replicas of a node that is not heard any more are lost ones
// until they turn up elsewhere.

// Nodes carries what one node tells to all others. What is told may be lost,
// and telling does not wait.
type Nodes interface {
	Tell(message []byte) error
	Hear(f func(node string, message []byte)) error
}

// Times among nodes.
const (
	tellAll   = time.Second          // how often all is told
	tellPause = 2 * time.Millisecond // between two tellings
	tellRow   = 5 * time.Microsecond // of pause more for each replica told
	nodeLost  = 3 * time.Second      // without a word
	// meeting is for how long a node that has just started waits to hear of
	// the replicas of all others.
	meeting = 3 * time.Second
)

// word is what is told.
type word struct {
	Ask      bool   `json:"ask,omitzero"` // to be told all
	All      bool   `json:"all,omitzero"` // there are no other replicas here
	Replicas []told `json:"replicas,omitzero"`

	Query  *nodeQuery  `json:"query,omitzero"`
	Answer *nodeAnswer `json:"answer,omitzero"`
	Alerts *nodeAlerts `json:"alerts,omitzero"`
}

type told struct {
	Name      string    `json:"name"`
	Instance  [16]byte  `json:"instance"`
	Connected bool      `json:"connected,omitzero"`
	Joined    time.Time `json:"joined"`
	Revision  uint64    `json:"revision,omitzero"`
	Entries   uint64    `json:"entries,omitzero"`
	LastAck   time.Time `json:"last_ack,omitzero"`
}

// confer tells the other nodes and listens to them until ctx ends.
func (s *Server) confer(ctx context.Context) {
	r := s.replicas
	err := s.nodes.Hear(func(node string, message []byte) {
		var w word
		if err := json.Unmarshal(message, &w); err != nil {
			s.logger.Warn("what another control node tells is not understood", "node", node, "error", err)
			return
		}
		r.hear(node, &w)
		s.heed(node, &w)
	})
	if err != nil {
		s.logger.Error("the other control nodes are not heard", "error", err)
	}
	met := time.AfterFunc(meeting, r.meet)
	defer met.Stop()
	tick := time.NewTicker(tellAll)
	defer tick.Stop()
	for w := (word{Ask: true, All: true, Replicas: r.tell(true)}); ; {
		if err := s.tellNodes(w); err != nil { // all is told again within a second
			s.logger.Debug("other control nodes were not told of the replicas here", "error", err)
		}
		rest(ctx, tellPause+time.Duration(len(w.Replicas))*tellRow)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.miss()
			w = word{All: true, Replicas: r.tell(true)}
		case <-r.news:
			all := r.asked.Swap(false)
			w = word{All: all, Replicas: r.tell(all)}
		}
	}
}

// tell is what is to be told of the replicas here.
func (r *replicas) tell(all bool) (rows []told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.all {
		if p.node == "" && (all || p.untold) {
			p.untold = false
			rows = append(rows, told{p.name, p.instance, p.connected, p.joined, p.revision, p.entries, p.lastAck})
		}
	}
	return rows
}

// changedHere notes that something is to be told of p. The caller holds mu.
func (r *replicas) changedHere(p *replica) {
	p.untold = true
	r.poke()
}

func (r *replicas) poke() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// hear takes in the word of another node.
func (r *replicas) hear(node string, w *word) {
	r.mu.Lock()
	_, known := r.heard[node]
	r.heard[node] = time.Now()
	type progress struct {
		name         string
		before, then uint64
	}
	var progressed []progress
	named := make(map[identity]bool, len(w.Replicas))
	for i := range w.Replicas {
		t := &w.Replicas[i]
		named[identity{t.Name, t.Instance}] = true
		if before, ok := r.hearOf(node, t); ok && before < t.Revision {
			progressed = append(progressed, progress{t.Name, before, t.Revision})
		}
	}
	if w.All {
		for id, p := range r.all {
			if p.node == node && !named[id] {
				r.drop(p)
			}
		}
	}
	if len(r.heard) >= r.others && r.others > 0 {
		r.unmet = false
	}
	r.settle()
	tell := r.onApplied
	r.mu.Unlock()
	if !known || w.Ask {
		r.asked.Store(true)
		r.poke()
	}
	if tell != nil {
		for _, p := range progressed {
			tellEach(tell, p.name, p.before, p.then)
		}
	}
}

// hearOf takes in what a node says of one replica. ok says that it was that
// node's before, at the revision returned. The caller holds mu.
func (r *replicas) hearOf(node string, t *told) (before uint64, ok bool) {
	if !goodName(t.Name) {
		return 0, false
	}
	id := identity{t.Name, t.Instance}
	p := r.all[id]
	switch {
	case p == nil:
		if len(r.all) >= maxReplicas {
			return 0, false
		}
		p = &replica{identity: id, node: node}
		r.all[id] = p
		r.changed()
	case p.node != node && !t.Joined.After(p.joined):
		return 0, false // it has been somewhere else since
	case p.node == node:
		before, ok = p.revision, p.known
	}
	if p.session != nil {
		p.session.replace() // it was given up
		p.session = nil
	}
	was := p.connected
	p.node, p.remote, p.joined, p.known = node, node, t.Joined, true
	p.revision, p.entries, p.lastAck, p.connected = t.Revision, t.Entries, t.LastAck, t.Connected
	switch {
	case !p.connected && (was || !ok):
		r.lose(p)
	case p.connected && !was:
		r.supersede(p)
	}
	return before, ok
}

// miss makes lost ones of the replicas of nodes that are not heard any more.
func (r *replicas) miss() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, at := range r.heard {
		if time.Since(at) < nodeLost {
			continue
		}
		delete(r.heard, node)
		for _, p := range r.all {
			if p.node == node && p.connected {
				r.lose(p)
			}
		}
	}
}

// meet ends the wait for nodes that were not heard of.
func (r *replicas) meet() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unmet = false
	r.settle()
}
