package feed

import (
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// Bounds of queries and reports.
const (
	askTime    = time.Second // for an answer, where the caller allows more
	briefTime  = 100 * time.Millisecond
	maxAnswers = 64 << 20 // bytes of the answers to one query
	maxAsking  = 8        // queries at once; further ones wait
	maxTaken   = 4096     // replicas whose last number is remembered, beside those that report now
)

// reports are the replicas that report here, and the queries under way.
type reports struct {
	onAlerts     func(ctx context.Context, from Replica, alerts []insight.Alert) error
	onPeerAlerts func(name string, alerts []insight.Alert)
	slots        chan struct{} // has maxAsking places
	briefSlots   chan struct{} // likewise; slow queries do not hold up brief ones
	faults       rate.Sometimes

	mu        sync.Mutex
	all       map[identity]*report
	lateNodes map[string]bool     // missed their last answer
	taken     map[identity]uint64 // the last number, so that repeated alerts count once
	pending   map[uint64]*pendingQuery
	last      uint64 // id of a query
}

func newReports(onAlerts func(context.Context, Replica, []insight.Alert) error, onPeerAlerts func(string, []insight.Alert)) *reports {
	if onAlerts == nil {
		onAlerts = func(context.Context, Replica, []insight.Alert) error { return nil }
	}
	if onPeerAlerts == nil {
		onPeerAlerts = func(string, []insight.Alert) {}
	}
	return &reports{
		last:     rand.Uint64(), //nolint:gosec // no secret; distinct from the ids of other nodes
		onAlerts: onAlerts, onPeerAlerts: onPeerAlerts, slots: make(chan struct{}, maxAsking), briefSlots: make(chan struct{}, maxAsking), faults: rate.Sometimes{Interval: 10 * time.Second},
		all: make(map[identity]*report), lateNodes: make(map[string]bool), taken: make(map[identity]uint64), pending: make(map[uint64]*pendingQuery),
	}
}

// report is one Report stream. One goroutine receives, and waits until the alerts
// of one message are kept before the goroutine takes the next message. Another
// goroutine sends. run, on the goroutine of the call, watches both goroutines.
type report struct {
	server *Server
	ctx    context.Context
	cancel context.CancelCauseFunc
	stream feedpb.Feed_ReportServer
	id     identity

	queries chan *feedpb.Query // to be sent
	taken   chan uint64        // to be sent; holds the last number alone
	late    bool               // missed its last answer; guarded by reports.mu
}

// Report serves the reports of one replica until its stream ends.
func (s *Server) Report(stream feedpb.Feed_ReportServer) error {
	ctx, cancel, token, leave, err := s.enter(stream.Context())
	if err != nil {
		return err
	}
	defer leave()
	r := &report{
		server: s, ctx: ctx, cancel: cancel, stream: stream,
		queries: make(chan *feedpb.Query, maxQueries), taken: make(chan uint64, 1),
	}
	return s.verdict(stream.Context(), ctx, r.run(token))
}

// run serves the replica of the token until the stream ends, and returns the
// reason.
func (r *report) run(token string) error {
	s := r.server
	m, err := first(r.ctx, s, r.stream.Recv)
	if err != nil {
		return err
	}
	if r.id, err = identityOf(token, m.GetHello()); err != nil {
		return err
	}
	s.reports.join(r)
	defer s.reports.leave(r)
	if _, err := r.origin(); err != nil {
		return err
	}
	ended := make(chan error, 2)
	s.running.Go(func() { ended <- r.receive() })
	w := &watched{start: time.Now().Add(-1)}
	s.running.Go(func() { ended <- r.send(w) })
	return w.watch(r.ctx, ended)
}

// origin returns the replica that reports, with the description of its Follow
// stream. origin fails if the replica does not follow this node, because the bound
// of replicas for each credential holds for Follow streams.
func (r *report) origin() (Replica, error) {
	from, err := r.server.replicas.following(r.id, r.server.src.Revision())
	if err != nil {
		return Replica{}, status.Error(codes.FailedPrecondition, err.Error())
	}
	return from, nil
}

// receive takes in the alerts and answers of the replica until its stream ends.
func (r *report) receive() error {
	for {
		m, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.GetKind().(type) {
		case *feedpb.ReplicaMessage_Alerts:
			err = r.alerts(m.Alerts)
		case *feedpb.ReplicaMessage_Answer:
			r.server.reports.take(r, m.Answer)
		default:
			err = status.Error(codes.InvalidArgument, "after the hello only alerts and answers are expected")
		}
		if err != nil {
			return err
		}
	}
}

// alerts passes on the readable alerts of a message, and acknowledges the whole
// message once these alerts are kept. An unreadable alert is dropped, because the
// alert would be as unreadable the next time.
func (r *report) alerts(m *feedpb.Alerts) error {
	if len(m.GetAlerts()) > maxAlerts {
		return status.Errorf(codes.InvalidArgument, "one message has at most %d alerts", maxAlerts)
	}
	if r.server.reports.again(r.id, m.Number) {
		r.acknowledge(m.Number)
		return nil
	}
	alerts := make([]insight.Alert, 0, len(m.Alerts))
	for _, b := range m.Alerts {
		var a insight.Alert
		if err := json.Unmarshal(b, &a); err != nil || len(b) > maxAlert {
			r.server.reports.faults.Do(func() {
				r.server.logger.Warn("alert cannot be read, dropping it", "replica", r.id.name, "bytes", len(b))
			})
			continue
		}
		alerts = append(alerts, a)
	}
	from, err := r.origin()
	if err != nil {
		return err
	}
	if err := r.server.reports.onAlerts(r.ctx, from, alerts); err != nil {
		return status.Error(codes.Unavailable, "the alerts cannot be kept now: "+err.Error())
	}
	r.server.shareAlerts(r.id.name, alerts)
	r.server.reports.note(r.id, m.Number)
	r.acknowledge(m.Number)
	return nil
}

// acknowledge passes the number of the last kept alerts to the sending goroutine. A
// later number replaces an earlier number.
func (r *report) acknowledge(number uint64) {
	select {
	case <-r.taken:
	default:
	}
	r.taken <- number
}

// again reports whether the alerts of this number were kept before. The replica
// did not get the acknowledgement then.
func (rs *reports) again(id identity, number uint64) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return number <= rs.taken[id]
}

