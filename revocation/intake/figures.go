package intake

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Figures are the metrics of all intakes of a node. Their labels are names of the
// configuration.
type Figures struct {
	events *prometheus.CounterVec
	lag    *prometheus.Desc
	last   *prometheus.Desc
	polled *prometheus.Desc
	held   *prometheus.Desc

	mu    sync.Mutex
	doors []*Door
}

// NewFigures returns metrics without an intake. [New] adds its door.
func NewFigures() *Figures {
	return &Figures{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_intake_events_total",
			Help: "Events by intake and outcome: ignored, refused, dry_run, already, revoked, undone, held; turned is a request whose sender or form is wrong, failed an event that could not be made durable.",
		}, []string{"intake", "outcome"}),
		lag: prometheus.NewDesc("rescind_intake_lag_seconds",
			"How far behind its sender the intake was at the last event or poll on this node.", []string{"intake"}, nil),
		last: prometheus.NewDesc("rescind_intake_last_event_timestamp_seconds",
			"When this node last took an event of the intake. 0: not since the start.", []string{"intake"}, nil),
		polled: prometheus.NewDesc("rescind_intake_last_poll_timestamp_seconds",
			"When this node last polled the sender with success, for intakes that poll. 0: not since the start. One of the nodes polls.", []string{"intake"}, nil),
		held: prometheus.NewDesc("rescind_intake_held",
			"Events that wait until an operator releases or drops them, the same on all nodes.", []string{"intake"}, nil),
	}
}

func (f *Figures) begin(d *Door) {
	for _, o := range outcomes() {
		f.events.WithLabelValues(d.Name, o)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doors = append(f.doors, d)
}

// Describe implements [prometheus.Collector].
func (f *Figures) Describe(out chan<- *prometheus.Desc) {
	f.events.Describe(out)
	out <- f.lag
	out <- f.last
	out <- f.polled
	out <- f.held
}

// Collect implements [prometheus.Collector].
func (f *Figures) Collect(out chan<- prometheus.Metric) {
	f.events.Collect(out)
	f.mu.Lock()
	doors := f.doors
	f.mu.Unlock()
	for _, d := range doors {
		s := d.Status()
		out <- prometheus.MustNewConstMetric(f.lag, prometheus.GaugeValue, s.Lag.Seconds(), d.Name)
		out <- prometheus.MustNewConstMetric(f.last, prometheus.GaugeValue, seconds(s.LastEvent), d.Name)
		out <- prometheus.MustNewConstMetric(f.held, prometheus.GaugeValue, float64(d.waiting.Load()), d.Name)
		if d.Pulls {
			out <- prometheus.MustNewConstMetric(f.polled, prometheus.GaugeValue, seconds(s.LastSuccess), d.Name)
		}
	}
}

// seconds returns the Unix time of t, or 0 for the zero time.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
