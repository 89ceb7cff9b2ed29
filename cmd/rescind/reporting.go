package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz/watch"
	"rescind/revocation/feed"
)

// newReporter tells the control endpoint of the alerts of w, and what it asks.
func newReporter(w *watch.Watcher, registry prometheus.Registerer, log *slog.Logger) (*feed.Reporter, error) {
	r := feed.NewReporter(feed.ReporterOptions{Answer: w.Answer, Logger: log})
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rescind_alerts_pending", Help: "Alerts that the control endpoint has not taken yet.",
		}, func() float64 { return float64(r.Reported().Pending) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "rescind_alerts_reported_total", Help: "Alerts that the control endpoint has taken.",
		}, func() float64 { return float64(r.Reported().Taken) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "rescind_alerts_dropped_total", Help: "Alerts that are lost because too many were pending.",
		}, func() float64 { return float64(r.Reported().Dropped) }),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	w.SetSink(r.Add)
	return r, nil
}

// lastAlerts is a teardown step: what was held back is handed out, and told if
// there is somebody to tell.
func lastAlerts(w *watch.Watcher, r *feed.Reporter) func(context.Context) error {
	return func(ctx context.Context) error {
		err := w.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r.Flush(ctx)
		return err
	}
}
