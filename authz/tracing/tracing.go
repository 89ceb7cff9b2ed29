// Package tracing records decisions as OpenTelemetry spans in the trace that the
// checked request belongs to.
//
// # Cost
//
// A span is made after the decision, from its start time and duration, and only
// if it is sampled. An unsampled decision costs a look at the headers. The span
// has no children, so nothing needs it earlier.
//
// # Sampling
//
// The parent is the span in the traceparent header of the checked request, or
// else the span of Envoy's own call. If there is a parent, its sampled flag
// decides, so that a trace is recorded completely or not at all. Without a parent
// a share of [Options.Ratio] of the decisions begins a trace.
//
// # Trust
//
// A traceparent may come from the client. With the sampled flag it causes work
// here and storage at the collector, so there are at most [Options.MaxPerSecond]
// spans. Further ones are counted and not recorded. A span has the same
// attributes as a line of the decision log (authz/decisionlog), cleaned and cut
// in the same way.
package tracing

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/metadata"

	"rescind/authz"
	"rescind/authz/decisionlog"
)

// Options of a [Tracer].
type Options struct {
	Exporter     sdktrace.SpanExporter // closed by Close
	Resource     *resource.Resource
	Ratio        float64               // of the decisions without a parent, from 0 to 1
	MaxPerSecond int                   // spans; default 200
	Registerer   prometheus.Registerer // nil: no metrics
}

const defaultMaxPerSecond = 200

// SpanName is the name of each span.
const SpanName = "rescind.check"

// Tracer records decisions. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	ratio    atomic.Uint64 // bits of a float64
	limit    *rate.Limiter
	limited  prometheus.Counter
}

// New returns a tracer.
func New(o Options) (*Tracer, error) {
	if o.Exporter == nil {
		return nil, errors.New("a tracer needs an exporter")
	}
	if o.MaxPerSecond == 0 {
		o.MaxPerSecond = defaultMaxPerSecond
	}
	spans := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rescind_spans_total", Help: "Sampled decisions by result: exported as spans, failed to export, or limited by the number of spans per second.",
	}, []string{"result"})
	counted := &countedExporter{o.Exporter, spans.WithLabelValues("exported"), spans.WithLabelValues("failed")}
	t := &Tracer{
		// Record has sampled before it calls the SDK.
		provider: sdktrace.NewTracerProvider(sdktrace.WithResource(o.Resource), sdktrace.WithSampler(sdktrace.AlwaysSample()), sdktrace.WithBatcher(counted)),
		limit:    rate.NewLimiter(rate.Limit(o.MaxPerSecond), o.MaxPerSecond),
		limited:  spans.WithLabelValues("limited"),
	}
	t.tracer = t.provider.Tracer("rescind/authz/tracing")
	t.SetRatio(o.Ratio)
	if o.Registerer != nil {
		if err := o.Registerer.Register(spans); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// SetRatio changes the ratio for later decisions.
func (t *Tracer) SetRatio(ratio float64) { t.ratio.Store(math.Float64bits(ratio)) }

// Record records a decision if it is sampled, and returns its span. Otherwise it
// returns the zero SpanContext. ctx is the context of Envoy's call.
func (t *Tracer) Record(ctx context.Context, r *authz.Request, d *authz.Decision, at time.Time, took time.Duration) trace.SpanContext {
	parent, sampled := t.sample(ctx, r)
	if !sampled {
		return trace.SpanContext{}
	}
	if !t.limit.Allow() {
		t.limited.Inc()
		return trace.SpanContext{}
	}
	if r != nil && decisionlog.Parent(r.Headers).IsValid() { // tracestate belongs to traceparent
		parent = parent.WithTraceState(decisionlog.State(r.Headers))
	}
	record := decisionlog.NewRecord(r, d, at, took)
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), SpanName,
		trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(record.Attributes()...))
	if d.Reason == authz.Internal {
		span.SetStatus(codes.Error, "the decision could not be made")
	}
	span.End(trace.WithTimestamp(at.Add(took)))
	return span.SpanContext()
}

// sample returns the parent, and whether the decision is sampled. It allocates
// nothing.
func (t *Tracer) sample(ctx context.Context, r *authz.Request) (parent trace.SpanContext, sampled bool) {
	if r != nil {
		parent = decisionlog.Parent(r.Headers)
	}
	if !parent.IsValid() {
		if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) == 1 {
			parent = decisionlog.ParseParent(values[0])
		}
	}
	if parent.IsValid() {
		return parent, parent.IsSampled()
	}
	ratio := math.Float64frombits(t.ratio.Load())
	return parent, ratio > 0 && (ratio >= 1 || rand.Float64() < ratio) //nolint:gosec // no secret depends on it
}

// Close exports the remaining spans. Spans that are left when ctx ends are lost.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// countedExporter counts spans by the result of their export.
type countedExporter struct {
	sdktrace.SpanExporter
	exported, failed prometheus.Counter
}

func (e *countedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		e.failed.Add(float64(len(spans)))
		return err
	}
	e.exported.Add(float64(len(spans)))
	return nil
}
