package control

import "github.com/prometheus/client_golang/prometheus"

// metrics are the metrics of the API. Those of the ledger are its own.
type metrics struct {
	replicas func() []Replica
	refused  *prometheus.CounterVec
	requests *prometheus.CounterVec
	paced    *prometheus.CounterVec
}

var replicasDesc = prometheus.NewDesc("rescind_control_replicas", "Replicas that follow, by state.", []string{"state"}, nil)

func newMetrics(replicas func() []Replica) *metrics {
	return &metrics{replicas: replicas, refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rescind_control_requests_refused_total",
		Help: "Requests that met a bound: requests, imports (restorations of a write among them) or waits at once, or refused_imports (a credential whose imports are refused too often).",
	}, []string{"bound"}), requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rescind_admin_requests_total",
		Help: "Requests of the admin API, by operation and status. The operation none is of requests that no operation takes.",
	}, []string{"operation", "code"}), paced: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rescind_control_imports_paced_total",
		Help: "Imports and restorations of a write that waited because of the lines that their credential had imported or restored before, by operation.",
	}, []string{"operation"})}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- replicasDesc
	m.refused.Describe(ch)
	m.requests.Describe(ch)
	m.paced.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
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
	for state, n := range states {
		ch <- prometheus.MustNewConstMetric(replicasDesc, prometheus.GaugeValue, float64(n), state)
	}
	m.refused.Collect(ch)
	m.requests.Collect(ch)
	m.paced.Collect(ch)
}
