package envoy

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
	"rescind/revocation/replica"
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

func (f *figures) observe(o *Observation) {
	d := o.Decision
	policy := d.Policy
	if d.Reason == authz.UnknownPolicy {
		policy = "" // not of the configuration
	}
	f.decisions.WithLabelValues(string(d.Reason), policy, d.Issuer).Inc()
	if o.Span.IsSampled() {
		f.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(o.Took.Seconds(), prometheus.Labels{"trace_id": o.Span.TraceID().String()})
	} else {
		f.duration.Observe(o.Took.Seconds())
	}
	if d.WouldDeny != "" {
		f.wouldDeny.WithLabelValues(string(d.WouldDeny), policy).Inc()
	}
	for _, name := range d.LeftOut {
		f.leftOut.WithLabelValues(name).Inc()
	}
}

func (f *figures) register(r prometheus.Registerer, follower *replica.Follower, ready func() bool) error {
	collectors := []prometheus.Collector{f.decisions, f.duration, f.leftOut, f.wouldDeny, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rescind_ready", Help: "Whether this replica can decide, as it says to Envoy's health checks and on /readyz: 1 or 0.",
	}, func() float64 { return truth(ready()) })}
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
type following struct{ *replica.Follower }

var (
	revocationsDesc = prometheus.NewDesc("rescind_revocations", "Revocations held.", nil, nil)
	revisionDesc    = prometheus.NewDesc("rescind_revision", "Revision of the revocations held.", nil, nil)
	connectedDesc   = prometheus.NewDesc("rescind_feed_connected", "Whether the feed is connected: 1 or 0.", nil, nil)
	contactDesc     = prometheus.NewDesc("rescind_feed_last_contact_timestamp_seconds", "When the control endpoint was last heard of; 0 if never.", nil, nil)
	staleDesc       = prometheus.NewDesc("rescind_stale", "Whether the revocations are older than they should be: 1 or 0.", nil, nil)
	overdueDesc     = prometheus.NewDesc("rescind_overdue", "Whether the revocations are older than max_staleness: 1 or 0. With on_stale: deny everything is then denied.", nil, nil)
	diskErrorDesc   = prometheus.NewDesc("rescind_disk_error", "Whether the disk lacks what memory has, for the next start: 1 or 0.", nil, nil)
	refusedDesc     = prometheus.NewDesc("rescind_feed_refused", "Whether the control endpoint is not followed because its log is another one or an older copy: 1 or 0.", nil, nil)
	positivesDesc   = prometheus.NewDesc("rescind_filter_positives_total", "Look-ups that the filter did not answer: held, or false positives.", []string{"result"}, nil)
)

func (f following) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{revocationsDesc, revisionDesc, connectedDesc, contactDesc, staleDesc, overdueDesc, diskErrorDesc, refusedDesc, positivesDesc} {
		out <- d
	}
}

func (f following) Collect(out chan<- prometheus.Metric) {
	s := f.Status()
	gauge := func(d *prometheus.Desc, v float64) { out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(revocationsDesc, float64(s.Entries))
	gauge(revisionDesc, float64(s.Revision))
	contact := 0.0
	if !s.LastContact.IsZero() {
		contact = float64(s.LastContact.UnixMicro()) / 1e6
	}
	gauge(connectedDesc, truth(s.Connected))
	gauge(contactDesc, contact)
	gauge(staleDesc, truth(s.Stale))
	gauge(overdueDesc, truth(s.Overdue))
	gauge(diskErrorDesc, truth(s.DiskError != ""))
	gauge(refusedDesc, truth(s.Refused != ""))
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterHeld), "held")
	out <- prometheus.MustNewConstMetric(positivesDesc, prometheus.CounterValue, float64(s.FilterFalse), "false")
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
