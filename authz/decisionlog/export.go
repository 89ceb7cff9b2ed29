package decisionlog

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// Exported returns an Output that sends each batch through an exporter of the
// OpenTelemetry SDK.
//
// The SDK's own queue drops records without counting them. Only its provider can
// make records, so the provider gets a processor that collects them, and Write
// exports the collected records and waits for the outcome.
func Exported(e sdklog.Exporter, of *resource.Resource) Output {
	c := &collecting{}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(of), sdklog.WithProcessor(c))
	return &exported{exporter: e, provider: provider, logger: provider.Logger("rescind/authz/decisionlog"), collecting: c}
}

type exported struct {
	exporter   sdklog.Exporter
	provider   *sdklog.LoggerProvider
	logger     log.Logger
	collecting *collecting
}

func (e *exported) Write(ctx context.Context, records []*Record) (int, error) {
	e.collecting.records = e.collecting.records[:0]
	for _, r := range records {
		var out log.Record
		out.SetEventName(r.event())
		out.SetTimestamp(r.At)
		out.SetObservedTimestamp(r.At.Add(r.Took))
		out.SetSeverityText(r.severity())
		out.SetSeverity(severities[r.severity()])
		out.AddAttributes(r.Attributes()...)
		e.logger.Emit(trace.ContextWithRemoteSpanContext(ctx, r.Trace), out)
	}
	if err := e.exporter.Export(ctx, e.collecting.records); err != nil {
		return 0, err
	}
	return len(records), nil
}

var severities = map[string]log.Severity{"INFO": log.SeverityInfo, "WARN": log.SeverityWarn, "ERROR": log.SeverityError}

func (e *exported) Close(ctx context.Context) error {
	return errors.Join(e.provider.Shutdown(ctx), e.exporter.Shutdown(ctx))
}

// collecting is a processor that keeps the records.
type collecting struct{ records []sdklog.Record }

func (c *collecting) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

func (c *collecting) OnEmit(_ context.Context, r *sdklog.Record) error {
	c.records = append(c.records, r.Clone())
	return nil
}

func (c *collecting) Shutdown(context.Context) error   { return nil }
func (c *collecting) ForceFlush(context.Context) error { return nil }
