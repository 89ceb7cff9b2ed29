// Package decisionlog records decisions, one line each: the denied requests with
// reason and source network, and a sample of the allowed requests.
//
// # The path of a Check
//
// [Log.Record] copies the texts that it needs, cut to the size that is shown,
// into a bounded queue and returns. If the queue is full, the record is dropped
// and counted in a metric. A Check never waits for a disk, a pipe or a
// collector. One goroutine takes the records from the queue, cleans them and
// hands them to the [Output] in batches. After the first record it waits for
// more, so that a single record does not wake it. A full queue takes about 20
// MiB at most, whatever the requests contain.
//
// # The line
//
// The schema is [Schema]: flat JSON. Its names are the attribute names of
// OpenTelemetry where there is one, and rescind.* otherwise. A member without a
// value is left out. An exported log record and a span (authz/tracing) have the
// same attributes. The address of a client is recorded as a network. The path is
// recorded without the query, because a query may contain secrets.
//
// # Trust
//
// Subjects, token IDs and key IDs are the issuer's word. x-request-id,
// traceparent, the host, the path and every rescind.token.unverified.* are the
// client's word. Each is cut to [insight.MaxText] bytes,
// cleaned of unprintable characters, and quoted, so it cannot end a line, begin
// a member or move a cursor. No line contains a raw token, even if a client
// sends its token as x-request-id.
//
// # Sampling
//
// A line recorded at a rate below 1 names the rate, so that counts can be
// estimated.
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
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // for records that cannot be written; nil: slog.Default()
	Queue      int                   // default 4096 records
	// BatchDelay is how long the writer waits for more records after the first
	// of a batch. It stops waiting when the queue is half full. Default 20 ms.
	BatchDelay time.Duration
}

// Rates are the shares of decisions that are recorded, from 0 to 1. A request
// that a policy would have denied without mode: observe counts as denied.
type Rates struct{ Denied, Allowed float64 }

// Sizes of the queue and of a batch, in records.
const (
	defaultQueue = 4096
	maxBatch     = 512
)

// pollInterval is how often a waiting writer looks at the length of the queue.
const pollInterval = 20 * time.Millisecond

// Log records decisions. It is safe for concurrent use.
type Log struct {
	output  Output
	log     *slog.Logger
	delay   time.Duration
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

// Reasons for a dropped record, as the label of a metric.
const (
	queueFull   = "queue_full"
	writeFailed = "write_failed"
	logClosed   = "closed"
)

// New returns a log and starts its writer.
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
	if o.BatchDelay == 0 {
		o.BatchDelay = pollInterval
	}
	l := &Log{
		output: o.Output, log: o.Logger, delay: o.BatchDelay, queue: make(chan *Record, o.Queue), stop: make(chan struct{}), done: make(chan struct{}),
		lines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_decision_log_records_total", Help: "Decisions recorded in the decision log.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_decision_log_dropped_total", Help: "Decisions that were not recorded although they should have been, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{queueFull, writeFailed, logClosed} {
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

// SetRates changes the rates for later decisions.
func (l *Log) SetRates(r Rates) {
	l.denied.set(r.Denied)
	l.allowed.set(r.Allowed)
}

// Record records a decision if the rates select it. It does not block and keeps
// no reference to r or d. span is the span of the decision. If span is zero, the
// record names the span that the request belongs to by its own word.
func (l *Log) Record(r *authz.Request, d *authz.Decision, at time.Time, took time.Duration, span trace.SpanContext) {
	of := &l.denied
	if d.Allow && d.WouldDeny == "" {
		of = &l.allowed
	}
	share, record := of.sample()
	if !record {
		return
	}
	out := NewRecord(r, d, at, took)
	out.Rate, out.Trace = share, span
	if !span.IsValid() && r != nil {
		out.Trace = Parent(r.Headers)
	}
	if l.closed.Load() {
		l.dropped.WithLabelValues(logClosed).Inc()
		return
	}
	select {
	case l.queue <- out:
	default:
		l.dropped.WithLabelValues(queueFull).Inc()
	}
}

// Close writes the queued records and closes the output. If ctx ends first,
// Close drops and counts the remaining records, and returns an error.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() {
		l.closed.Store(true)
		close(l.stop)
	})
	select {
	case <-l.done:
	case <-ctx.Done():
		l.abort() // ends an export, but not a write to a pipe without a reader
		return fmt.Errorf("the decision log was not written completely: %w", context.Cause(ctx))
	}
	return l.err
}

// run is the goroutine that writes.
func (l *Log) run() {
	defer close(l.done)
	defer l.abort()
	batch := make([]*Record, 0, maxBatch)
	for {
		select {
		case r := <-l.queue:
			l.wait()
			for batch = l.fill(append(batch[:0], r)); len(batch) > 0; batch = l.fill(batch[:0]) {
				l.writeBatch(batch)
				clear(batch)
			}
		case <-l.stop:
			for batch = l.fill(batch[:0]); len(batch) > 0; batch = l.fill(batch[:0]) {
				l.writeBatch(batch)
			}
			l.err = l.output.Close(l.write)
			return
		}
	}
}

// wait waits for more records, until the delay has passed, the queue is half full
// or the log is closed.
func (l *Log) wait() {
	tick := time.NewTicker(min(pollInterval, l.delay))
	defer tick.Stop()
	for end := time.Now().Add(l.delay); time.Now().Before(end) && len(l.queue) < cap(l.queue)/2; {
		select {
		case <-tick.C:
		case <-l.stop:
			return
		}
	}
}

// fill appends queued records to batch until it is full or the queue is empty.
func (l *Log) fill(batch []*Record) []*Record {
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

// warnInterval is the shortest time between two errors in the log.
const warnInterval = time.Minute

// writeBatch writes a batch and counts the records that were lost.
func (l *Log) writeBatch(batch []*Record) {
	n, err := l.output.Write(l.write, batch)
	l.lines.Add(float64(n))
	if err == nil {
		return
	}
	l.dropped.WithLabelValues(writeFailed).Add(float64(len(batch) - n))
	if now := time.Now(); now.Sub(l.warned) >= warnInterval {
		l.warned = now
		l.log.Error("decision log not written, lost records are counted in rescind_decision_log_dropped_total", slog.String("error", err.Error()))
	}
}

// rate is a share that can change while it is used.
type rate struct{ bits atomic.Uint64 }

func (r *rate) set(share float64) { r.bits.Store(math.Float64bits(share)) }

// sample returns the share, and whether this decision is selected.
func (r *rate) sample() (share float64, yes bool) {
	share = math.Float64frombits(r.bits.Load())
	return share, share > 0 && (share >= 1 || rand.Float64() < share) //nolint:gosec // no secret depends on it
}