// note remembers the number of alerts that are kept.
func (rs *reports) note(id identity, number uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.taken) >= maxTaken {
		maps.DeleteFunc(rs.taken, func(id identity, _ uint64) bool { return rs.all[id] == nil })
	}
	rs.taken[id] = number
}

// send sends queries and acknowledgements until the stream ends.
func (r *report) send(w *watched) error {
	for {
		var m feedpb.ControlMessage
		select {
		case number := <-r.taken:
			m.Kind = &feedpb.ControlMessage_Taken{Taken: &feedpb.Taken{Number: number}}
		case q := <-r.queries:
			m.Kind = &feedpb.ControlMessage_Query{Query: q}
		case <-r.ctx.Done():
			return context.Cause(r.ctx)
		}
		if err := w.put(func() error { return r.stream.Send(&m) }); err != nil {
			return err
		}
	}
}

// join makes r the stream of its replica, and ends an older stream.
func (rs *reports) join(r *report) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if old := rs.all[r.id]; old != nil {
		old.cancel(errReplaced)
	}
	rs.all[r.id] = r
}

// hangUp ends the Report stream of a replica that follows no more.
func (rs *reports) hangUp(id identity) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.all[id]; r != nil {
		r.cancel(errNotFollowed)
	}
}

var errNotFollowed = status.Error(codes.Aborted, "the replica follows no more")

// leave notes that the stream is gone, and ends the wait of queries for its answer.
func (rs *reports) leave(r *report) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.all[r.id] == r {
		delete(rs.all, r.id)
	}
	for _, a := range rs.pending {
		a.release(r)
	}
}
