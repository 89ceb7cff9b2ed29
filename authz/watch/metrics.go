package watch

import (
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/insight"
)

// metrics are the metrics of a watcher. Their one label is the detector.
type metrics struct {
	alerts  *prometheus.CounterVec
	dropped counter
	tokens  prometheus.Gauge
}

// counter is a counter that also reports whether it has moved.
type counter struct {
	prometheus.Counter
	moved *atomic.Bool
}

func (c counter) Add(n float64) {
	c.moved.Store(true)
	c.Counter.Add(n)
}

func newMetrics() *metrics {
	f := &metrics{
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_alerts_total", Help: "Sightings of unusual use, by detector.",
		}, []string{"detector"}),
		dropped: counter{prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_watch_dropped_total", Help: "Decisions that the watcher dropped because too many came at once.",
		}), new(atomic.Bool)},
		tokens: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rescind_watch_tokens", Help: "Tokens that the watcher remembers.",
		}),
	}
	for _, d := range insight.Detectors {
		f.alerts.WithLabelValues(string(d))
	}
	return f
}

func (f *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(f.alerts), r.Register(f.dropped.Counter), r.Register(f.tokens))
}

// lost reports whether an event was dropped since the last call.
func (f *metrics) lost() bool { return f.dropped.moved.Load() && f.dropped.moved.Swap(false) }
