package tracing

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"google.golang.org/grpc/metadata"

	"rescind/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	traceID   = "0af7651916cd43dd8448eb211c80319c"
	spanID    = "b7ad6b7169203331"
	sampled   = "00-" + traceID + "-" + spanID + "-01"
	unsampled = "00-" + traceID + "-" + spanID + "-00"
)

// started returns a tracer, and a function that closes the tracer and returns the
// exported spans.
func started(t *testing.T, o Options) (tracer *Tracer, exported func() tracetest.SpanStubs) {
	t.Helper()
	memory := tracetest.NewInMemoryExporter()
	if o.Exporter == nil {
		o.Exporter = &keeping{InMemoryExporter: memory}
	}
	o.Resource = resource.Empty()
	tracer, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tracer, func() tracetest.SpanStubs {
		t.Helper()
		if err := tracer.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
		return memory.GetSpans()
	}
}

// keeping is an exporter that keeps its spans after Shutdown.
type keeping struct{ *tracetest.InMemoryExporter }

func (keeping) Shutdown(context.Context) error { return nil }

func request(headers ...string) *authz.Request {
	r := &authz.Request{Source: netip.MustParseAddr("203.0.113.77"), Headers: []authz.Header{{Name: "authorization", Value: "Bearer eyJhbGciOiJ9.eyJ9.c2ln"}}}
	for i := 0; i < len(headers); i += 2 {
		r.Headers = append(r.Headers, authz.Header{Name: headers[i], Value: headers[i+1]})
	}
	return r
}

func TestSpan(t *testing.T) {
	tracer, exported := started(t, Options{})
	at := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
	d := &authz.Decision{ID: "D1", Reason: authz.Revoked, Policy: "default", Issuer: "https://idp.example/", Subject: "alice", TokenID: "t1", Revision: 7}
	span := tracer.Record(t.Context(), request("traceparent", sampled, "tracestate", "vendor=x"), d, at, time.Millisecond)
	if span.TraceID().String() != traceID || !span.IsSampled() || span.SpanID().String() == spanID {
		t.Errorf("span %+v, want a new sampled one in trace %s", span, traceID)
	}
	spans := exported()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want 1", len(spans))
	}
	s := spans[0]
	if s.Name != "rescind.check" || s.SpanKind != trace.SpanKindServer || s.Parent.SpanID().String() != spanID || !s.Parent.IsRemote() ||
		s.SpanContext.TraceState().String() != "vendor=x" || !s.StartTime.Equal(at) || !s.EndTime.Equal(at.Add(time.Millisecond)) || s.Status.Code != codes.Unset {
		t.Errorf("span %+v, want rescind.check of kind server, with the parent, its state and the times", s)
	}
	got := map[string]any{}
	for _, a := range s.Attributes {
		got[string(a.Key)] = a.Value.AsInterface()
		if strings.Contains(a.Value.String(), "eyJ") {
			t.Errorf("attribute %s: got %v, want no token in it", a.Key, a.Value)
		}
	}
	for name, want := range map[string]any{
		"rescind.decision.id": "D1", "rescind.decision.reason": "revoked", "rescind.decision.outcome": "deny", "user.id": "alice",
		"rescind.token.id": "t1", "client.address": "203.0.113.0/24", "rescind.revocations.revision": int64(7), "http.response.status_code": int64(401),
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
	}
}

