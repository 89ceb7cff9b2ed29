package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
)

// newWatcher begins to watch what tokens are used for. It ends after all that
// it has to do with: whatever it hands out until then is heard.
func newWatcher(c *config.Authz, registry prometheus.Registerer, log *slog.Logger, t *daemon.Teardown) (*watch.Watcher, error) {
	w, err := watch.New(watch.Options{Settings: watchSettings(c), Registerer: registry, Logger: log})
	if err == nil {
		t.Add("watcher", closing(w.Close))
	}
	return w, err
}

// watchSettings are those of alerts, and what advice has to know besides.
func watchSettings(c *config.Authz) watch.Settings {
	s := c.Alerts
	if c.Revocation.DenyOverdue {
		s.CutOff = c.Revocation.MaxStaleness
	}
	return s
}

// tell tells w of every decision.
func tell(w *watch.Watcher) func(context.Context, envoy.Observation) {
	return func(_ context.Context, o envoy.Observation) { w.Observe(o.Request, o.Decision, o.At) }
}
