package node

import (
	"path/filepath"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/revocation/control"
	"rescind/revocation/control/alert"
)

// openAlerts opens the inbox of alerts and begins to deliver those that it kept.
// A node whose log is in a NATS elsewhere has no folder, so it keeps alerts in
// memory alone.
func (n *node) openAlerts() (*alert.Inbox, error) {
	options := alert.Options{Window: n.config.Alerts.Window, Targets: n.targets(), Registerer: n.registry, Logger: n.log}
	if dir := n.config.Store.Dir; dir != "" {
		options.File = filepath.Join(dir, "alerts.json")
	}
	in, err := alert.Open(options)
	if err != nil {
		return nil, err
	}
	n.teardown.Add("alerts", daemon.Closing(in.Close))
	return in, nil
}

// targets returns the receivers of alerts: webhooks, Alertmanagers, actions.
func (n *node) targets() (all []alert.Target) {
	c := n.config.Alerts
	for _, w := range c.Webhooks {
		all = append(all, alert.Webhook(alert.WebhookOptions{
			Name: w.Name, URL: w.URL, Secret: config.SecretFrom(w.SecretFile), Detectors: w.Detectors,
			TLS: daemon.ClientTLS(w.CAFile, "", "", "", n.log),
		}))
	}
	for _, m := range c.Alertmanagers {
		all = append(all, alert.Alertmanager(alert.AlertmanagerOptions{
			Name: m.Name, URL: m.URL, Detectors: m.Detectors, Window: c.Window, Source: c.ExternalURL,
			TLS: daemon.ClientTLS(m.CAFile, "", "", "", n.log),
		}))
	}
	for _, a := range c.Actions {
		all = append(all, control.Action(a).Target(n.authority, n.log))
	}
	return all
}

// upstream returns the part that forwards revoked tokens to their issuers, or
// nil where no issuer is configured.
func (n *node) upstream() *control.Upstream {
	if len(n.config.Issuers) == 0 {
		return nil
	}
	var endpoints []control.IssuerEndpoint
	for _, i := range n.config.Issuers {
		endpoints = append(endpoints, n.endpointOf(i))
	}
	u := control.NewUpstream(n.ledger, endpoints, n.log)
	n.teardown.Add("issuers", daemon.Closing(u.Close))
	return u
}

func (n *node) endpointOf(i config.Upstream) control.IssuerEndpoint {
	e := control.IssuerEndpoint{
		Issuer: i.Issuer, URL: i.RevocationEndpoint, ClientID: i.ClientID,
		TLS: daemon.ClientTLS(i.CAFile, "", "", "", n.log),
	}
	if i.ClientSecretFile != "" {
		e.Secret = config.SecretFrom(i.ClientSecretFile)
	}
	return e
}