func TestWhichAreSampled(t *testing.T) {
	call := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", sampled))
	callNot := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", unsampled))
	other := strings.ReplaceAll(sampled, "0af7", "1af7")
	for _, c := range []struct {
		name    string
		ctx     context.Context
		headers []string
		ratio   float64
		sampled bool
		trace   string
	}{
		{"nothing asks for it", t.Context(), nil, 0, false, ""},
		{"all", t.Context(), nil, 1, true, ""},
		{"the request is in a trace", t.Context(), []string{"traceparent", sampled}, 0, true, traceID},
		{"and not sampled", t.Context(), []string{"traceparent", unsampled}, 1, false, ""},
		{"Envoy's call is in a trace", call, nil, 0, true, traceID},
		{"and not sampled", callNot, nil, 1, false, ""},
		{"the request's goes before the call's", call, []string{"traceparent", other}, 0, true, "1" + traceID[1:]},
		{"even unsampled", call, []string{"traceparent", unsampled}, 0, false, ""},
		{"a malformed one is none", call, []string{"traceparent", "x"}, 0, true, traceID},
	} {
		t.Run(c.name, func(t *testing.T) {
			tracer, exported := started(t, Options{Ratio: c.ratio})
			span := tracer.Record(c.ctx, request(c.headers...), &authz.Decision{ID: "x"}, time.Now(), 0)
			if span.IsSampled() != c.sampled || c.trace != "" && span.TraceID().String() != c.trace {
				t.Errorf("sampled %t in trace %v, want %t in %q", span.IsSampled(), span.TraceID(), c.sampled, c.trace)
			}
			if n := len(exported()); (n == 1) != c.sampled {
				t.Errorf("%d spans exported, want one only if sampled (%t)", n, c.sampled)
			}
		})
	}
	tracer, exported := started(t, Options{Ratio: 0})
	tracer.SetRatio(1)
	if !tracer.Record(t.Context(), nil, &authz.Decision{ID: "x", Reason: authz.Internal}, time.Now(), 0).IsSampled() { // could not be read
		t.Error("SetRatio(1) samples nothing, want every decision")
	}
	if spans := exported(); len(spans) != 1 || spans[0].Status.Code != codes.Error {
		t.Errorf("spans %+v, want one with status error", spans)
	}
}

// Clients that ask for a span with each request get a limited number.
func TestLimit(t *testing.T) {
	registry := prometheus.NewRegistry()
	tracer, exported := started(t, Options{MaxPerSecond: 5, Registerer: registry})
	n := 0
	for range 1000 {
		if tracer.Record(t.Context(), request("traceparent", sampled), &authz.Decision{ID: "x"}, time.Now(), 0).IsSampled() {
			n++
		}
	}
	if n < 5 || n > 50 || testutil.ToFloat64(tracer.limited) != float64(1000-n) {
		t.Errorf("%d of 1000 recorded and %v limited, want 5 to 50 and the rest", n, testutil.ToFloat64(tracer.limited))
	}
	if spans := exported(); len(spans) != n {
		t.Errorf("%d exported, want the %d recorded", len(spans), n)
	}
}

func TestHostileSpans(t *testing.T) {
	tracer, exported := started(t, Options{})
	for _, text := range []string{strings.Repeat("a", 8<<10), strings.Repeat("\xff", 8<<10), "a\n\x1b[31m\u202e\x00", "eyJhbGciOiJ9.eyJ9.c2ln"} {
		d := &authz.Decision{ID: "x", Reason: authz.Revoked, Policy: text, Subject: text, TokenID: text, Detail: text, Facts: &authz.Facts{Session: text, Clients: authz.Clients{text}, KeyID: text}}
		tracer.Record(t.Context(), request("traceparent", sampled, "tracestate", text, "x-request-id", text, ":method", text), d, time.Now(), 0)
	}
	spans := exported()
	if len(spans) != 4 {
		t.Errorf("%d spans, want 4", len(spans))
	}
	for _, s := range spans {
		for _, a := range s.Attributes {
			text := a.Value.String()
			if len(text) > 1024 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.Contains(text, "c2ln") {
				t.Errorf("attribute %s is %q, want it short, printable and without a token", a.Key, text)
			}
		}
	}
}

type failing struct{}

func (failing) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return errors.New("no collector")
}
func (failing) Shutdown(context.Context) error { return nil }

func TestLostSpansAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	tracer, _ := started(t, Options{Exporter: failing{}, Ratio: 1, Registerer: registry})
	for range 3 {
		tracer.Record(t.Context(), request(), &authz.Decision{ID: "x"}, time.Now(), 0)
	}
	_ = tracer.Close(t.Context())
	want := "# HELP rescind_spans_total Sampled decisions by result: exported as spans, failed to export, or limited by the number of spans per second.\n" +
		"# TYPE rescind_spans_total counter\nrescind_spans_total{result=\"exported\"} 0\nrescind_spans_total{result=\"failed\"} 3\nrescind_spans_total{result=\"limited\"} 0\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Errorf("an export that fails: got other metrics than wanted: %v", err)
	}
}
