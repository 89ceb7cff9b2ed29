// Package decisionlog records decisions, one line each: who was denied, why and
// from where, and a sample of who was allowed.
//
// # Off the path of a Check
//
// [Log.Record] copies what it needs, cut to what can be shown, into a bounded
// queue and returns. If the queue is full the record is dropped and counted
// ([Options.Registerer]); a Check never waits for a disk, a pipe or a
// collector. One goroutine takes records from the queue, cleans them and hands
// them to the [Output], many at once: when one has come it waits a moment for
// more, so that a record wakes nobody. What the queue can hold is at most some
// 20 MiB, whatever is in the requests.
//
// # What is in a line
//
// The schema is [Schema]: flat JSON, with the attribute names of OpenTelemetry
// where it has one and rescind.* where not; a member that is not known is left
// out. The same attributes are those of an exported log record and of a span
// (authz/tracing). Client addresses are recorded as networks. The path of a
// request is not recorded: it may carry what is secret, and Envoy's access log
// has it under the same decision id.
//
// # Trust
//
// Subjects, ids and key ids are the issuer's word; x-request-id and traceparent
// are the client's. All of it is cut to [insight.MaxText] bytes, stripped of
// what is not printable, and quoted: it cannot end a line, begin a member or
// move a cursor. A raw token is never in a line: not even in place of something
// else, such as the request id.
//
// With a sampling rate below 1, each line says which it was recorded at, so
// that counts can be estimated.
package decisionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
)

// Options of a [Log].
type Options struct {
	Rates      Rates
	Output     Output                // closed by Close
	Registerer prometheus.Registerer // nil: no figures
	Logger     *slog.Logger          // is told when records cannot be written
	Queue      int                   // default 4096 records
	// Moment is for how long the writer lets records gather. A queue that is
	// half full ends it. Default 20 ms.
	Moment time.Duration
}

// Rates are the shares of decisions that are recorded, from 0 to 1. What a
// policy would have denied, if it did more than observe, counts as denied.
type Rates struct{ Denied, Allowed float64 }

// Sizes of what waits and of what is written at once, in records.
const (
	defaultQueue = 4096
	maxBatch     = 512
)

// step is after how long the writer looks at the queue again.
const step = 20 * time.Millisecond

// Log records decisions. It is safe for concurrent use.
type Log struct {
	output  Output
	log     *slog.Logger
	moment  time.Duration
	denied  rate
	allowed rate

	queue  chan *Record
	closed atomic.Bool
	once   sync.Once
	stop   chan struct{} // closed by Close
	done   chan struct{} // closed when the writer has ended
	err    error         // of the output; set before done
	write  context.Context
	abort  context.CancelFunc

	lines   prometheus.Counter
	dropped *prometheus.CounterVec
	warned  time.Time // owned by the writer
}

// Why a record was dropped.
const (
	queueFull   = "queue_full"
	writeFailed = "write_failed"
	isClosed    = "closed"
)

// New starts a log.
func New(o Options) (*Log, error) {
	if o.Output == nil {
		return nil, errors.New("a decision log needs an output")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Queue == 0 {
		o.Queue = defaultQueue
	}
	if o.Moment == 0 {
		o.Moment = step
	}
	l := &Log{
		output: o.Output, log: o.Logger, moment: o.Moment, queue: make(chan *Record, o.Queue), stop: make(chan struct{}), done: make(chan struct{}),
		lines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_decision_log_records_total", Help: "Decisions recorded in the decision log.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_decision_log_dropped_total", Help: "Decisions that should have been recorded and were not, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{queueFull, writeFailed, isClosed} {
		l.dropped.WithLabelValues(reason)
	}
	l.SetRates(o.Rates)
	if o.Registerer != nil {
		if err := errors.Join(o.Registerer.Register(l.lines), o.Registerer.Register(l.dropped)); err != nil {
			return nil, err
		}
	}
	l.write, l.abort = context.WithCancel(context.Background())
	go l.run()
	return l, nil
}

// SetRates changes the rates, for decisions from now on.
func (l *Log) SetRates(r Rates) {
	l.denied.set(r.Denied)
	l.allowed.set(r.Allowed)
}

// Record records a decision, or not, as the rates say. It does not block, and
// keeps nothing of what it is given. in is the span that the decision has been
// recorded in; if it is the zero one the record names the span that the request
// says it belongs to.
func (l *Log) Record(r *authz.Request, d *authz.Decision, at time.Time, took time.Duration, in trace.SpanContext) {
	of := &l.denied
	if d.Allow && d.WouldDeny == "" {
		of = &l.allowed
	}
	share, record := of.sample()
	if !record {
		return
	}
	out := NewRecord(r, d, at, took)
	out.Rate, out.Trace = share, in
	if !in.IsValid() && r != nil {
		out.Trace = Parent(r.Headers)
	}
	if l.closed.Load() {
		l.dropped.WithLabelValues(isClosed).Inc()
		return
	}
	select {
	case l.queue <- out:
	default:
		l.dropped.WithLabelValues(queueFull).Inc()
	}
}

// Close writes what has been recorded, and closes the output. When ctx ends,
// what is left is given up: it is counted, and that is the error.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() {
		l.closed.Store(true)
		close(l.stop)
	})
	select {
	case <-l.done:
	case <-ctx.Done():
		l.abort() // ends an export; a write to a pipe that nobody reads it does not
		return fmt.Errorf("the decision log could not be written to its end: %w", context.Cause(ctx))
	}
	return l.err
}

// run is the one goroutine that writes.
func (l *Log) run() {
	defer close(l.done)
	defer l.abort()
	batch := make([]*Record, 0, maxBatch)
	for {
		select {
		case r := <-l.queue:
			l.gather()
			for batch = l.more(append(batch[:0], r)); len(batch) > 0; batch = l.more(batch[:0]) {
				l.put(batch)
				clear(batch)
			}
		case <-l.stop:
			for batch = l.more(batch[:0]); len(batch) > 0; batch = l.more(batch[:0]) {
				l.put(batch)
			}
			l.err = l.output.Close(l.write)
			return
		}
	}
}

// gather waits a moment, or until the end.
func (l *Log) gather() {
	tick := time.NewTicker(min(step, l.moment))
	defer tick.Stop()
	for end := time.Now().Add(l.moment); time.Now().Before(end) && len(l.queue) < cap(l.queue)/2; {
		select {
		case <-tick.C:
		case <-l.stop:
			return
		}
	}
}

// more takes what waits, as far as there is room in batch.
func (l *Log) more(batch []*Record) []*Record {
	for len(batch) < cap(batch) {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// complaints are at least so far apart.
const complaints = time.Minute

func (l *Log) put(batch []*Record) {
	n, err := l.output.Write(l.write, batch)
	l.lines.Add(float64(n))
	if err == nil {
		return
	}
	l.dropped.WithLabelValues(writeFailed).Add(float64(len(batch) - n))
	if now := time.Now(); now.Sub(l.warned) >= complaints {
		l.warned = now
		l.log.Error("the decision log cannot be written; what is lost is counted in rescind_decision_log_dropped_total", slog.String("error", err.Error()))
	}
}

// rate is a share that can be changed while it is used.
type rate struct{ bits atomic.Uint64 }

func (r *rate) set(share float64) { r.bits.Store(math.Float64bits(share)) }

// sample says whether this one is among those to be recorded.
func (r *rate) sample() (share float64, yes bool) {
	share = math.Float64frombits(r.bits.Load())
	return share, share > 0 && (share >= 1 || rand.Float64() < share) //nolint:gosec // no secret depends on it
}
