package feed

import "github.com/prometheus/client_golang/prometheus"

// refusals counts the replicas that were not let in.
type refusals struct {
	full prometheus.Counter
}

func newRefusals() *refusals {
	return &refusals{
		full: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_replicas_refused_total",
			Help: "Replicas that were refused because their feed token has max_replicas connected.",
		}),
	}
}
