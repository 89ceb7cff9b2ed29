package feed

import (
	"slices"
	"time"

	"rescind/revocation/insight"
)

// A question that is put to one node is about the replicas of all, and so is
// what they found unusual. So a node puts it to the others, each of which asks
// its own replicas and tells what they answered; and it tells the others of
// the alerts that it has kept. All of this may be lost: an answer then says of
// how many replicas it is, and alerts are still where they were reported.

// elsewhere returns the urgency for the replicas of another node: a part of the
// time is for the way between the nodes.
func (u urgency) elsewhere() urgency {
	u.limit = u.limit * 8 / 10
	return u
}

// nodeQuery is a question to another node's replicas.
type nodeQuery struct {
	ID    uint64 `json:"id"`
	Kind  string `json:"kind"`
	Query []byte `json:"query"`
	Brief bool   `json:"brief,omitzero"`
}

// nodeAnswer is what one replica said, or that there are no more.
type nodeAnswer struct {
	ID     uint64 `json:"id"`
	Answer []byte `json:"answer,omitzero"`
	Done   bool   `json:"done,omitzero"`
}

// nodeAlerts are some that are kept where they are from.
type nodeAlerts struct {
	Replica string          `json:"replica"`
	Alerts  []insight.Alert `json:"alerts"`
}

// answerPeer takes in what another node asks, answers or reports.
func (s *Server) answerPeer(node string, g *gossip) {
	switch {
	case g.Query != nil && len(g.Query.Kind) <= maxKind && len(g.Query.Query) <= maxQuery:
		s.spawn(func() { s.askFor(g.Query) })
	case g.Answer != nil:
		s.reports.takeFrom(node, g.Answer)
	case g.Alerts != nil && len(g.Alerts.Alerts) <= maxAlerts && goodName(g.Alerts.Replica):
		s.reports.onElsewhere(g.Alerts.Replica, g.Alerts.Alerts)
	}
}

// spawn runs f unless the server is closed; then nobody waits for it.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Go(f)
	}
}

// askFor asks the replicas here for another node.
func (s *Server) askFor(q *nodeQuery) {
	u := patient
	if q.Brief {
		u = brief
	}
	answers, _ := s.askAll(s.ctx, q.Kind, q.Query, u.elsewhere(), false)
	for _, a := range answers {
		_ = s.broadcast(&gossip{Answer: &nodeAnswer{ID: q.ID, Answer: a}}) // lost, it is one that did not answer
	}
	_ = s.broadcast(&gossip{Answer: &nodeAnswer{ID: q.ID, Done: true}})
}

// takeFrom is what another node's replica answered.
func (rs *reports) takeFrom(node string, m *nodeAnswer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if m.Done {
		delete(rs.lateNodes, node)
	}
	a := rs.asking[m.ID]
	switch {
	case a == nil || !a.nodes[node]:
	case m.Done:
		delete(a.nodes, node)
		a.settle()
	default:
		a.add(m.Answer)
	}
}

// tellAlerts lets the other nodes know of alerts that are kept here.
func (s *Server) tellAlerts(replica string, alerts []insight.Alert) {
	if s.nodes == nil {
		return
	}
	for part := range slices.Chunk(alerts, maxAlerts) {
		if err := s.broadcast(&gossip{Alerts: &nodeAlerts{replica, part}}); err != nil {
			s.logger.Warn("the other control nodes are not told of alerts that are kept here", "error", err)
		}
	}
}

// heardNodes are the other nodes that are there.
func (r *replicas) heardNodes() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes := make(map[string]bool, len(r.heard))
	for node, at := range r.heard {
		if time.Since(at) < nodeLost {
			nodes[node] = true
		}
	}
	return nodes
}
