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

// Bounds of what replicas may tell.
const (
	askTime    = time.Second // that an answer may take, where the caller allows more
	briefTime  = 100 * time.Millisecond
	maxAnswers = 64 << 20 // bytes of the answers to one query
	maxAsking  = 8        // queries at once; more wait for their turn
	maxTaken   = 4096     // replicas whose last number is remembered, with those that report now
)

// reports are the replicas that can be asked, and what they are being asked.
type reports struct {
	onAlerts    func(ctx context.Context, from Replica, alerts []insight.Alert) error
	onElsewhere func(name string, alerts []insight.Alert)
	slots       chan struct{} // of maxAsking
	briefSlots  chan struct{} // likewise, so that slow queries do not hold up brief ones
	faults      rate.Sometimes

	mu        sync.Mutex
	all       map[identity]*report
	lateNodes map[string]bool     // missed their last answer
	taken     map[identity]uint64 // the last number, so that what comes again counts once
	asking    map[uint64]*asking
	last      uint64 // id of a query
}

func newReports(onAlerts func(context.Context, Replica, []insight.Alert) error, onElsewhere func(string, []insight.Alert)) *reports {
	if onAlerts == nil {
		onAlerts = func(context.Context, Replica, []insight.Alert) error { return nil }
	}
	if onElsewhere == nil {
		onElsewhere = func(string, []insight.Alert) {}
	}
	return &reports{
		last:     rand.Uint64(), //nolint:gosec // so that it is no other node's; no secret
		onAlerts: onAlerts, onElsewhere: onElsewhere, slots: make(chan struct{}, maxAsking), briefSlots: make(chan struct{}, maxAsking), faults: rate.Sometimes{Interval: 10 * time.Second},
		all: make(map[identity]*report), lateNodes: make(map[string]bool), taken: make(map[identity]uint64), asking: make(map[uint64]*asking),
	}
}

// report is one stream of a replica that reports. One goroutine receives, and
// waits with it until alerts are kept; run, on the goroutine of the call,
// watches over it and over the one that sends.
type report struct {
	server *Server
	ctx    context.Context
	cancel context.CancelCauseFunc
	stream feedpb.Feed_ReportServer
	id     identity

	queries chan *feedpb.Query // to be sent
	taken   chan uint64        // likewise; holds the last
	late    bool               // missed its last answer; guarded by reports.mu
}

// Report takes what one replica has seen, for as long as it lives.
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

// origin returns the replica that reports, by what is known of it from its
// Follow stream. It fails if the replica does not follow this node: a Follow
// stream is what bounds the replicas of a credential.
func (r *report) origin() (Replica, error) {
	from, err := r.server.replicas.following(r.id, r.server.src.Revision())
	if err != nil {
		return Replica{}, status.Error(codes.FailedPrecondition, err.Error())
	}
	return from, nil
}

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

// alerts passes on what can be read, and says that all is taken once it is
// kept: what cannot be read would be no better the next time.
func (r *report) alerts(m *feedpb.Alerts) error {
	if len(m.GetAlerts()) > maxAlerts {
		return status.Errorf(codes.InvalidArgument, "one message has at most %d alerts", maxAlerts)
	}
	if r.server.reports.again(r.id, m.Number) {
		r.say(m.Number)
		return nil
	}
	alerts := make([]insight.Alert, 0, len(m.Alerts))
	for _, b := range m.Alerts {
		var a insight.Alert
		if err := json.Unmarshal(b, &a); err != nil || len(b) > maxAlert {
			r.server.reports.faults.Do(func() {
				r.server.logger.Warn("an alert cannot be read, and is lost", "replica", r.id.name, "bytes", len(b))
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
	r.server.tellAlerts(r.id.name, alerts)
	r.server.reports.note(r.id, m.Number)
	r.say(m.Number)
	return nil
}

// say has it said that all is taken up to a number: the last one said counts.
func (r *report) say(number uint64) {
	select {
	case <-r.taken:
	default:
	}
	r.taken <- number
}

// again tells whether alerts came before: they were kept, and it was not heard
// that they were.
func (rs *reports) again(id identity, number uint64) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return number <= rs.taken[id]
}

func (rs *reports) note(id identity, number uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if len(rs.taken) >= maxTaken {
		maps.DeleteFunc(rs.taken, func(id identity, _ uint64) bool { return rs.all[id] == nil })
	}
	rs.taken[id] = number
}

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

// join makes r the stream of its replica, and ends an older one.
func (rs *reports) join(r *report) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if old := rs.all[r.id]; old != nil {
		old.cancel(errReplaced)
	}
	rs.all[r.id] = r
}

// hangUp ends the stream of a replica that follows no more, if it has one.
func (rs *reports) hangUp(id identity) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r := rs.all[id]; r != nil {
		r.cancel(errNotFollowed)
	}
}

var errNotFollowed = status.Error(codes.Aborted, "the replica follows no more")

func (rs *reports) leave(r *report) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.all[r.id] == r {
		delete(rs.all, r.id)
	}
	for _, a := range rs.asking {
		a.release(r)
	}
}
