package alert

import (
	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/insight"
)

// What becomes of telling a target.
const (
	resultDelivered = "delivered"
	resultFailed    = "failed"  // a try; it is told again
	resultRefused   = "refused" // for good
	resultDropped   = "dropped" // it could not be told for too long, or there were too many
)

// figures have labels of our own making and of the configuration alone.
type figures struct {
	alerts     *prometheus.CounterVec
	refused    prometheus.Counter
	hearsay    prometheus.Counter
	deliveries *prometheus.CounterVec
}

func newFigures(r prometheus.Registerer, targets []Target) (*figures, error) {
	f := &figures{
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_control_alerts_total", Help: "Alerts that replicas raised; what is seen again within the window counts once.",
		}, []string{"detector"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_alerts_refused_total", Help: "Alerts of replicas that made no sense here; are the versions too far apart?",
		}),
		hearsay: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_alerts_hearsay_total", Help: "Alerts about an issuer whose tokens the reporting replica does not say that it accepts; no action is carried out for them.",
		}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_alert_deliveries_total", Help: "What became of handing alerts on, by target; failed ones are tried again.",
		}, []string{"target", "result"}),
	}
	for _, d := range insight.Detectors {
		f.alerts.WithLabelValues(string(d))
	}
	for _, t := range targets {
		for _, result := range []string{resultDelivered, resultFailed, resultRefused, resultDropped} {
			f.deliveries.WithLabelValues(t.Name, result)
		}
	}
	if r == nil {
		return f, nil
	}
	for _, c := range []prometheus.Collector{f.alerts, f.refused, f.hearsay, f.deliveries} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return f, nil
}
