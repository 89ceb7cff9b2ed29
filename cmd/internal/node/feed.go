package node

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"rescind/cmd/internal/daemon"
	"rescind/revocation"
	"rescind/revocation/control"
	"rescind/revocation/control/alert"
	"rescind/revocation/feed"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

// build makes the feed over the ledger, the authority over both, and the alerts
// and the API over the authority.
func (n *node) build() (err error) {
	n.feed = n.newFeed()
	n.teardown.Add("feed", daemon.Closing(func() error { n.feed.Close(); return nil }))
	options := ledger.AuthorityOptions{
		Ask: n.feed.AskBriefly, KnownIssuers: n.feed.Accepted,
		ShareOfTraffic: n.config.Limits.ShareOfTraffic, MinRequests: uint64(n.config.Limits.MinRequests), Logger: n.log,
	}
	if upstream := n.upstream(); upstream != nil {
		options.Forward = upstream.Forward
	}
	n.authority = ledger.NewAuthority(n.ledger, options)
	alerts, err := n.openAlerts()
	if err != nil {
		return err
	}
	n.feed.HandleAlerts(func(ctx context.Context, from feed.Replica, all []insight.Alert) error {
		return alerts.Take(ctx, alert.Reporter{Replica: from.Name, Credential: from.Credential, Issuers: namesOf(from.Issuers)}, all)
	}, alerts.TakeFromNode)
	intakes, err := n.buildIntakes()
	if err != nil {
		return err
	}
	api, err := control.NewServer(control.Options{
		Authority: n.authority, Credentials: n.credentials(), Version: n.options.Version,
		Replicas: n.replicas, WaitApplied: n.waitApplied, Ask: n.feed.Ask,
		Alerts: alerts, Intakes: intakes, Registerer: n.registry, Logger: n.log, Stopping: n.stopping,
	})
	if err != nil {
		return err
	}
	n.api.Store(api)
	return nil
}

func (n *node) newFeed() *feed.Server {
	options := feed.ServerOptions{Registerer: n.registry, Logger: n.log, OnApplied: n.ledger.Applied}
	for _, t := range n.config.Feed.Tokens {
		options.Tokens = append(options.Tokens, feed.Token{Name: t.Name, SHA256: t.SHA256, MaxReplicas: t.MaxReplicas})
	}
	if options.Memory = n.store; n.config.Store.Dir != "" {
		options.Memory = feed.Folder(n.config.Store.Dir)
	}
	if !n.alone() {
		options.Nodes = n.store
		if c := n.config.Store.Cluster; c != nil {
			options.Others = len(c.Peers)
		}
	}
	return feed.NewServer(n.ledger, options)
}

// credentials returns the admin tokens of the configuration.
func (n *node) credentials() (all []control.Credential) {
	for _, t := range n.config.Admin.Tokens {
		c := control.Credential{Name: t.Name, SHA256: t.SHA256, Issuers: t.Issuers}
		for _, r := range t.Roles {
			c.Roles = append(c.Roles, ledger.Role(r))
		}
		all = append(all, c)
	}
	return all
}

// replicas returns the replicas that the feed knows, as the API shows them.
func (n *node) replicas() []control.Replica {
	all := n.feed.Replicas()
	out := make([]control.Replica, len(all))
	for i, r := range all {
		out[i] = control.Replica{
			Name: r.Name, Credential: r.Credential, Connected: r.Connected, Revision: r.Revision, Behind: r.Behind, Entries: r.Entries,
			Issuers: namesOf(r.Issuers), Version: r.Version, Rules: r.Rules, Incomplete: r.Incomplete,
		}
		if !r.LastAck.IsZero() {
			at := r.LastAck.UTC()
			out[i].LastAck = &at
		}
	}
	return out
}

// namesOf returns the issuers that a replica accepts, by name. They are nil if
// it does not report them.
func namesOf(accepted []revocation.AcceptedIssuer) []string {
	if accepted == nil {
		return nil
	}
	names := make([]string, 0, len(accepted))
	for i := range accepted {
		names = append(names, accepted[i].Issuer)
	}
	return slices.Compact(names)
}

func (n *node) waitApplied(ctx context.Context, w ledger.Wanted) control.Applied {
	a := n.feed.WaitApplied(ctx, feed.Wanted(w))
	return control.Applied{Applied: a.Applied, Total: a.Total, Accepting: a.Accepting, Pending: a.Pending}
}

// serveFeed begins to serve replicas on l.
func (n *node) serveFeed(l net.Listener, secure *tls.Config) {
	options := n.feed.Options()
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	server := grpc.NewServer(options...)
	n.feed.Register(server)
	served := n.processes.Run("feed", func() error { return server.Serve(l) })
	n.teardown.Add("feed connections", func(context.Context) error {
		n.feed.Close()
		server.Stop()
		<-served
		return nil
	})
	daemon.LogListening(n.log, "feed", l)
}
