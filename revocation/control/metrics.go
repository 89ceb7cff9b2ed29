package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger"
)

// metrics are the figures of the control endpoint.
type metrics struct {
	ledger      *ledger.Ledger
	replicas    func() []Replica
	propagation prometheus.Histogram
}

var (
	revisionDesc    = prometheus.NewDesc("rescind_control_revision", "Last revision of the log that is applied.", nil, nil)
	revocationsDesc = prometheus.NewDesc("rescind_control_revocations", "Revocations in force.", nil, nil)
	appendsDesc     = prometheus.NewDesc("rescind_control_appends_total", "Batches that this node appended to the log.", nil, nil)
	replicasDesc    = prometheus.NewDesc("rescind_control_replicas", "Replicas that follow, by state.", []string{"state"}, nil)
)

func newMetrics(l *ledger.Ledger, replicas func() []Replica) *metrics {
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
	f := m.ledger.Figures()
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
	ch <- prometheus.MustNewConstMetric(revisionDesc, prometheus.GaugeValue, float64(f.Revision))
	ch <- prometheus.MustNewConstMetric(revocationsDesc, prometheus.GaugeValue, float64(f.InForce))
	ch <- prometheus.MustNewConstMetric(appendsDesc, prometheus.CounterValue, float64(f.Appends))
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(n), state)
	}
	m.propagation.Collect(ch)
}

// Applied observes that a replica has a revision in force.
func (s *Server) Applied(_ string, revision uint64) {
	if at, ok := s.ledger.AcceptedAt(revision); ok {
		s.metrics.propagation.Observe(s.ledger.Now().Sub(at).Seconds())
	}
}
