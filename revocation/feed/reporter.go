package feed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// Bounds of a Report stream.
const (
	maxReport  = 1 << 20 // bytes of one message of a replica
	maxQuery   = 64 << 10
	maxKind    = 64
	maxQueries = 8 // of one replica, that wait for their answer
)

// ReporterOptions configure a reporter.
type ReporterOptions struct {
	// Answer answers the control endpoint's queries, one at a time; default:
	// no query is answered.
	Answer func(kind string, query []byte) ([]byte, error)
	Logger *slog.Logger // default: discards
}

// Reporter sends the alerts of a replica to the control endpoint, over the
// connection that [Follow] has, and answers its queries. Alerts wait, within
// bounds, while there is no connection. Alerts that the control endpoint has not
// taken are sent again.
type Reporter struct {
	answer func(kind string, query []byte) ([]byte, error)
	logger *slog.Logger
	outbox outbox
	turn   chan struct{} // held by the connection that reports
	logged string        // the failure that was logged last; guarded by turn
}

// NewReporter returns a reporter. The reporter reports once it is among the
// options of [Follow].
func NewReporter(o ReporterOptions) *Reporter {
	r := &Reporter{answer: o.Answer, logger: o.Logger, turn: make(chan struct{}, 1)}
	if r.answer == nil {
		r.answer = func(string, []byte) ([]byte, error) {
			return nil, errors.New("this replica remembers no tokens: alerts.enabled is false")
		}
	}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	r.outbox.wake = make(chan struct{}, 1)
	r.outbox.pending = make(map[string]*insight.Alert)
	return r
}

// Add takes an alert to send, and never waits.
func (r *Reporter) Add(a insight.Alert) { r.outbox.add(a) }

// Reported are the figures of a reporter.
type Reported struct {
	Pending int    // alerts that the control endpoint has not taken yet
	Taken   uint64 // alerts that the control endpoint has taken
	Dropped uint64 // alerts that found no room among the pending ones
}

// Reported returns how many alerts are pending, taken and dropped.
func (r *Reporter) Reported() Reported { return r.outbox.reported() }

// Flush waits until every alert is taken, or ctx ends.
func (r *Reporter) Flush(ctx context.Context) {
	if drained := r.outbox.drained(); drained != nil {
		select {
		case <-drained:
		case <-ctx.Done():
		}
	}
}

// serve reports over conn until ctx ends. A control endpoint that takes no
// reports is asked again at the next connection.
func (r *Reporter) serve(ctx context.Context, conn *grpc.ClientConn, hello *feedpb.Hello) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return
	}
	pauses := newPauses()
	for ctx.Err() == nil {
		began := time.Now()
		err := r.report(ctx, conn, hello)
		if ctx.Err() != nil {
			return
		}
		r.logFailure(err)
		if status.Code(err) == codes.Unimplemented {
			return
		}
		if time.Since(began) > longestPause {
			pauses.Reset()
		}
		rest(ctx, pauses.NextBackOff())
	}
}

// logFailure logs why alerts cannot be sent, unless the last failure was the same.
func (r *Reporter) logFailure(err error) {
	state, msg := localPort.ReplaceAllString(err.Error(), ""), "alerts not sent, keeping them"
	if status.Code(err) == codes.Unimplemented {
		state, msg = "old", "control endpoint takes no alerts because it is older, keeping them"
	}
	if r.logged != state {
		r.logged = state
		r.logger.Warn(msg, "error", err)
	}
}

// report serves one stream until the stream ends. The goroutines of report end with
// the stream. Only a goroutine that is computing an answer may end later, because
// report does not wait for it.
func (r *Reporter) report(ctx context.Context, conn *grpc.ClientConn, hello *feedpb.Hello) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := feedpb.NewFeedClient(conn).Report(ctx, grpc.MaxCallRecvMsgSize(maxQuery+maxKind+64))
	if err != nil {
		return err
	}
	queries, answers := make(chan *feedpb.Query, maxQueries), make(chan *feedpb.Answer, maxQueries)
	ended := make(chan error, 1)
	var receiving sync.WaitGroup
	receiving.Go(func() { ended <- r.receive(stream, queries) })
	defer func() { cancel(); receiving.Wait() }()
	go r.work(ctx, queries, answers)
	err = r.send(stream, hello, answers, ended)
	if errors.Is(err, io.EOF) { // Recv returns the reason
		err = <-ended
	}
	return err
}

// send says hello, then sends alerts and answers until the stream ends.
func (r *Reporter) send(stream feedpb.Feed_ReportClient, hello *feedpb.Hello, answers <-chan *feedpb.Answer, ended <-chan error) error {
	err := stream.Send(&feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Hello{Hello: hello}})
	for r.outbox.again(); err == nil; {
		if m := r.outbox.next(); m != nil {
			err = stream.Send(&feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Alerts{Alerts: m}})
			continue
		}
		select {
		case <-r.outbox.wake:
		case a := <-answers:
			err = stream.Send(&feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Answer{Answer: a}})
		case err = <-ended:
		}
	}
	return err
}

// receive takes in the messages of the control endpoint, and closes queries at
// the end. A query that finds no room stays without an answer.
func (r *Reporter) receive(stream feedpb.Feed_ReportClient, queries chan<- *feedpb.Query) error {
	defer close(queries)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		if taken := m.GetTaken(); taken != nil {
			r.outbox.taken(taken.Number)
		}
		if q := m.GetQuery(); q != nil {
			select {
			case queries <- q:
			default:
			}
		}
	}
}

// work answers the queries until queries is closed.
func (r *Reporter) work(ctx context.Context, queries <-chan *feedpb.Query, answers chan<- *feedpb.Answer) {
	for q := range queries {
		a := &feedpb.Answer{Id: q.Id}
		b, err := r.answer(q.Kind, q.Query)
		switch {
		case err != nil:
			a.Error = insight.Text(err.Error())
		case len(b) > maxReport-64:
			a.Error = "the answer is too large"
		default:
			a.Answer = b
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
	}
}
