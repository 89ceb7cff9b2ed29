package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz/decisionlog"
	"rescind/authz/gate"
	"rescind/authz/otlp"
	"rescind/authz/tracing"
	"rescind/cmd/internal/config"
)

// observers record the decisions of a replica.
type observers struct {
	decisions *decisionlog.Log
	tracer    *tracing.Tracer // nil: off
}

// exportDelay is the time for which decisions gather before they are exported
// over the network. Other outputs keep the shorter delay of the log.
const exportDelay = 500 * time.Millisecond

// observe opens the decision log, and tracing if it is configured. Both are
// torn down after the server of Checks.
func (p *process) observe(ctx context.Context, instance string) (*observers, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { // for example a batch of spans that was not exported
		p.log.Warn("OpenTelemetry has an error", "error", err.Error())
	}))
	otel.SetLogger(logr.FromSlogHandler(p.log.Handler()))

	c := p.options.Config
	output, err := p.outputOf(ctx, c.Decisions, instance)
	if err != nil {
		return nil, fmt.Errorf("decision log: %w", err)
	}
	o := &observers{}
	options := decisionlog.Options{Rates: decisionlog.Rates(c.Shares), Output: output, Registerer: p.registry, Logger: p.log}
	if c.Decisions.Output == "otlp" {
		options.BatchDelay = exportDelay
	}
	if o.decisions, err = decisionlog.New(options); err != nil {
		return nil, err
	}
	p.teardown.Add("decision log", o.decisions.Close)
	if c.Tracing == nil {
		return o, nil
	}
	collector, err := collectorOf(c.Tracing.Collector)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	exporter, err := collector.Spans(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if o.tracer, err = tracing.New(tracing.Options{
		Exporter: exporter, Resource: otlp.Resource(p.options.Version, instance),
		Ratio: c.TraceRatio, MaxPerSecond: c.Tracing.MaxPerSecond, Registerer: p.registry,
	}); err != nil {
		return nil, err
	}
	p.teardown.Add("tracing", o.tracer.Close)
	return o, nil
}

// outputOf opens the output of the decision log.
func (p *process) outputOf(ctx context.Context, d config.Decisions, instance string) (decisionlog.Output, error) {
	switch d.Output {
	case "otlp":
		collector, err := collectorOf(*d.Collector)
		if err != nil {
			return nil, err
		}
		exporter, err := collector.Logs(ctx)
		if err != nil {
			return nil, err
		}
		return decisionlog.Exported(exporter, otlp.Resource(p.options.Version, instance)), nil
	case "file":
		file, err := decisionlog.OpenFile(d.File, d.MaxSizeMB, d.MaxFiles)
		return decisionlog.Lines(file, instance), err
	case "stderr":
		return decisionlog.Lines(p.options.Stderr, instance), nil
	}
	return decisionlog.Lines(p.options.Stdout, instance), nil
}

// collectorOf returns the collector that c describes, with the headers that its
// file holds now.
func collectorOf(c config.Collector) (collector otlp.Collector, err error) {
	collector = otlp.Collector{URL: c.URL, Protocol: c.Protocol, CAFile: c.CAFile}
	if c.HeadersFile != "" {
		collector.Headers, err = config.ReadHeaders(c.HeadersFile)
	}
	return collector, err
}

// addTo adds the observers to the options of the gate.
func (o *observers) addTo(g *gate.Options) {
	g.Observers = append(g.Observers, func(_ context.Context, seen gate.Observation) {
		o.decisions.Record(seen.Request, seen.Decision, seen.At, seen.Took, seen.Span)
	})
	if o.tracer != nil {
		g.Trace = func(ctx context.Context, seen gate.Observation) trace.SpanContext {
			return o.tracer.Record(ctx, seen.Request, seen.Decision, seen.At, seen.Took)
		}
	}
}

// change puts the shares of c in force. It does nothing where o is nil, as in a
// test of the reload alone.
func (o *observers) change(c *config.Reloadable) {
	if o == nil {
		return
	}
	o.decisions.SetRates(decisionlog.Rates(c.Shares))
	if o.tracer != nil {
		o.tracer.SetRatio(c.TraceRatio)
	}
}
