package envoy

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
	"rescind/revocation"
)

// figures are what Prometheus sees of the decisions. Labels are reasons, and
// names of the configuration: a request cannot make a new one.
type figures struct {
	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
	leftOut   *prometheus.CounterVec
	wouldDeny *prometheus.CounterVec
}

func newFigures() *figures {
	return &figures{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_decisions_total", Help: "Decisions made.",
		}, []string{"reason", "policy", "issuer"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rescind_check_duration_seconds", Help: "Time from the question to the answer.",
			Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1},
		}),
		leftOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_headers_left_out_total", Help: "Managed headers that were not set because the claim cannot be a header value.",
		}, []string{"header"}),
		wouldDeny: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_would_deny_total", Help: "Requests allowed that their policy would have denied, if its mode were not observe.",
		}, []string{"reason", "policy"}),
	}
}

func (f *figures) observe(d *authz.Decision, took time.Duration) {
	policy := d.Policy
	if d.Reason == authz.UnknownPolicy {
		policy = "" // not of the configuration
	}
	f.decisions.WithLabelValues(string(d.Reason), policy, d.Issuer).Inc()
	f.duration.Observe(took.Seconds())
	if d.WouldDeny != "" {
		f.wouldDeny.WithLabelValues(string(d.WouldDeny), policy).Inc()
	}
	for _, name := range d.LeftOut {
		f.leftOut.WithLabelValues(name).Inc()
	}
}

func (f *figures) register(r prometheus.Registerer, follower *revocation.Follower) error {
	collectors := []prometheus.Collector{f.decisions, f.duration, f.leftOut, f.wouldDeny}
	if follower != nil {
		collectors = append(collectors, following{follower})
	}
	var errs []error
	for _, c := range collectors {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// following reads the state of a follower when it is asked for.
type following struct{ *revocation.Follower }

var (
	revocationsDesc = prometheus.NewDesc("rescind_revocations", "Revocations held.", nil, nil)
	revisionDesc    = prometheus.NewDesc("rescind_revision", "Revision of the revocations held.", nil, nil)
	connectedDesc   = prometheus.NewDesc("rescind_feed_connected", "Whether the feed is connected: 1 or 0.", nil, nil)
	contactDesc     = prometheus.NewDesc("rescind_feed_last_contact_timestamp_seconds", "When the control endpoint was last heard of; 0 if never.", nil, nil)
	positivesDesc   = prometheus.NewDesc("rescind_filter_positives_total", "Look-ups that the filter did not answer: held, or false positives.", []string{"result"}, nil)
)

func (f following) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{revocationsDesc, revisionDesc, connectedDesc, contactDesc, positivesDesc} {
		out <- d
	}
}

func (f following) Collect(out chan<- prometheus.Metric) {
	s := f.Status()
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(revocationsDesc, float64(s.Entries))
	gauge(revisionDesc, float64(s.Revision))
	connected, contact := 0.0, 0.0
	if s.Connected {
		connected = 1
	}
	if !s.LastContact.IsZero() {
		contact = float64(s.LastContact.UnixMicro()) / 1e6
	}
	gauge(connectedDesc, connected)
	gauge(contactDesc, contact)
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterHeld), "held")
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterFalse), "false")
}
