package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz/decisionlog"
	"rescind/authz/otlp"
	"rescind/authz/tracing"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
)

// observing is what a replica tells the world of its decisions.
type observing struct {
	decisions *decisionlog.Log
	tracer    *tracing.Tracer // nil: off
}

// streams are the standard ones of the process.
type streams struct{ out, errs io.Writer }

// observe opens the decision log, and tracing if it is configured. Both end
// after the server of Checks has.
func observe(ctx context.Context, c *config.Authz, instance string, std streams, registry prometheus.Registerer, log *slog.Logger, t *daemon.Teardown) (*observing, error) {
	// The SDK's own complaints: a batch of spans that was not exported.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn("OpenTelemetry", "error", err.Error())
	}))
	// Whoever reads our output may go. That costs what is written, and must not
	// cost the process, which is what SIGPIPE does with standard output.
	signal.Ignore(syscall.SIGPIPE)

	output, err := outputOf(ctx, c.Decisions, instance, std)
	if err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	o := &observing{}
	if o.decisions, err = decisionlog.New(decisionlog.Options{
		Rates: ratesOf(c), Output: output, Moment: moments[c.Decisions.Output], Registerer: registry, Logger: log,
	}); err != nil {
		return nil, err
	}
	t.Add("decision log", o.decisions.Close)
	if c.Tracing == nil {
		return o, nil
	}
	to, err := collectorOf(c.Tracing.Collector)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	exporter, err := to.Spans(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if o.tracer, err = tracing.New(tracing.Options{
		Exporter: exporter, Resource: otlp.Resource(version().Version, instance),
		Ratio: c.Tracing.SampleRatio, MaxPerSecond: c.Tracing.MaxPerSecond, Registerer: registry,
	}); err != nil {
		return nil, err
	}
	t.Add("tracing", o.tracer.Close)
	return o, nil
}

// moments are for how long decisions gather, by output: an export is a call over
// the network.
var moments = map[string]time.Duration{"otlp": 500 * time.Millisecond}

func outputOf(ctx context.Context, d config.Decisions, instance string, std streams) (decisionlog.Output, error) {
	switch d.Output {
	case "otlp":
		to, err := collectorOf(*d.Collector)
		if err != nil {
			return nil, err
		}
		exporter, err := to.Logs(ctx)
		if err != nil {
			return nil, err
		}
		return decisionlog.Exported(exporter, otlp.Resource(version().Version, instance)), nil
	case "file":
		file, err := decisionlog.OpenFile(d.File, d.MaxSizeMB, d.MaxFiles)
		return decisionlog.Lines(file, instance), err
	case "stderr":
		return decisionlog.Lines(std.errs, instance), nil
	}
	return decisionlog.Lines(std.out, instance), nil
}

func collectorOf(c config.Collector) (to otlp.Collector, err error) {
	to = otlp.Collector{URL: c.URL, Protocol: c.Protocol, CAFile: c.CAFile}
	if c.HeadersFile != "" {
		to.Headers, err = config.ReadHeaders(c.HeadersFile)
	}
	return to, err
}

// options adds what o has to see to those of the server.
func (o *observing) options(s *envoy.Options) {
	s.Observers = append(s.Observers, func(_ context.Context, seen envoy.Observation) {
		o.decisions.Record(seen.Request, seen.Decision, seen.At, seen.Took, seen.Span)
	})
	if o.tracer != nil {
		s.Trace = func(ctx context.Context, seen envoy.Observation) trace.SpanContext {
			return o.tracer.Record(ctx, seen.Request, seen.Decision, seen.At, seen.Took)
		}
	}
}

// change puts what can be changed of c in force; nobody observes if o is nil.
func (o *observing) change(c *config.Authz) {
	if o == nil {
		return
	}
	o.decisions.SetRates(ratesOf(c))
	if o.tracer != nil && c.Tracing != nil {
		o.tracer.SetRatio(c.Tracing.SampleRatio)
	}
}

func ratesOf(c *config.Authz) decisionlog.Rates {
	return decisionlog.Rates{Denied: c.Decisions.Denied, Allowed: c.Decisions.Allowed}
}

// fixedObserving is what changes only with a restart.
func fixedObserving(c *config.Authz) []any {
	d := c.Decisions
	d.Denied, d.Allowed = 0, 0
	var t config.Tracing
	if c.Tracing != nil {
		t = *c.Tracing
		t.SampleRatio = 0
	}
	return []any{d, c.Tracing != nil, t}
}
