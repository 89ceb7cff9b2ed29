package interop

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"rescind/envoy/envoytest"
	"rescind/test/freeport"
	"rescind/test/teststack"
)

// collector is an OpenTelemetry collector's own receiver of OTLP, by gRPC and
// by HTTP.
type collector struct {
	grpc, http string // addresses
	traces     consumertest.TracesSink
	logs       consumertest.LogsSink
}

// startCollector runs a receiver until the test ends.
func startCollector(t *testing.T) *collector {
	t.Helper()
	addrs := freeport.Addrs(t, 2)
	c := &collector{grpc: addrs[0], http: addrs[1]}
	factory := otlpreceiver.NewFactory()
	config := factory.CreateDefaultConfig()
	err := confmap.NewFromStringMap(map[string]any{"protocols": map[string]any{
		"grpc": map[string]any{"endpoint": c.grpc, "include_metadata": true},
		"http": map[string]any{"endpoint": c.http, "include_metadata": true},
	}}).Unmarshal(config)
	if err != nil {
		t.Fatal(err)
	}
	settings := receivertest.NewNopSettings(factory.Type())
	traces, err := factory.CreateTraces(t.Context(), settings, config, &c.traces)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := factory.CreateLogs(t.Context(), settings, config, &c.logs)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []interface {
		Start(context.Context, component.Host) error
		Shutdown(context.Context) error
	}{traces, logs} {
		if err := r.Start(context.Background(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Shutdown(context.Background()) })
	}
	return c
}

const (
	theTrace = "0af7651916cd43dd8448eb211c80319c"
	theSpan  = "b7ad6b7169203331"
)

// A collector receives three requests: one allowed and one denied that are in a
// sampled trace, and one denied that is not.
func TestOTLP(t *testing.T) {
	for _, protocol := range []string{"grpc", "http"} {
		t.Run(protocol, func(t *testing.T) {
			c := startCollector(t)
			endpoint := map[string]string{"grpc": c.grpc, "http": "http://" + c.http}[protocol]
			headers := filepath.Join(t.TempDir(), "otlp.headers")
			if err := os.WriteFile(headers, []byte("x-otlp-token: s3cret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := start(t, envoytest.Options{Replicas: 1, Authz: "log: {decisions: {allowed: 1, output: otlp}}\n" +
				"tracing: {endpoint: '" + endpoint + "', protocol: " + protocol + ", headers_file: '" + headers + "', sample_ratio: 0}\n"})
			good, bad := teststack.Login(t, s, "alice"), teststack.Login(t, s, "mallory")
			revocation := revoke(t, s, map[string]any{"claims": map[string]any{"sub": "mallory"}})
			in := "00-" + theTrace + "-" + theSpan
			for _, ask := range []struct {
				token, parent string
				status        int
			}{{good, in + "-01", 200}, {bad, in + "-01", 401}, {bad, in + "-00", 401}} {
				a, err := s.Get(t.Context(), "/", ask.token, "traceparent", ask.parent, "tracestate", "vendor=x")
				if err != nil || a.Status != ask.status {
					t.Fatalf("traceparent %s: wanted status %d, got %d %s %v", ask.parent, ask.status, a.Status, a.Body, err)
				}
			}
			if status := s.Replicas[0].Stop(); status != 0 { // the replica exports the rest
				t.Errorf("wanted exit status 0, got %d", status)
			}
			c.wantSpans(t, revocation)
			c.wantRecords(t, revocation)
			c.wantNo(t, good, bad, "s3cret")
			for _, ctx := range append(c.traces.Contexts(), c.logs.Contexts()...) {
				if got := client.FromContext(ctx).Metadata.Get("x-otlp-token"); len(got) != 1 || got[0] != "s3cret" {
					t.Errorf("wanted the header x-otlp-token: s3cret on each export, got %q", got)
				}
			}
		})
	}
}

