// Package node is the process of a control endpoint, alone or one of several
// nodes: the admin API, the durable log and the feed to the replicas.
// `rescind control` runs it, and a test can embed it.
//
// # Order
//
// A node that is alone opens its admin listener to requests once its log has
// been read, so that a client that can connect finds the whole log. One of
// several nodes answers at once, because it can read its log only together with
// the others; until then it answers that it is unavailable.
//
// [Run] lists the parts in the order of their construction. Each part registers
// its teardown on the next line, and the teardowns run last in, first out.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/revocation/control"
	"rescind/revocation/feed"
	"rescind/revocation/ledger"
	"rescind/revocation/store"
)

// Options of a control node.
type Options struct {
	Path      string          // of the configuration file, for the log
	Config    *config.Control // as it was read from Path
	AcceptLog string          // name of the log that this one takes the place of; empty: none
	Version   string          // of the program, for the log, the metrics and the API's own description
	Commit    string          // of the program, for the log and the metrics
	Stderr    io.Writer       // the log goes here
}

// drainTime bounds the teardown of the process.
const drainTime = 20 * time.Second

// Run runs a control node until ctx ends or one of its parts fails. The error
// is a [config.Unusable] where the configuration is at fault.
func Run(ctx context.Context, o Options) (err error) {
	c := o.Config
	log := daemon.NewLogger(c.Log.Format, c.Log.Level, o.Stderr)
	daemon.AdoptLibraries(log)
	daemon.LogStarted(log, o.Version, o.Commit, o.Path)
	defer func() { daemon.LogFailed(log, err) }()
	teardown := &daemon.Teardown{Logger: log}
	defer func() { err = errors.Join(err, teardown.Run(drainTime)) }()
	registry := daemon.Registry(o.Version, o.Commit)
	processes, ctx := daemon.NewProcesses(ctx)
	daemon.LimitMemory(ctx, log, 0)
	go daemon.BoundGarbage(ctx)
	n := &node{options: o, config: c, log: log, processes: processes, teardown: teardown, registry: registry, stopping: ctx.Done()}
	teardown.Add("lines of refusals", daemon.Closing(func() error {
		if n.ledger != nil {
			n.ledger.CloseLines()
		}
		return nil
	}))

	admin, adminTLS, err := daemon.Open(ctx, c.HTTP, log)
	if err != nil {
		return err
	}
	teardown.Add("admin listener", daemon.Closing(admin.Close))
	feedListener, feedTLS, err := daemon.Open(ctx, c.Feed.Listener, log)
	if err != nil {
		return err
	}
	teardown.Add("feed listener", daemon.Closing(feedListener.Close))
	var intakes net.Listener
	var intakesTLS *tls.Config
	if c.IntakeHTTP != nil {
		if intakes, intakesTLS, err = daemon.Open(ctx, *c.IntakeHTTP, log); err != nil {
			return err
		}
		teardown.Add("intake listener", daemon.Closing(intakes.Close))
		registry.MustRegister(daemon.ServerExpiry("intake", intakesTLS))
	}
	started := time.Now()
	registry.MustRegister(
		daemon.LastChange(func() time.Time { return started }),
		daemon.LastReload(func() bool { return true }), // the configuration is read at the start alone
		daemon.ServerExpiry("http", adminTLS), daemon.ServerExpiry("feed", feedTLS),
	)

	if !n.alone() {
		n.serveAdmin(admin, adminTLS)
	}
	if err := n.openLog(ctx); err != nil {
		return err
	}
	if n.alone() {
		if err := n.awaitLog(ctx); err != nil {
			return errors.Join(err, processes.Err())
		}
	}
	if err := n.build(); err != nil {
		return &config.Unusable{Err: err}
	}
	n.serveFeed(feedListener, feedTLS)
	if intakes != nil {
		n.serveIntakes(intakes, intakesTLS)
	}
	if n.alone() {
		n.serveAdmin(admin, adminTLS)
	}
	return processes.Wait(ctx, log, n.readiness)
}

// node is a control node that starts or runs.
type node struct {
	options   Options
	config    *config.Control
	log       *slog.Logger
	processes *daemon.Processes
	teardown  *daemon.Teardown
	registry  *prometheus.Registry
	stopping  <-chan struct{} // closed when the process ends

	store     *store.Log
	ledger    *ledger.Ledger
	feed      *feed.Server
	authority *ledger.Authority
	api       atomic.Pointer[control.Server] // nil until build
	pushed    map[string]http.Handler        // of the intakes, by name
}

// alone reports whether no other node writes the log.
func (n *node) alone() bool { return n.config.Store.Cluster == nil && n.config.Store.NATS == nil }

// openLog opens the durable log and begins to read it.
func (n *node) openLog(ctx context.Context) (err error) {
	options := store.Options{Dir: n.config.Store.Dir, Accept: n.options.AcceptLog, Logger: n.log}
	if c := n.config.Store.Cluster; c != nil {
		secret, err := config.ReadSecret(c.SecretFile)
		if err != nil {
			return &config.Unusable{Err: err}
		}
		options.Cluster = &store.Cluster{Name: c.Name, Listen: c.Listen, Peers: c.Peers, Secret: secret}
		if t := c.TLS; t != nil {
			if options.Cluster.TLS, err = daemon.MutualTLS(t.CertFile, t.KeyFile, t.CAFile, n.log); err != nil {
				return err
			}
			n.registry.MustRegister(daemon.ServerExpiry("cluster", options.Cluster.TLS))
		}
	}
	if s := n.config.Store.NATS; s != nil {
		options.NATS = &store.NATS{URL: s.URL, CredentialsFile: s.CredentialsFile, Name: daemon.DefaultName(&net.UnixAddr{Name: n.config.HTTP.Address})}
	}
	if n.store, err = store.Open(ctx, options); err != nil {
		return err
	}
	n.teardown.Add("log", daemon.Closing(n.store.Close))
	n.registry.MustRegister(n.figures()...)
	n.ledger = ledger.New(n.store, ledger.Options{Retention: n.config.Store.Retention, ShapesPerIssuer: n.config.Limits.ShapesPerIssuer, Logger: n.log})
	n.registry.MustRegister(n.ledger)
	reading, end := context.WithCancel(context.WithoutCancel(ctx)) // the teardown ends it, in its turn
	ended := n.processes.Run("log", func() error { return n.ledger.Run(reading) })
	n.teardown.Add("ledger", daemon.StopAndWait(end, ended))
	return nil
}

// awaitLog waits until the ledger has read the whole log.
func (n *node) awaitLog(ctx context.Context) error {
	select {
	case <-n.ledger.CaughtUp():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serveAdmin begins to answer the admin API, health and metrics on l.
func (n *node) serveAdmin(l net.Listener, secure *tls.Config) {
	server := daemon.NewServer(daemon.Page(n.registry, n.readiness, http.HandlerFunc(n.answer)), secure, n.log)
	served := n.processes.Run("admin", func() error { return server.Serve(l) })
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

// readiness reports whether the node can answer the admin API.
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
