package envoy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
	"rescind/authz/decisionlog"
	"rescind/authz/gate"
	"rescind/authz/otlp"
	"rescind/authz/tracing"
)

// The memory of a request with a known token is used again for the next request. No
// observer has kept a text of it: each line of the decision log and each span has the
// texts of its own request.
func TestReusedMemoryIsNotKept(t *testing.T) {
	kept := &keptSpans{}
	tracer, err := tracing.New(tracing.Options{Exporter: kept, Resource: otlp.Resource("test", "a"), MaxPerSecond: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	log, err := decisionlog.New(decisionlog.Options{
		Rates: decisionlog.Rates{Denied: 1, Allowed: 1}, Output: decisionlog.Lines(&lines, "a"), Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	var policies sync.Map // as a careless observer keeps them
	k := newKey(t)
	s, _ := server(t, k, options{
		Trace: func(ctx context.Context, o gate.Observation) trace.SpanContext {
			return tracer.Record(ctx, o.Request, o.Decision, o.At, o.Took)
		},
		Observers: []func(context.Context, gate.Observation){func(_ context.Context, o gate.Observation) {
			log.Record(o.Request, o.Decision, o.At, o.Took, o.Span)
			policies.Store(o.Decision.ID, o.Decision.Policy)
		}},
	})
	const callers, each = 4, 100
	token := k.token(nil)
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for n := range each {
				name := fmt.Sprintf("%d-%03d", c, n)
				policy := policyOf(n)
				q := Question{Token: token, Policy: &policy, Headers: []authz.Header{
					{Name: "x-request-id", Value: name}, {Name: "tracestate", Value: "n=" + name}, {Name: "traceparent", Value: sampledParent},
				}}
				wantRemoved(t, ask(t, s, askingFor(q, "/"+name)), "")
				// A header that must be removed, so this answer is not the known one.
				q.Headers = append(q.Headers, authz.Header{Name: "x-jwt-" + name, Value: "spoofed"})
				wantRemoved(t, ask(t, s, askingFor(q, "/"+name)), "x-jwt-"+name)
			}
		})
	}
	all.Wait()
	if err := log.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tracer.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	policies.Range(func(_, policy any) bool {
		if policy != policyOf(0) && policy != policyOf(1) {
			t.Errorf("a decision has the policy %q, want the text of the configuration", policy)
		}
		return true
	})
	paths := map[string]bool{}
	for scanner := bufio.NewScanner(&lines); scanner.Scan(); {
		var line struct {
			Path    string   `json:"url.path"`
			Request []string `json:"http.request.header.x-request-id"`
			Policy  string   `json:"rescind.policy"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(line.Path, "/")
		paths[name] = true
		if len(line.Request) != 1 || line.Request[0] != name || line.Policy != policyOf(int(name[len(name)-1]-'0')) {
			t.Errorf("a line has the path %s, the request ID %q and the policy %s, want those of one request", line.Path, line.Request, line.Policy)
		}
	}
	if len(paths) != callers*each {
		t.Errorf("the lines have %d different paths, want %d", len(paths), callers*each)
	}
	if len(kept.spans) != 2*callers*each {
		t.Errorf("%d spans were exported, want %d", len(kept.spans), 2*callers*each)
	}
	for _, span := range kept.spans {
		path := ""
		for _, a := range span.Attributes {
			if a.Key == "url.path" {
				path = a.Value.AsString()
			}
		}
		if state := span.Parent.TraceState().Get("n"); "/"+state != path {
			t.Errorf("a span has the path %s and the trace state %s, want those of one request", path, state)
		}
	}
}

// An answer that is encoded after its Check has ended does not share memory with the
// next request.
func TestAnswersDoNotShareReusedMemory(t *testing.T) {
	k := newKey(t)
	s, _ := server(t, k, options{})
	token := k.token(nil)
	spoof := func(name string) []byte {
		return askingFor(Question{Token: token, Headers: []authz.Header{{Name: "x-jwt-" + name, Value: "spoofed"}}}, "/"+name)
	}
	for n := range 20 {
		first, second := send(t, s, spoof(fmt.Sprint("1-", n))), send(t, s, spoof(fmt.Sprint("2-", n)))
		known := send(t, s, askingFor(Question{Token: token}, "/"))
		another := send(t, s, askingFor(Question{Token: token}, "/"))
		wantRemoved(t, received(first), fmt.Sprint("x-jwt-1-", n))
		wantRemoved(t, received(second), fmt.Sprint("x-jwt-2-", n))
		a, b := received(known), received(another)
		wantRemoved(t, a, "")
		if id := a.DynamicMetadata.Fields["decision_id"].GetStringValue(); id == "" || id == b.DynamicMetadata.Fields["decision_id"].GetStringValue() {
			t.Errorf("two answers have the decision ID %q, want one each", id)
		}
	}
}

// wantRemoved fails the test unless the answer allows, and removes this header, if it is
// not "", and no other one that a client sent.
func wantRemoved(t *testing.T, answer *authv3.CheckResponse, header string) {
	t.Helper()
	var removed []string
	for _, name := range answer.GetOkResponse().GetHeadersToRemove() {
		if strings.Contains(name, "-0") || strings.ContainsAny(name, "123456789") || !strings.HasPrefix(name, "x-jwt-") {
			removed = append(removed, name)
		}
	}
	if answer.GetStatus().GetCode() != 0 || strings.Join(removed, ",") != header {
		t.Errorf("got code %d, and %q removed, want 0 and %q", answer.GetStatus().GetCode(), removed, header)
	}
}

// askingFor returns the CheckRequest about a request for this path.
func askingFor(q Question, path string) []byte {
	check := q.request()
	check.Attributes.Request.Http.Path = path
	wire, err := proto.Marshal(check)
	if err != nil {
		panic(err)
	}
	return wire
}

func policyOf(n int) string { return []string{"default", "public"}[n%2] }

// keptSpans keeps the exported spans.
type keptSpans struct{ spans tracetest.SpanStubs }

func (k *keptSpans) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	k.spans = append(k.spans, tracetest.SpanStubsFromReadOnlySpans(spans)...)
	return nil
}

func (k *keptSpans) Shutdown(context.Context) error { return nil }
