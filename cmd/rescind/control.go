package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/revocation/control"
	"rescind/revocation/feed"
	"rescind/revocation/store"
)

func controlCommand() *cobra.Command {
	var flags serverFlags
	var accept string
	cmd := &cobra.Command{
		Use:   "control --config FILE",
		Short: "The control endpoint: admin API, durable log, feed to the replicas",
		Long: `The control endpoint: takes revocations over its admin API, makes them durable,
and feeds them to the replicas.

A replica never goes back: it refuses a control endpoint whose log is another
one, or an older copy of the one that it holds, and stays on what it has. If you
have replaced the log on purpose, start the control endpoint (each node of it)
once with --accept-log and the name of the log that the replicas hold, as they
log it. They then take this one in its place.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, done, err := readConfig(&flags, cmd.OutOrStdout(), config.ReadControl)
			if err != nil || done {
				return err
			}
			return runControl(cmd.Context(), c, accept, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd, "control.yaml")
	cmd.Flags().StringVar(&accept, "accept-log", "", "the log that this one takes the place of; it is remembered")
	return cmd
}

// runControl is the control endpoint's life.
//
// Alone, it listens once its log has been read, so that whoever finds it
// listening finds all of it. One of several nodes listens at once: it can
// begin only with the others.
func runControl(ctx context.Context, c *config.Control, accept string, stderr io.Writer) (err error) {
	log := newLogger(c.Log, new(slog.LevelVar), stderr)
	teardown := &daemon.Teardown{Logger: log}
	defer func() { err = errors.Join(err, teardown.Run(drainTime)) }()
	registry := daemon.Registry()
	processes, ctx := newProcesses(ctx)
	go thriftily(ctx)
	n := &node{config: c, accept: accept, log: log, processes: processes, teardown: teardown, registry: registry}

	admin, adminTLS, err := listen(ctx, c.HTTP, log)
	if err != nil {
		return err
	}
	teardown.Add("admin listener", closing(admin.Close))
	feedListener, feedTLS, err := listen(ctx, c.Feed.Listener, log)
	if err != nil {
		return err
	}
	teardown.Add("feed listener", closing(feedListener.Close))

	if !n.alone() {
		n.serveAdmin(admin, adminTLS)
	}
	if err := n.openLog(ctx); err != nil {
		return err
	}
	if n.alone() {
		if err := n.logRead(ctx); err != nil {
			return errors.Join(err, processes.err())
		}
	}
	if err := n.build(); err != nil {
		return usageError{err}
	}
	n.serveFeed(feedListener, feedTLS)
	if n.alone() {
		n.serveAdmin(admin, adminTLS)
	}
	<-ctx.Done()
	log.Info("ending", "reason", context.Cause(ctx).Error())
	return processes.err()
}

// node is a control endpoint coming up.
type node struct {
	config    *config.Control
	accept    string
	log       *slog.Logger
	processes *processes
	teardown  *daemon.Teardown
	registry  *prometheus.Registry

	store  *store.Log
	ledger *control.Ledger
	feed   *feed.Server
	api    atomic.Pointer[control.Server] // nil: not yet
}

// alone says that no other node has the log.
func (n *node) alone() bool { return n.config.Store.Cluster == nil && n.config.Store.NATS == nil }

// openLog opens the durable log and begins to read it.
func (n *node) openLog(ctx context.Context) (err error) {
	options := store.Options{Dir: n.config.Store.Dir, Accept: n.accept, Logger: n.log}
	if c := n.config.Store.Cluster; c != nil {
		secret, err := config.ReadSecret(c.SecretFile)
		if err != nil {
			return usageError{err}
		}
		options.Cluster = &store.Cluster{Name: c.Name, Listen: c.Listen, Peers: c.Peers, Secret: secret}
	}
	if s := n.config.Store.NATS; s != nil {
		options.NATS = &store.NATS{URL: s.URL, CredentialsFile: s.CredentialsFile, Name: defaultName(&net.UnixAddr{Name: n.config.HTTP.Address})}
	}
	if n.store, err = store.Open(ctx, options); err != nil {
		return err
	}
	n.teardown.Add("log", closing(n.store.Close))
	n.registry.MustRegister(n.figures()...)
	n.ledger = control.NewLedger(n.store, control.LedgerOptions{Retention: n.config.Store.Retention, Logger: n.log})
	reading, end := context.WithCancel(context.WithoutCancel(ctx)) // ends in its turn
	ended := n.processes.run("log", func() error { return n.ledger.Run(reading) })
	n.teardown.Add("ledger", awaited(end, ended))
	return nil
}

// logRead waits until all of the log has been read.
func (n *node) logRead(ctx context.Context) error {
	select {
	case <-n.ledger.Whole():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// build makes the feed and the API, which need each other.
func (n *node) build() (err error) {
	alerts, err := n.openAlerts()
	if err != nil {
		return err
	}
	options := feed.ServerOptions{Logger: n.log, OnAlerts: alerts.Take, OnElsewhere: alerts.Heard, OnApplied: func(name string, revision uint64) {
		if api := n.api.Load(); api != nil {
			api.Applied(name, revision)
		}
	}}
	for _, t := range n.config.Feed.Tokens {
		options.Tokens = append(options.Tokens, feed.Token{Name: t.Name, SHA256: t.SHA256})
	}
	if dir := n.config.Store.Dir; dir != "" {
		options.Memory = filepath.Join(dir, "replicas.json")
	}
	if !n.alone() {
		options.Nodes = n.store
		if c := n.config.Store.Cluster; c != nil {
			options.Others = len(c.Peers)
		}
	}
	n.feed = feed.NewServer(n.ledger, options)
	n.teardown.Add("feed", closing(func() error { n.feed.Close(); return nil }))
	var credentials []control.Credential
	for _, t := range n.config.Admin.Tokens {
		c := control.Credential{Name: t.Name, SHA256: t.SHA256, Issuers: t.Issuers}
		for _, r := range t.Roles {
			c.Roles = append(c.Roles, control.Role(r))
		}
		credentials = append(credentials, c)
	}
	api, err := control.NewServer(control.Options{
		Ledger: n.ledger, Credentials: credentials, Version: version().Version,
		Replicas: n.replicas, WaitApplied: n.waitApplied, Ask: n.feed.Ask,
		Alerts: alerts, Upstream: n.upstream(), ShareLimit: n.config.ShareOfTraffic, Registerer: n.registry, Logger: n.log,
	})
	n.api.Store(api)
	return err
}

func (n *node) replicas() []control.Replica {
	all := n.feed.Replicas()
	out := make([]control.Replica, len(all))
	for i, r := range all {
		out[i] = control.Replica{Name: r.Name, Connected: r.Connected, Revision: r.Revision, Behind: r.Behind, Entries: r.Entries}
		if !r.LastAck.IsZero() {
			at := r.LastAck.UTC()
			out[i].LastAck = &at
		}
	}
	return out
}

func (n *node) waitApplied(ctx context.Context, revision uint64) control.Applied {
	return control.Applied(n.feed.WaitApplied(ctx, revision))
}

func (n *node) serveFeed(l net.Listener, secure *tls.Config) {
	options := n.feed.Options()
	if secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	server := grpc.NewServer(options...)
	n.feed.Register(server)
	served := n.processes.run("feed", func() error { return server.Serve(l) })
	n.teardown.Add("feed connections", func(context.Context) error {
		n.feed.Close()
		server.Stop()
		<-served
		return nil
	})
	daemon.LogListening(n.log, "feed", l)
}

func (n *node) serveAdmin(l net.Listener, secure *tls.Config) {
	server := daemon.NewServer(daemon.Page(n.registry, n.readiness, http.HandlerFunc(n.answer)), secure, n.log)
	served := n.processes.run("admin", func() error { return server.Serve(l) })
	n.teardown.Add("admin", func(ctx context.Context) error { err := server.Shutdown(ctx); <-served; return err })
	daemon.LogListening(n.log, "admin", l)
}

// answer hands a request to the API, once there is one.
func (n *node) answer(w http.ResponseWriter, r *http.Request) {
	api := n.api.Load()
	if api == nil {
		control.Unavailable(w)
		return
	}
	api.ServeHTTP(w, r)
}

func (n *node) readiness() (out daemon.Readiness) {
	if n.api.Load() == nil {
		out.Missing = append(out.Missing, "the durable log is not open yet: it needs a majority of the control nodes")
		return out
	}
	if err := n.ledger.Ready(); err != nil {
		out.Missing = append(out.Missing, err.Error())
	}
	if err := n.store.Err(); err != nil {
		out.Notes = append(out.Notes, "the log takes no writes: "+err.Error())
	}
	return out
}
