// Package otlp connects to an OpenTelemetry collector: where decision logs
// (authz/decisionlog) and traces (authz/tracing) are exported to over OTLP. It
// is the only package that imports the exporters.
//
// What a [Collector] does not say, the variables OTEL_EXPORTER_OTLP_* of the
// environment may: headers, the timeout, compression, certificates. Where the
// collector is they do not say: what leaves this process, and to whom, stands
// in the configuration. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go into
// the resource.
//
// # Trust
//
// The collector is trusted with what the decision log has: subjects, token ids,
// source networks. So it is reached over TLS, unless the configuration has been
// explicit about it. Nothing that it answers is believed beyond "taken" or
// "not taken".
package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/grpc/credentials"
)

// Protocols are those that a collector can be spoken to with.
const (
	GRPC = "grpc"
	HTTP = "http" // protobuf, to URL/v1/traces and URL/v1/logs
)

// Collector is where to export to.
type Collector struct {
	URL      string            // http://host:port[/path] is plaintext, https:// is not
	Protocol string            // [GRPC] or [HTTP]
	Headers  map[string]string // sent with each export: credentials
	CAFile   string            // whom to trust for https; empty: the system's authorities
}

// For how long an export is tried again, if the collector says that it may be:
// then what it was to export is lost, and counted.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 5 * time.Second
	retryUntil = 10 * time.Second
)

// Spans is an exporter of spans to c. It connects when it first has something.
func (c Collector) Spans(ctx context.Context) (sdktrace.SpanExporter, error) {
	trust, err := c.trust()
	if err != nil {
		return nil, err
	}
	if c.Protocol == HTTP {
		options := []otlptracehttp.Option{
			otlptracehttp.WithEndpointURL(c.signal("traces")),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
		}
		if trust != nil {
			options = append(options, otlptracehttp.WithTLSClientConfig(trust))
		}
		if c.Headers != nil {
			options = append(options, otlptracehttp.WithHeaders(c.Headers))
		}
		return otlptracehttp.New(ctx, options...)
	}
	options := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpointURL(c.URL),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
	}
	if trust != nil {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(trust)))
	}
	if c.Headers != nil {
		options = append(options, otlptracegrpc.WithHeaders(c.Headers))
	}
	return otlptracegrpc.New(ctx, options...)
}

// Logs is an exporter of log records to c. It connects when it first has
// something.
func (c Collector) Logs(ctx context.Context) (sdklog.Exporter, error) {
	trust, err := c.trust()
	if err != nil {
		return nil, err
	}
	if c.Protocol == HTTP {
		options := []otlploghttp.Option{
			otlploghttp.WithEndpointURL(c.signal("logs")),
			otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
		}
		if trust != nil {
			options = append(options, otlploghttp.WithTLSClientConfig(trust))
		}
		if c.Headers != nil {
			options = append(options, otlploghttp.WithHeaders(c.Headers))
		}
		return otlploghttp.New(ctx, options...)
	}
	options := []otlploggrpc.Option{
		otlploggrpc.WithEndpointURL(c.URL),
		otlploggrpc.WithRetry(otlploggrpc.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
	}
	if trust != nil {
		options = append(options, otlploggrpc.WithTLSCredentials(credentials.NewTLS(trust)))
	}
	if c.Headers != nil {
		options = append(options, otlploggrpc.WithHeaders(c.Headers))
	}
	return otlploggrpc.New(ctx, options...)
}

// signal is where c takes a signal by HTTP.
func (c Collector) signal(name string) string {
	return strings.TrimSuffix(c.URL, "/") + "/v1/" + name
}

// trust is nil where there is nothing to say: plaintext, or what the system or
// the environment says.
func (c Collector) trust() (*tls.Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of a collector", c.URL)
	}
	if c.CAFile == "" || u.Scheme == "http" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(c.CAFile + " has no certificate in it")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Resource is what says of exported signals whose they are: this program, and
// which of its replicas.
func Resource(version, instance string) *resource.Resource {
	own := resource.NewSchemaless(semconv.ServiceName("rescind-authz"), semconv.ServiceVersion(version), semconv.ServiceInstanceID(instance))
	said, err := resource.New(context.Background(), resource.WithFromEnv())
	if err != nil {
		return own
	}
	merged, err := resource.Merge(own, said)
	if err != nil {
		return own
	}
	return merged
}
