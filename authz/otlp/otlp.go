// Package otlp exports decision logs (authz/decisionlog) and traces
// (authz/tracing) to an OpenTelemetry collector. It is the only package that
// imports the exporters.
//
// # The environment
//
// The variables OTEL_EXPORTER_OTLP_* set headers, timeout, compression and
// certificates where a [Collector] leaves them open. They do not set the address:
// the configuration alone decides which collector receives data.
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go into the resource.
//
// # Trust
//
// The collector receives the contents of the decision log: subjects, token IDs
// and source networks. So it is reached over TLS unless the configuration asks
// for plaintext. Of its answers only "taken" or "not taken" is used.
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

// Protocols of a collector.
const (
	GRPC = "grpc"
	HTTP = "http" // protobuf, to URL/v1/traces and URL/v1/logs
)

// Collector is the address of a collector and how to reach it.
type Collector struct {
	URL      string            // http://host:port[/path] in plaintext, https:// with TLS
	Protocol string            // [GRPC] or [HTTP]
	Headers  map[string]string // sent with each export, for example credentials
	CAFile   string            // trusted authorities for https; empty: those of the system
}

// Retries of an export, if the collector allows them. After retryUntil its data
// is lost and counted.
const (
	retryFirst = 500 * time.Millisecond
	retryMost  = 5 * time.Second
	retryUntil = 10 * time.Second
)

// Spans returns an exporter of spans. It connects with its first export.
func (c Collector) Spans(ctx context.Context) (sdktrace.SpanExporter, error) {
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	if c.Protocol == HTTP {
		options := []otlptracehttp.Option{
			otlptracehttp.WithEndpointURL(c.endpoint("traces")),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
		}
		if config != nil {
			options = append(options, otlptracehttp.WithTLSClientConfig(config))
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
	if config != nil {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(config)))
	}
	if c.Headers != nil {
		options = append(options, otlptracegrpc.WithHeaders(c.Headers))
	}
	return otlptracegrpc.New(ctx, options...)
}

// Logs returns an exporter of log records. It connects with its first export.
func (c Collector) Logs(ctx context.Context) (sdklog.Exporter, error) {
	config, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	if c.Protocol == HTTP {
		options := []otlploghttp.Option{
			otlploghttp.WithEndpointURL(c.endpoint("logs")),
			otlploghttp.WithRetry(otlploghttp.RetryConfig{Enabled: true, InitialInterval: retryFirst, MaxInterval: retryMost, MaxElapsedTime: retryUntil}),
		}
		if config != nil {
			options = append(options, otlploghttp.WithTLSClientConfig(config))
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
	if config != nil {
		options = append(options, otlploggrpc.WithTLSCredentials(credentials.NewTLS(config)))
	}
	if c.Headers != nil {
		options = append(options, otlploggrpc.WithHeaders(c.Headers))
	}
	return otlploggrpc.New(ctx, options...)
}

// endpoint returns the URL for one kind of data over HTTP.
func (c Collector) endpoint(name string) string {
	return strings.TrimSuffix(c.URL, "/") + "/v1/" + name
}

// tlsConfig returns the TLS configuration for CAFile. It returns nil for
// plaintext, and where the system or the environment decides.
func (c Collector) tlsConfig() (*tls.Config, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the URL of a collector; write http://host:port or https://host:port", c.URL)
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
		return nil, errors.New(c.CAFile + " contains no certificate in PEM")
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// Resource returns the resource of all exported data: this program, its version
// and the name of the replica.
func Resource(version, instance string) *resource.Resource {
	own := resource.NewSchemaless(semconv.ServiceName("rescind-authz"), semconv.ServiceVersion(version), semconv.ServiceInstanceID(instance))
	fromEnv, err := resource.New(context.Background(), resource.WithFromEnv())
	if err != nil {
		return own
	}
	merged, err := resource.Merge(own, fromEnv)
	if err != nil {
		return own
	}
	return merged
}
