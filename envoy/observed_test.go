package envoy

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
	"rescind/authz/decisionlog"
	"rescind/authz/gate"
	"rescind/authz/otlp"
	"rescind/authz/tracing"
)

const (
	sampledParent   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampledParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// observed returns options with the decision log at its default rates, to a file,
// and with tracing to a collector that accepts everything.
func observed(t testing.TB, ratio float64) options {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	exporter, err := otlp.Collector{URL: collector.URL, Protocol: otlp.HTTP}.Spans(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tracer, err := tracing.New(tracing.Options{Exporter: exporter, Resource: otlp.Resource("test", "a"), Ratio: ratio, MaxPerSecond: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	file, err := decisionlog.OpenFile(filepath.Join(t.TempDir(), "decisions.log"), 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	log, err := decisionlog.New(decisionlog.Options{
		Rates: decisionlog.Rates{Denied: 1, Allowed: .01}, Output: decisionlog.Lines(file, "a"), Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := log.Close(ctx); err != nil {
			t.Errorf("closing the decision log: got %v, want nil", err)
		}
		if err := tracer.Close(ctx); err != nil {
			t.Errorf("closing the tracer: got %v, want nil", err)
		}
		collector.Close()
	})
	return options{
		Trace: func(ctx context.Context, o gate.Observation) trace.SpanContext {
			return tracer.Record(ctx, o.Request, o.Decision, o.At, o.Took)
		},
		Observers: []func(context.Context, gate.Observation){func(_ context.Context, o gate.Observation) {
			log.Record(o.Request, o.Decision, o.At, o.Took, o.Span)
		}},
	}
}

// The duration of a decision has its trace as exemplar if the trace is sampled.
func TestExemplars(t *testing.T) {
	k := newKey(t)
	o := observed(t, 0)
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	s, _ := server(t, k, o)
	ask := func(parent string) string {
		t.Helper()
		q := Question{Token: k.token(nil), Headers: []authz.Header{{Name: "traceparent", Value: parent}}}
		if _, err := s.Check(t.Context(), q.request()); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		encoder := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeOpenMetrics))
		for _, f := range families {
			if f.GetName() == "rescind_check_duration_seconds" {
				if err := encoder.Encode(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		return text.String()
	}
	for _, parent := range []string{unsampledParent, "nonsense", ""} {
		if got := ask(parent); strings.Contains(got, "trace_id") {
			t.Errorf("parent %q: %s, want no exemplar", parent, got)
		}
	}
	if got := ask(sampledParent); !strings.Contains(got, `# {trace_id="0af7651916cd43dd8448eb211c80319c"}`) {
		t.Errorf("parent %q: %s, want its trace as exemplar", sampledParent, got)
	}
}

// A decision that is not sampled allocates nothing for tracing. The smallest of
// several counts is compared, because pools lose objects at random under the race
// detector.
func TestUnsampledTracesAreFree(t *testing.T) {
	k := newKey(t)
	off, _ := server(t, k, options{})
	on, _ := server(t, k, options{Trace: observed(t, 0).Trace})
	for _, parent := range []string{"", unsampledParent} {
		check := Question{Token: k.token(nil), Headers: []authz.Header{{Name: "traceparent", Value: parent}}}.request()
		allocations := func(s *Server) (least float64) {
			least = math.Inf(1)
			for range 10 {
				least = min(least, testing.AllocsPerRun(50, func() { _, _ = s.Check(t.Context(), check) }))
			}
			return least
		}
		if without, with := allocations(off), allocations(on); with > without {
			t.Errorf("parent %q: %v allocations with tracing, want at most the %v without", parent, with, without)
		}
	}
}

// BenchmarkCheck compares a decision with every observer at its default rate, and
// without observers. cpu-ns/op is the CPU time of the process for one decision,
// with the writer, the exporter and the collector of the test.
func BenchmarkCheck(b *testing.B) {
	k := newKey(b)
	expired := map[string]any{"exp": time.Now().Unix() - 3600, "iat": time.Now().Unix() - 7200}
	allowed, denied := Question{Token: k.token(nil)}.request(), Question{Token: k.token(expired)}.request()
	for _, traffic := range []struct {
		name   string
		denied int // of 100
	}{{"allowed", 0}, {"5in100denied", 5}, {"denied", 100}} {
		for _, state := range []struct {
			name    string
			options func(testing.TB) options
		}{
			{"off", func(testing.TB) options { return options{} }},
			{"unsampled", func(t testing.TB) options { return options{Trace: observed(t, 0).Trace} }},
			{"on", func(t testing.TB) options { return observed(t, .01) }},
		} {
			b.Run(traffic.name+"/"+state.name, func(b *testing.B) {
				s, _ := server(b, k, state.options(b))
				b.ReportAllocs()
				begin := cpu(b)
				b.ResetTimer()
				for i := range b.N {
					check := allowed
					if i%100 < traffic.denied {
						check = denied
					}
					answered(b, s, check)
				}
				b.ReportMetric(float64(cpu(b)-begin)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// answered answers a decoded Check, so that neither encoding nor decoding of the
// question is in the figure.
func answered(b *testing.B, s *Server, check *authv3.CheckRequest) {
	s.answer(b.Context(), func() (*authz.Request, authz.Reason) { r, _ := requestOf(check); return r, "" }, reply)
}

// cpu returns the CPU time that the process has used so far.
func cpu(t testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
