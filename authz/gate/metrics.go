package gate

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
)

// metrics are the decisions as Prometheus sees them. Label values are reasons
// and names of the configuration, so a request cannot add a label value.
type metrics struct {
	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
	leftOut   *prometheus.CounterVec
	wouldDeny *prometheus.CounterVec
	ahead     *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_decisions_total", Help: "Decisions, by reason, policy and issuer.",
		}, []string{"reason", "policy", "issuer"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rescind_check_duration_seconds", Help: "Time from a Check to its answer.",
			Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1},
		}),
		leftOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_headers_left_out_total", Help: "Managed headers that were not set because the value of the claim cannot be a header.",
		}, []string{"header"}),
		wouldDeny: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_would_deny_total", Help: "Allowed requests that their policy would have denied without mode: observe.",
		}, []string{"reason", "policy"}),
		ahead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_issuer_clock_ahead_total", Help: "Tokens that were refused because their iat is ahead of this replica's clock by more than iat_leeway, by issuer.",
		}, []string{"issuer"}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{m.decisions, m.duration, m.leftOut, m.wouldDeny, m.ahead} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// observe counts a decision that was made so many times.
func (m *metrics) observe(o *Observation, times float64) {
	d := o.Decision
	policy := d.Policy
	if d.Reason == authz.UnknownPolicy {
		policy = "" // the name is not in the configuration
	}
	m.decisions.WithLabelValues(string(d.Reason), policy, d.Issuer).Add(times)
	switch {
	case d.ByGateway: // there was no Check
	case o.Span.IsSampled():
		m.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(o.Took.Seconds(), prometheus.Labels{"trace_id": o.Span.TraceID().String()})
	default:
		m.duration.Observe(o.Took.Seconds())
	}
	if d.WouldDeny != "" {
		m.wouldDeny.WithLabelValues(string(d.WouldDeny), policy).Add(times)
	}
	if d.Detail == authz.ClockAhead {
		m.ahead.WithLabelValues(d.Issuer).Add(times)
	}
	for _, name := range d.LeftOut {
		m.leftOut.WithLabelValues(name).Add(times)
	}
}
