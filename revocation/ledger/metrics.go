package ledger

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	revisionDesc    = prometheus.NewDesc("rescind_control_revision", "Last revision of the log that is applied.", nil, nil)
	revocationsDesc = prometheus.NewDesc("rescind_control_revocations", "Revocations in force.", nil, nil)
	appendsDesc     = prometheus.NewDesc("rescind_control_appends_total", "Batches that this node appended to the log.", nil, nil)
)

// metrics are the metrics of the ledger beside those of its state.
type metrics struct {
	propagation prometheus.Histogram
	bounds      *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "rescind_propagation_seconds",
			Help:    "Time from the acceptance of a revision to its being in force on a replica.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		bounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_control_revocations_refused_total",
			Help: "Revocations that met a bound: shapes (sets of claim names of an issuer) or entries (revocations of the same claims).",
		}, []string{"bound"}),
	}
}

// Describe implements [prometheus.Collector].
func (l *Ledger) Describe(ch chan<- *prometheus.Desc) {
	ch <- revisionDesc
	ch <- revocationsDesc
	ch <- appendsDesc
	l.metrics.propagation.Describe(ch)
	l.metrics.bounds.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (l *Ledger) Collect(ch chan<- prometheus.Metric) {
	l.mu.RLock()
	revision, live, appends := l.revision, l.rows.live, l.appends
	l.mu.RUnlock()
	ch <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(revision))
	ch <- prometheus.MustNewConstMetric(revocationsDesc, prometheus.GaugeValue, float64(live))
	ch <- prometheus.MustNewConstMetric(appendsDesc, prometheus.CounterValue, float64(appends))
	l.metrics.propagation.Collect(ch)
	l.metrics.bounds.Collect(ch)
}

// Applied observes that a replica has a revision in force. Revisions of other
// nodes, and old ones, are not observed.
func (l *Ledger) Applied(_ string, revision uint64) {
	l.mu.RLock()
	at, ok := l.accepted.of(revision)
	l.mu.RUnlock()
	if ok {
		l.metrics.propagation.Observe(l.now().Sub(at).Seconds())
	}
}

// acceptances are the times at which this node accepted recent revisions. The
// time from there to a replica's acknowledgement is the propagation.
type acceptances struct {
	first uint64
	at    []time.Time
}

const maxAcceptances = 1 << 13

func (a *acceptances) add(revision uint64, at time.Time) {
	if revision != a.first+uint64(len(a.at)) || len(a.at) == maxAcceptances { // a gap, or full: begin again
		a.first, a.at = revision, a.at[:0]
	}
	a.at = append(a.at, at)
}

func (a *acceptances) of(revision uint64) (time.Time, bool) {
	if revision < a.first || revision >= a.first+uint64(len(a.at)) {
		return time.Time{}, false
	}
	return a.at[revision-a.first], true
}
