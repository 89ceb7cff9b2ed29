package main

import (
	"path/filepath"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/revocation/control"
	"rescind/revocation/control/alert"
)

// openAlerts begins to hand on the alerts that were kept, and to take new ones.
// Where the log is elsewhere, so that there is no folder, alerts are kept in
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
	n.teardown.Add("alerts", closing(in.Close))
	return in, nil
}

// targets are all who are told of alerts.
func (n *node) targets() (all []alert.Target) {
	c := n.config.Alerts
	for _, w := range c.Webhooks {
		all = append(all, alert.Webhook(alert.WebhookOptions{
			Name: w.Name, URL: w.URL, Secret: secretOf(w.SecretFile), Detectors: w.Detectors,
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
		all = append(all, control.Action(a).Target(n.ledger, n.log))
	}
	return all
}

// upstream tells issuers of revoked tokens; nil if there is none to tell.
func (n *node) upstream() *control.Upstream {
	if len(n.config.Issuers) == 0 {
		return nil
	}
	var endpoints []control.IssuerEndpoint
	for _, i := range n.config.Issuers {
		endpoints = append(endpoints, endpointOf(i, n))
	}
	u := control.NewUpstream(n.ledger, endpoints, n.log)
	n.teardown.Add("issuers", closing(u.Close))
	return u
}

func endpointOf(i config.Upstream, n *node) control.IssuerEndpoint {
	e := control.IssuerEndpoint{
		Issuer: i.Issuer, URL: i.RevocationEndpoint, ClientID: i.ClientID,
		TLS: daemon.ClientTLS(i.CAFile, "", "", "", n.log),
	}
	if i.ClientSecretFile != "" {
		e.Secret = secretOf(i.ClientSecretFile)
	}
	return e
}
