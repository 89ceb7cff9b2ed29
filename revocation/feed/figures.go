package feed

import "github.com/prometheus/client_golang/prometheus"

// figures are the metrics of the feed.
type figures struct {
	refused    prometheus.Counter
	incomplete prometheus.Counter
	paced      prometheus.Counter
}

func newFigures() *figures {
	return &figures{
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_replicas_refused_total",
			Help: "Replicas that were refused because their feed token has max_replicas connected.",
		}),
		incomplete: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_replicas_incomplete_total",
			Help: "Times that a replica held other revocations than the log, and was sent all of them again.",
		}),
		paced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_replicas_paced_total",
			Help: "Times that a replica waited for its turn, because many replicas of its feed token had something to be sent.",
		}),
	}
}

func (f *figures) all() []prometheus.Collector {
	return []prometheus.Collector{f.refused, f.incomplete, f.paced}
}
