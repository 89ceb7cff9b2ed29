package feed

import (
	"slices"
	"time"

	"rescind/revocation/insight"
)

// A query that is put to one node concerns the replicas of all nodes. So the node
// sends the query to the other nodes. Each other node asks its own replicas and
// sends the answers back. A node also sends its kept alerts to the other nodes.
// Each of these messages may be lost: the result of a query says how many replicas
// answered, and the node that took an alert still keeps the alert.

// atPeer returns the urgency for the replicas of another node: a part of the
// time is for the way between the nodes.
func (u urgency) atPeer() urgency {
	u.limit = u.limit * 8 / 10
	return u
}

// nodeQuery is a query to another node's replicas.
type nodeQuery struct {
	ID    uint64 `json:"id"`
	Kind  string `json:"kind"`
	Query []byte `json:"query"`
	Brief bool   `json:"brief,omitzero"`
}

// nodeAnswer is the answer of one replica, or says that there are no more.
type nodeAnswer struct {
	ID     uint64 `json:"id"`
	Answer []byte `json:"answer,omitzero"`
	Done   bool   `json:"done,omitzero"`
}

// nodeAlerts are alerts that the sender has kept.
type nodeAlerts struct {
	Replica string          `json:"replica"`
	Alerts  []insight.Alert `json:"alerts"`
}

// answerPeer takes in a query, an answer or alerts of another node.
func (s *Server) answerPeer(node string, g *gossip) {
	switch {
	case g.Query != nil && len(g.Query.Kind) <= maxKind && len(g.Query.Query) <= maxQuery:
		s.spawn(func() { s.askHere(g.Query) })
	case g.Answer != nil:
		s.reports.takePeer(node, g.Answer)
	case g.Alerts != nil && len(g.Alerts.Alerts) <= maxAlerts && goodName(g.Alerts.Replica):
		s.reports.onPeerAlerts(g.Alerts.Replica, g.Alerts.Alerts)
	}
}

// spawn runs f in a goroutine that Close waits for. On a closed server it does
// nothing.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
}

// askHere puts the query of another node to the replicas here.
func (s *Server) askHere(q *nodeQuery) {
	u := patient
	if q.Brief {
		u = brief
	}
	answers, _ := s.askAll(s.ctx, q.Kind, q.Query, u.atPeer(), false)
	for _, a := range answers {
		_ = s.broadcast(&gossip{Answer: &nodeAnswer{ID: q.ID, Answer: a}}) // if it is lost, the replica counts as one that did not answer
	}
	_ = s.broadcast(&gossip{Answer: &nodeAnswer{ID: q.ID, Done: true}})
}

// takePeer takes the answer of a replica of another node.
func (rs *reports) takePeer(node string, m *nodeAnswer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if m.Done {
		delete(rs.lateNodes, node)
	}
	a := rs.pending[m.ID]
	switch {
	case a == nil || !a.nodes[node]:
	case m.Done:
		delete(a.nodes, node)
		a.settle()
	default:
		a.add(m.Answer)
	}
}

// shareAlerts sends the other nodes alerts that are kept here.
func (s *Server) shareAlerts(replica string, alerts []insight.Alert) {
	if s.nodes == nil {
		return
	}
	for part := range slices.Chunk(alerts, maxAlerts) {
		if err := s.broadcast(&gossip{Alerts: &nodeAlerts{replica, part}}); err != nil {
			s.logger.Warn("alerts kept here are not sent to the other control nodes", "error", err)
		}
	}
}

// liveNodes returns the other nodes that were heard within nodeLost.
func (r *replicas) liveNodes() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes := make(map[string]bool, len(r.nodesSeen))
	for node, at := range r.nodesSeen {
		if time.Since(at) < nodeLost {
			nodes[node] = true
		}
	}
	return nodes
}
