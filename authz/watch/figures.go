package watch

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/insight"
)

// figures are what Prometheus sees. The one label is of our own words.
type figures struct {
	alerts  *prometheus.CounterVec
	dropped counter
	tokens  prometheus.Gauge
}

// counter is one that can also be asked whether it has moved.
type counter struct {
	prometheus.Counter
	moved *atomic.Bool
}

func (c counter) Inc() {
	c.moved.Store(true)
	c.Counter.Inc()
}

func newFigures() *figures {
	f := &figures{
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_alerts_total", Help: "Sightings of something unusual, by what noticed it.",
		}, []string{"detector"}),
		dropped: counter{prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_watch_dropped_total", Help: "Decisions that were not watched because too many came at once.",
		}), new(atomic.Bool)},
		tokens: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rescind_watch_tokens", Help: "Tokens that are remembered.",
		}),
	}
	for _, d := range insight.Detectors {
		f.alerts.WithLabelValues(string(d))
	}
	return f
}

func (f *figures) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(f.alerts), r.Register(f.dropped.Counter), r.Register(f.tokens))
}

// lost says whether something has been dropped since it was asked last.
func (f *figures) lost() bool { return f.dropped.moved.Load() && f.dropped.moved.Swap(false) }
