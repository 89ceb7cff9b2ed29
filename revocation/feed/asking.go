package feed

import (
	"context"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// asking is a query under way. Its fields are guarded by reports.mu.
type asking struct {
	waiting map[*report]struct{}
	nodes   map[string]bool // others that have not said that they are done
	answers [][]byte
	bytes   int
	done    chan struct{} // closed when nobody is waited for any more
}

// release waits for r no longer. The caller holds mu.
func (a *asking) release(r *report) (waited bool) {
	if _, waited = a.waiting[r]; !waited {
		return false
	}
	delete(a.waiting, r)
	a.settle()
	return true
}

// settle ends the wait if there is nobody to wait for. The caller holds mu.
func (a *asking) settle() {
	if len(a.waiting) > 0 || len(a.nodes) > 0 {
		return
	}
	select {
	case <-a.done:
	default:
		close(a.done)
	}
}

// add takes an answer, if there is room. The caller holds mu.
func (a *asking) add(answer []byte) {
	if a.bytes+len(answer) <= maxAnswers {
		a.bytes += len(answer)
		a.answers = append(a.answers, answer)
	}
}

// take is an answer. One that nobody waits for any more is dropped.
func (rs *reports) take(r *report, m *feedpb.Answer) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	a := rs.asking[m.GetId()]
	if a == nil || !a.release(r) {
		return
	}
	if m.Error == "" {
		a.add(m.Answer)
		return
	}
	rs.faults.Do(func() {
		r.server.logger.Warn("a replica does not answer what it was asked", "replica", r.id.name, "error", insight.Text(m.Error))
	})
}

// Ask puts a query to every replica that is connected, here or at another node,
// and gathers what comes back within a second, or until ctx ends if that is
// sooner. Replicas that do not report, or have too much to answer already, are
// among those asked.
func (s *Server) Ask(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int) {
	connected := s.replicas.connected()
	if len(kind) > maxKind || len(query) > maxQuery {
		return nil, connected, 0
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answers, reached := s.askAll(ctx, kind, query, s.nodes != nil)
	return answers, max(connected, reached, len(answers)), len(answers)
}

// askAll asks the replicas here, and those elsewhere too if everywhere is set.
func (s *Server) askAll(ctx context.Context, kind string, query []byte, everywhere bool) (answers [][]byte, reached int) {
	rs := s.reports
	select {
	case rs.slots <- struct{}{}:
		defer func() { <-rs.slots }()
	case <-ctx.Done():
		return nil, 0
	}
	var nodes map[string]bool
	if everywhere {
		nodes = s.replicas.heardNodes()
	}
	a, id, reached := rs.begin(kind, query, nodes)
	if len(nodes) > 0 {
		if err := s.tellNodes(word{Query: &nodeQuery{id, kind, query}}); err != nil {
			rs.alone(a)
		}
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.asking, id)
	return a.answers, reached
}

// alone waits for no other node.
func (rs *reports) alone(a *asking) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	clear(a.nodes)
	a.settle()
}

// begin sends the query to all here that have room for it, and waits for these
// nodes too.
func (rs *reports) begin(kind string, query []byte, nodes map[string]bool) (a *asking, id uint64, reached int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.last++
	a = &asking{waiting: make(map[*report]struct{}), nodes: nodes, done: make(chan struct{})}
	q := &feedpb.Query{Id: rs.last, Kind: kind, Query: query}
	for _, r := range rs.all {
		select {
		case r.queries <- q:
			a.waiting[r] = struct{}{}
		default:
		}
	}
	a.settle()
	rs.asking[rs.last] = a
	return a, rs.last, len(rs.all)
}
