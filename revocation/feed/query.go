package feed

import (
	"context"
	"maps"
	"time"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// pendingQuery is a query under way. Its fields are guarded by reports.mu.
type pendingQuery struct {
	waiting map[*report]struct{}
	nodes   map[string]bool // nodes that are not done
	answers [][]byte
	bytes   int
	done    chan struct{} // closed when there is nothing more to wait for
}

// release ends the wait for r, and reports whether the query waited for r. The
// caller holds mu.
func (a *pendingQuery) release(r *report) (waited bool) {
	if _, waited = a.waiting[r]; !waited {
		return false
	}
	delete(a.waiting, r)
	a.settle()
	return true
}

// settle closes done if there is nothing to wait for. The caller holds mu.
func (a *pendingQuery) settle() {
	if len(a.waiting) > 0 || len(a.nodes) > 0 {
		return
	}
	select {
	case <-a.done:
	default:
		close(a.done)
	}
}

// add keeps an answer if there is room. The caller holds mu.
func (a *pendingQuery) add(answer []byte) {
	if a.bytes+len(answer) <= maxAnswers {
		a.bytes += len(answer)
		a.answers = append(a.answers, answer)
	}
}

// take takes the answer of a replica, which is not late from then on. take drops
// an answer that no query waits for any more.
func (rs *reports) take(r *report, m *feedpb.Answer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.late = false
	a := rs.pending[m.GetId()]
	if a == nil || !a.release(r) {
		return
	}
	if m.Error == "" {
		a.add(m.Answer)
		return
	}
	rs.faults.Do(func() {
		r.server.logger.Warn("replica refused a query", "replica", r.id.name, "error", insight.Text(m.Error))
	})
}

// urgency is how long a query waits for answers, and for which replicas.
type urgency struct {
	limit    time.Duration
	skipLate bool // do not wait for a replica that missed its last answer
}

var (
	patient = urgency{limit: askTime}
	brief   = urgency{limit: briefTime, skipLate: true}
)

// Ask puts a query to every replica that is connected, here or at another node,
// and gathers the answers that come within a second, or until ctx ends if that
// is sooner. asked counts all connected replicas, also those that do not report
// or have too much to answer already.
func (s *Server) Ask(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int) {
	return s.askWithin(ctx, kind, query, patient, s.replicas.connected())
}

// AskBriefly is Ask for a caller that must not be held up. AskBriefly waits for
// 100 ms at most. AskBriefly does not wait for a replica that missed an earlier
// answer until that replica has answered something. asked counts every replica that
// wait=all would wait for, so that a replica that was lost moments ago makes
// the answer incomplete.
func (s *Server) AskBriefly(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int) {
	return s.askWithin(ctx, kind, query, brief, s.replicas.counted())
}

// askWithin returns the answers of all nodes within the time of u. asked is at
// least expected.
func (s *Server) askWithin(ctx context.Context, kind string, query []byte, u urgency, expected int) (answers [][]byte, asked, answered int) {
	if len(kind) > maxKind || len(query) > maxQuery {
		return nil, expected, 0
	}
	answers, reached := s.askAll(ctx, kind, query, u, s.nodes != nil)
	return answers, max(expected, reached, len(answers)), len(answers)
}

// askAll puts a query to the replicas here, and to those of other nodes too if
// everywhere is set.
func (s *Server) askAll(of context.Context, kind string, query []byte, u urgency, everywhere bool) (answers [][]byte, reached int) {
	ctx, cancel := context.WithTimeout(of, u.limit)
	defer cancel()
	rs := s.reports
	slots := rs.slots
	if u.skipLate {
		slots = rs.briefSlots
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return nil, 0
	}
	var nodes map[string]bool
	if everywhere {
		nodes = s.replicas.liveNodes()
	}
	a, id, reached := rs.begin(kind, query, nodes, u)
	if len(nodes) > 0 {
		if err := s.broadcast(&gossip{Query: &nodeQuery{id, kind, query, u.skipLate}}); err != nil {
			rs.forgetNodes(a)
		}
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return rs.end(id, of.Err() == nil && ctx.Err() != nil), reached
}

// end returns the answers to a query. If late is set, end notes the replicas and
// nodes without an answer as late.
func (rs *reports) end(id uint64, late bool) [][]byte {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	a := rs.pending[id]
	delete(rs.pending, id)
	if late {
		for r := range a.waiting {
			r.late = true
		}
		for node := range a.nodes {
			rs.lateNodes[node] = true
		}
	}
	return a.answers
}

// forgetNodes ends the wait for other nodes.
func (rs *reports) forgetNodes(a *pendingQuery) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	clear(a.nodes)
	a.settle()
}

// begin sends the query to all replicas here that have room for a query. The query
// waits for these replicas and for the nodes. If u says so, the query does not
// wait for a late replica or node, which still gets the query and can catch up.
func (rs *reports) begin(kind string, query []byte, nodes map[string]bool, u urgency) (a *pendingQuery, id uint64, reached int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.last++
	waitFor := maps.Clone(nodes)
	if u.skipLate {
		maps.DeleteFunc(waitFor, func(node string, _ bool) bool { return rs.lateNodes[node] })
	}
	a = &pendingQuery{waiting: make(map[*report]struct{}), nodes: waitFor, done: make(chan struct{})}
	q := &feedpb.Query{Id: rs.last, Kind: kind, Query: query}
	for _, r := range rs.all {
		select {
		case r.queries <- q:
			if !u.skipLate || !r.late {
				a.waiting[r] = struct{}{}
			}
		default:
		}
	}
	a.settle()
	rs.pending[rs.last] = a
	return a, rs.last, len(rs.all)
}
