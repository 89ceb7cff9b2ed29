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
// MiB at most, for any requests.
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
// # Sampling and limit
//
// A line recorded at a rate below 1 names the rate, so that counts can be
// estimated. Of the denials that the rate selects, those of one reason and one
// source network have at most [Rates.MaxPerSecond] lines a second, and those of
// one reason ten times as many. The others are suppressed: once a second, and
// when the log closes, a summary line ([SummaryName]) for each reason and network
// has their number. If the summary cannot be written, the next one has the
// number. So lines, summaries and the metric of dropped records account for every
// selected decision.
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
	// of a batch. It stops waiting when the queue is half full. Default 100 ms.
	BatchDelay time.Duration
}

// Rates bound the number of records. A request that a policy would have denied
// without mode: observe counts as denied.
type Rates struct {
	Denied, Allowed float64 // shares of the decisions, from 0 to 1
	// MaxPerSecond is how many lines a second the denials of one reason and one
	// source network have. The reason revoked has at least 1000. Default 100.
	MaxPerSecond int
}

// Sizes of the queue and of a batch, in records.
const (
	defaultQueue = 4096
	maxBatch     = 512
)

// defaultDelay is the default of [Options.BatchDelay]. A batch costs more than its lines do.
const defaultDelay = 100 * time.Millisecond

// Log records decisions. It is safe for concurrent use.
type Log struct {
	output  Output
	log     *slog.Logger
	delay   time.Duration
	denied  rate
	allowed rate
	limit   *limit

	queue  chan *Record
	half   chan struct{} // holds one once the queue is half full
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
		o.BatchDelay = defaultDelay
	}
	l := &Log{
		output: o.Output, log: o.Logger, delay: o.BatchDelay, queue: make(chan *Record, o.Queue), half: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), limit: newLimit(),
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
		if err := errors.Join(o.Registerer.Register(l.lines), o.Registerer.Register(l.dropped), o.Registerer.Register(l.limit.total)); err != nil {
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
	if r.MaxPerSecond == 0 {
		r.MaxPerSecond = defaultPerSecond
	}
	l.limit.set(r.MaxPerSecond)
}

// Record records a decision if the rates select it and its limit is not met. It
// does not block and keeps no reference to r or d. span is the span of the
// decision. If span is zero, the record names the span that the request belongs to
// by its own word.
func (l *Log) Record(r *authz.Request, d *authz.Decision, at time.Time, took time.Duration, span trace.SpanContext) {
	denied := !d.Allow || d.WouldDeny != ""
	of := &l.allowed
	if denied {
		of = &l.denied
	}
	share, record := of.sample()
	if !record {
		return
	}
	if l.closed.Load() {
		l.dropped.WithLabelValues(logClosed).Inc()
		return
	}
	if denied && !l.admit(r, d, at, share) {
		return
	}
	out := NewRecord(r, d, at, took)
	out.Rate, out.Trace = share, span
	if !span.IsValid() && r != nil {
		out.Trace = Parent(r.Headers)
	}
	select {
	case l.queue <- out:
	default:
		l.dropped.WithLabelValues(queueFull).Inc()
	}
	if len(l.queue) >= cap(l.queue)/2 {
		select {
		case l.half <- struct{}{}:
		default: // the writer has not seen the last one yet
		}
	}
}

// admit reports whether a denial gets a line. If not, it is counted.
func (l *Log) admit(r *authz.Request, d *authz.Decision, at time.Time, share float64) bool {
	o := origin{cause: cause{d.Reason, d.WouldDeny, share}}
	if r != nil {
		o.network = networkOf(r.Source)
	}
	v := l.limit.admit(o, at)
	if v == ended {
		l.dropped.WithLabelValues(logClosed).Inc()
	}
	return v == written
}

// Close writes the queued records and the last summaries, and closes the output.
// If ctx ends first, Close drops and counts the remaining records, and returns an
// error.
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

// run is the goroutine that writes. Once a window it writes the summaries.
func (l *Log) run() {
	defer close(l.done)
	defer l.abort()
	batch := make([]*Record, 0, maxBatch)
	second := time.NewTicker(window)
	defer second.Stop()
	for {
		select {
		case r := <-l.queue:
			l.wait()
			l.drain(append(batch, r), second.C)
		case <-second.C:
			l.sumUp(false)
		case <-l.stop:
			l.drain(batch, nil)
			l.sumUp(true)
			l.err = l.output.Close(l.write)
			return
		}
	}
}

// drain writes batch and all queued records, with the summaries that come due.
func (l *Log) drain(batch []*Record, second <-chan time.Time) {
	for batch = l.fill(batch); len(batch) > 0; batch = l.fill(batch[:0]) {
		l.writeBatch(batch)
		clear(batch)
		select {
		case <-second:
			l.sumUp(false)
		default:
		}
	}
}

// sumUp writes the summaries of the window.
func (l *Log) sumUp(last bool) {
	summaries := l.limit.take(time.Now(), last)
	if len(summaries) == 0 {
		return
	}
	n, err := l.output.Write(l.write, summaries)
	for _, r := range summaries[n:] {
		l.limit.giveBack(r)
	}
	if err != nil {
		l.warn(err)
	}
}

// wait waits for more records, until the delay has passed, the queue is half full
// or the log is closed.
func (l *Log) wait() {
	over := time.NewTimer(l.delay)
	defer over.Stop()
	select {
	case <-over.C:
	case <-l.half:
	case <-l.stop:
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
	l.warn(err)
}

// warn logs that the output fails, once an interval.
func (l *Log) warn(err error) {
	if now := time.Now(); now.Sub(l.warned) >= warnInterval {
		l.warned = now
		l.log.Error("decision log not written, metrics count the lost records and a later summary the suppressed ones", slog.String("error", err.Error()))
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