func (c *collector) wantSpans(t *testing.T, revocation string) {
	t.Helper()
	var outcomes []string
	for _, traces := range c.traces.AllTraces() {
		for _, resource := range traces.ResourceSpans().All() {
			wantAttributes(t, resource.Resource().Attributes(), map[string]any{"service.name": "rescind-authz", "service.instance.id": "replica-a"})
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					outcomes = append(outcomes, text(span.Attributes(), "rescind.decision.reason"))
					trace, parent := span.TraceID(), span.ParentSpanID()
					if span.Name() != "rescind.check" || hex.EncodeToString(trace[:]) != theTrace || hex.EncodeToString(parent[:]) != theSpan || span.TraceState().AsRaw() != "vendor=x" {
						t.Errorf("wanted the span rescind.check in %s below %s with vendor=x, got %s in %x below %x with %s", theTrace, theSpan, span.Name(), trace, parent, span.TraceState().AsRaw())
					}
					if took := span.EndTimestamp().AsTime().Sub(span.StartTimestamp().AsTime()); took <= 0 || took > time.Second {
						t.Errorf("wanted a span of at most 1s, got %v", took)
					}
					if text(span.Attributes(), "rescind.decision.reason") == "revoked" {
						wantAttributes(t, span.Attributes(), map[string]any{"user.id": "mallory", "rescind.revocations.id": revocation, "client.address": "127.0.0.0/24"})
					}
				}
			}
		}
	}
	if strings.Join(outcomes, " ") != "ok revoked" {
		t.Errorf("wanted the spans ok and revoked, got %v", outcomes)
	}
}

func (c *collector) wantRecords(t *testing.T, revocation string) {
	t.Helper()
	var outcomes []string
	for _, logs := range c.logs.AllLogs() {
		for _, resource := range logs.ResourceLogs().All() {
			wantAttributes(t, resource.Resource().Attributes(), map[string]any{"service.name": "rescind-authz", "service.instance.id": "replica-a"})
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					outcomes = append(outcomes, text(record.Attributes(), "rescind.decision.reason")+" "+record.SeverityText())
					trace, span := record.TraceID(), record.SpanID()
					// The third record has no span of its own: its request was not sampled.
					inParent := hex.EncodeToString(span[:]) == theSpan
					if record.EventName() != "rescind.decision" || hex.EncodeToString(trace[:]) != theTrace || inParent != (len(outcomes) == 3) {
						t.Errorf("record %d: wanted rescind.decision in the trace %s, got %s in the trace %x and the span %x", len(outcomes), theTrace, record.EventName(), trace, span)
					}
					if id, ok := record.Attributes().Get("http.request.header.x-request-id"); !ok || id.Slice().Len() != 1 {
						t.Errorf("record %d: wanted one x-request-id, got %v", len(outcomes), id.AsString())
					}
					if len(outcomes) > 1 {
						wantAttributes(t, record.Attributes(), map[string]any{
							"user.id": "mallory", "rescind.revocations.id": revocation, "rescind.policy": "default", "http.response.status_code": int64(401),
							"http.request.method": "GET", "rescind.decision.outcome": "deny", "rescind.decision.sample_rate": 1.0,
						})
					}
				}
			}
		}
	}
	if strings.Join(outcomes, ", ") != "ok INFO, revoked WARN, revoked WARN" {
		t.Errorf("wanted the records ok, revoked, revoked, got %v", outcomes)
	}
}

// wantNo fails if a span or a record holds a secret, or the signature of a secret
// that is a token.
func (c *collector) wantNo(t *testing.T, secrets ...string) {
	t.Helper()
	var all strings.Builder
	for _, traces := range c.traces.AllTraces() {
		text, err := new(ptrace.JSONMarshaler).MarshalTraces(traces)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, logs := range c.logs.AllLogs() {
		text, err := new(plog.JSONMarshaler).MarshalLogs(logs)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, secret := range secrets {
		if strings.Contains(all.String(), secret) || strings.Contains(all.String(), secret[strings.LastIndexByte(secret, '.')+1:]) {
			t.Errorf("got the secret %q exported, want it left out", secret)
		}
	}
}

func text(attributes pcommon.Map, name string) string {
	v, _ := attributes.Get(name)
	return v.AsString()
}

func wantAttributes(t *testing.T, attributes pcommon.Map, want map[string]any) {
	t.Helper()
	got := attributes.AsRaw()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("attribute %s: wanted %v, got %v", name, value, got[name])
		}
	}
}
