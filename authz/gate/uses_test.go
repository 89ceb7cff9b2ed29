package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
)

// TestObserveUses shows three decisions of a gateway. The trace and the observers see each,
// and the watch and the metrics see all at once, whichever of them panics.
func TestObserveUses(t *testing.T) {
	began := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	uses := []Use{{began.Add(time.Second), authz.GatewayID{1}}, {began.Add(2 * time.Second), authz.GatewayID{2}}, {began, authz.GatewayID{0, 1}}}
	each := []string{"BAAAAAAAAAAAAAAAAAAAAAAAAA at 1s", "CAAAAAAAAAAAAAAAAAAAAAAAAA at 2s", "AAAAAAAAAAAAQAAAAAAAAAAAAA at 0s"}
	all := []string{"3 times from 0s to 2s"}
	for _, c := range []struct {
		panics                   string
		traced, observed, viewed []string
	}{
		{"nobody", each, each, all},
		{"trace", each, nil, all},
		{"observer", each, each, all},
		{"watch", each, each, all},
	} {
		t.Run(c.panics, func(t *testing.T) {
			var traced, observed, viewed []string
			note := func(to *[]string, by string, o Observation) {
				*to = append(*to, fmt.Sprintf("%s at %v", o.Decision.IDText(), o.At.Sub(began)))
				if by == c.panics {
					panic("5ecret")
				}
			}
			registry := prometheus.NewRegistry()
			g, log := open(t, Options{
				Registerer: registry,
				Trace: func(_ context.Context, o Observation) trace.SpanContext {
					note(&traced, "trace", o)
					return trace.SpanContext{}
				},
				Observers: []func(context.Context, Observation){func(_ context.Context, o Observation) { note(&observed, "observer", o) }},
				Watch: func(o Observation, first time.Time, times int) {
					viewed = append(viewed, fmt.Sprintf("%d times from %v to %v", times, first.Sub(began), o.At.Sub(began)))
					if c.panics == "watch" {
						panic("5ecret")
					}
				},
			})
			d := authz.Decision{Allow: true, Reason: authz.OK, Policy: "default", ByGateway: true}
			g.ObserveUses(t.Context(), Observation{Decision: &d}, nil) // nothing
			g.ObserveUses(t.Context(), Observation{Decision: &d}, uses)
			if !slices.Equal(traced, c.traced) || !slices.Equal(observed, c.observed) || !slices.Equal(viewed, c.viewed) {
				t.Errorf("the trace saw %q, the observer %q, the watch %q; want %q, %q and %q", traced, observed, viewed, c.traced, c.observed, c.viewed)
			}
			if got := testutil.ToFloat64(g.metrics.decisions.WithLabelValues("ok", "default", "")); got != 3 {
				t.Errorf("got %v decisions counted, want 3", got)
			}
			if got := log.String(); strings.Contains(got, "observer panicked") != (c.panics != "nobody") || strings.Contains(got, "5ecret") {
				t.Errorf("logged %q, want the panic of %s without its value", got, c.panics)
			}
		})
	}
}
