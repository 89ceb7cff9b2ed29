package control

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// acceptances remember when recent revisions were accepted here, for the time
// that they take to a replica.
type acceptances struct {
	first uint64
	at    []time.Time
}

const maxAcceptances = 1 << 13

func (a *acceptances) add(revision uint64, at time.Time) {
	if revision != a.first+uint64(len(a.at)) || len(a.at) == maxAcceptances { // begin anew
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

// metrics are the figures of the control endpoint.
type metrics struct {
	ledger      *Ledger
	replicas    func() []Replica
	propagation prometheus.Histogram
}

var (
	revisionDesc    = prometheus.NewDesc("rescind_control_revision", "Last revision of the log that is applied.", nil, nil)
	revocationsDesc = prometheus.NewDesc("rescind_control_revocations", "Revocations in force.", nil, nil)
	appendsDesc     = prometheus.NewDesc("rescind_control_appends_total", "Batches that this node appended to the log.", nil, nil)
	replicasDesc    = prometheus.NewDesc("rescind_control_replicas", "Replicas that follow, by state.", []string{"state"}, nil)
)

func newMetrics(l *Ledger, replicas func() []Replica) *metrics {
	return &metrics{ledger: l, replicas: replicas, propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "rescind_propagation_seconds",
		Help:    "Time from the acceptance of a revision to its being in force on a replica.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
	})}
}

func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- revisionDesc
	ch <- revocationsDesc
	ch <- appendsDesc
	ch <- replicasDesc
	m.propagation.Describe(ch)
}

func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	l := m.ledger
	l.mu.RLock()
	revision, live, appends := l.revision, l.rows.live, l.appends
	l.mu.RUnlock()
	states := map[string]int{"current": 0, "behind": 0, "lost": 0}
	for _, r := range m.replicas() {
		switch {
		case !r.Connected:
			states["lost"]++
		case r.Behind > 0:
			states["behind"]++
		default:
			states["current"]++
		}
	}
	ch <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(revision))
	ch <- prometheus.MustNewConstMetric(revocationsDesc, prometheus.GaugeValue, float64(live))
	ch <- prometheus.MustNewConstMetric(appendsDesc, prometheus.CounterValue, float64(appends))
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(n), state)
	}
	m.propagation.Collect(ch)
}

// Applied is told that a replica has a revision in force.
func (s *Server) Applied(_ string, revision uint64) {
	l := s.ledger
	l.mu.RLock()
	at, ok := l.accepted.of(revision)
	l.mu.RUnlock()
	if ok {
		s.metrics.propagation.Observe(l.now().Sub(at).Seconds())
	}
}
