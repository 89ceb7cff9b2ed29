package replica

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy/known"
	"rescind/revocation/feed"
)

// nameOf returns the name under which operators know the replica whose Checks
// arrive at addr.
func nameOf(c *config.Authz, addr net.Addr) string {
	if c.Revocation.Name != "" {
		return c.Revocation.Name
	}
	return daemon.DefaultName(addr)
}

// follow begins to follow the feed under name.
func (p *process) follow(ctx context.Context, name string) {
	c := p.options.Config.Revocation
	options := feed.ClientOptions{
		Addresses: c.Control, Name: name, Version: p.options.Version, Profile: p.profile, Token: config.SecretFrom(c.TokenFile),
		Plaintext: c.TLS == nil, Reporter: p.reporter, Logger: p.log,
	}
	if p.known != nil {
		options.ConfirmFrom = time.Now().Add(known.Grace)
	}
	if s := c.TLS; s != nil {
		options.TLS = daemon.ClientTLS(s.CAFile, s.CertFile, s.KeyFile, s.ServerName, p.log)
		p.registry.MustRegister(daemon.Expiry("revocation", options.TLS))
	}
	// The teardown ends it, in its turn: the replica says goodbye only after its
	// last decision.
	following, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := p.processes.Run("feed", func() error { return feed.Follow(following, p.follower, options) })
	p.teardown.Add("feed", daemon.StopAndWait(end, ended))
}

// newReporter returns a reporter that sends the alerts of w to the control
// endpoint and answers its queries.
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

// lastAlerts returns a teardown step that closes the watcher and sends the
// alerts that it still held, for up to a second.
func lastAlerts(w *watch.Watcher, r *feed.Reporter) func(context.Context) error {
	return func(ctx context.Context) error {
		err := w.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r.Flush(ctx)
		return err
	}
}
