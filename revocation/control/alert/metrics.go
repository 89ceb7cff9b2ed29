package alert

import (
	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/insight"
)

// Results of a delivery.
const (
	resultDelivered = "delivered"
	resultFailed    = "failed"  // one try, which is repeated
	resultRefused   = "refused" // for good
	resultDropped   = "dropped" // failed for too long, or there were too many alerts
)

// metrics have labels of this package and of the configuration alone.
type metrics struct {
	alerts     *prometheus.CounterVec
	refused    prometheus.Counter
	hearsay    prometheus.Counter
	deliveries *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, targets []Target) (*metrics, error) {
	f := &metrics{
		alerts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_control_alerts_total", Help: "Alerts that replicas raised. The same alert within the window counts once.",
		}, []string{"detector"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_alerts_refused_total", Help: "Alerts of replicas that this control endpoint could not read. Are the versions too far apart?",
		}),
		hearsay: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rescind_control_alerts_hearsay_total", Help: "Alerts about an issuer whose tokens the reporting replica does not say that it accepts; no action is carried out for them.",
		}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_alert_deliveries_total", Help: "Deliveries of alerts by target and result. Failed ones are tried again.",
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
