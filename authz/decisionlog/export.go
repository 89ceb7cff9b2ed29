package decisionlog

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// Exported sends records through an exporter of the OpenTelemetry SDK, a batch
// a call.
//
// The SDK has a queue and a batch of its own, which drop without a word; ours
// counts. So its provider, which alone can make records, is given a processor
// that merely gathers, and what it has gathered is exported by the goroutine
// that waits for the outcome.
func Exported(e sdklog.Exporter, of *resource.Resource) Output {
	g := &gathering{}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(of), sdklog.WithProcessor(g))
	return &exported{exporter: e, provider: provider, logger: provider.Logger("rescind/authz/decisionlog"), gathering: g}
}

type exported struct {
	exporter  sdklog.Exporter
	provider  *sdklog.LoggerProvider
	logger    log.Logger
	gathering *gathering
}

func (e *exported) Write(ctx context.Context, records []*Record) (int, error) {
	e.gathering.records = e.gathering.records[:0]
	for _, r := range records {
		var out log.Record
		out.SetEventName(EventName)
		out.SetTimestamp(r.At)
		out.SetObservedTimestamp(r.At.Add(r.Took))
		out.SetSeverityText(r.severity())
		out.SetSeverity(severities[r.severity()])
		out.AddAttributes(r.Attributes()...)
		e.logger.Emit(trace.ContextWithRemoteSpanContext(ctx, r.Trace), out)
	}
	if err := e.exporter.Export(ctx, e.gathering.records); err != nil {
		return 0, err
	}
	return len(records), nil
}

var severities = map[string]log.Severity{"INFO": log.SeverityInfo, "WARN": log.SeverityWarn, "ERROR": log.SeverityError}

func (e *exported) Close(ctx context.Context) error {
	return errors.Join(e.provider.Shutdown(ctx), e.exporter.Shutdown(ctx))
}

// gathering is a processor that keeps what it is given.
type gathering struct{ records []sdklog.Record }

func (g *gathering) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (g *gathering) OnEmit(_ context.Context, r *sdklog.Record) error {
	g.records = append(g.records, r.Clone())
	return nil
}

func (g *gathering) Shutdown(context.Context) error   { return nil }
func (g *gathering) ForceFlush(context.Context) error { return nil }
