// Package replica is the process of the data plane: it answers Envoy's Checks
// from keys and revocations that it holds in memory. `rescind authz` runs it,
// and a test can embed it.
//
// # Order
//
// [Run] lists the parts in the order of their construction. Each part registers
// its teardown on the next line, and the teardowns run last in, first out. So
// the server of Checks ends first, then the decision log that it writes, then
// the feed, and the revocation set at the very end.
//
// # Reload
//
// The configuration comes in two structs. A reload puts a new
// [config.Reloadable] in force, whole or not at all: everything that can refuse
// it runs before the first change. A new [config.AtStart] takes a restart, and
// a reload only logs that it differs.
//
// # Ownership
//
// After the start only the goroutine of the reload uses a process, except for
// its readiness, which any request may ask for.
package replica

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/tokencache"
	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/jwks/statuslist"
	"rescind/revocation/feed"
	revset "rescind/revocation/replica"
)

// Options of a replica.
type Options struct {
	Path           string        // of the configuration file, which is reread when it changes; config.Stdin has none
	Config         *config.Authz // as it was read from Path, or from standard input
	Version        string        // of the program, for the log, the metrics, the feed and OpenTelemetry
	Commit         string        // of the program, for the log and the metrics
	Stdout, Stderr io.Writer     // decisions go to either, the log goes to Stderr
}

const (
	// drainTime bounds the teardown of the process.
	drainTime = 20 * time.Second
	// linger is the time for which a stopping replica still answers an Envoy
	// that is connected: longer than two health checks of envoy.yaml.
	linger = 2500 * time.Millisecond
	// reloadDelay is the time for which files must stay unchanged before a
	// reload reads them.
	reloadDelay = 200 * time.Millisecond
)

// Run runs a replica until ctx ends or one of its parts fails. The error is a
// [config.Unusable] where the configuration is at fault.
func Run(ctx context.Context, o Options) (err error) {
	c := o.Config
	level := new(slog.LevelVar)
	level.Set(c.LogLevel)
	log := daemon.NewLogger(c.LogFormat, level, o.Stderr)
	daemon.AdoptLibraries(log)
	daemon.LogStarted(log, o.Version, o.Commit, o.Path)
	defer func() { daemon.LogFailed(log, err) }()
	teardown := &daemon.Teardown{Logger: log}
	defer func() { err = errors.Join(err, teardown.Run(drainTime)) }()
	registry := daemon.Registry(o.Version, o.Commit)
	processes, ctx := daemon.NewProcesses(ctx)
	daemon.LimitMemory(ctx, log, sharedMemory(c.Known))
	go daemon.BoundGarbage(ctx)

	sets := revset.Options{
		Dir: below(c.Revocation.Dir, "revocations"), MaxStaleness: c.Staleness.Max, Lifetimes: lifetimes(&c.Reloadable), Logger: log,
	}
	known := newKnownTokens(c.Known, registry, log)
	if known != nil {
		sets.Changed = known.changed
	}
	follower, err := revset.Open(sets)
	if err != nil {
		return err
	}
	teardown.Add("revocations", daemon.Closing(follower.Close))

	figures, err := jwks.NewFigures(registry)
	if err != nil {
		return err
	}
	statusFigures, err := statuslist.NewFigures(registry)
	if err != nil {
		return err
	}
	p := &process{
		options: o, log: log, level: level, registry: registry, processes: processes, teardown: teardown,
		figures: figures, statusFigures: statusFigures, follower: follower, keys: map[string]issuerKeys{}, cacheCounts: tokencache.NewCounts(), known: known,
	}
	of := p.newAdmission()
	authorizer, keys, err := p.build(&c.Reloadable, of)
	if err != nil {
		return &config.Unusable{Err: err}
	}
	p.adopt(c, keys)
	p.logWarnings(c)
	p.changedAt.Store(time.Now().UnixNano())
	teardown.Add("keys", daemon.Closing(p.close))

	grpcListener, grpcTLS, err := daemon.Open(ctx, c.GRPC, log)
	if err != nil {
		return err
	}
	teardown.Add("grpc listener", daemon.Closing(grpcListener.Close))
	httpListener, httpTLS, err := daemon.Open(ctx, c.HTTP, log)
	if err != nil {
		return err
	}
	teardown.Add("http listener", daemon.Closing(httpListener.Close))
	registry.MustRegister(
		daemon.LastReload(func() bool { return !p.reloadRefused.Load() }),
		daemon.LastChange(func() time.Time { return time.Unix(0, p.changedAt.Load()) }),
		daemon.ServerExpiry("grpc", grpcTLS), daemon.ServerExpiry("http", httpTLS),
	)

	page := daemon.NewServer(daemon.Page(registry, p.readiness, nil), httpTLS, log)
	served := processes.Run("http", func() error { return page.Serve(httpListener) })
	teardown.Add("http", func(ctx context.Context) error { err := page.Shutdown(ctx); <-served; return err })
	daemon.LogListening(log, "http", httpListener)

	if p.watcher, err = watch.New(watch.Options{Settings: watchSettings(&c.Reloadable), Registerer: registry, Logger: log}); err != nil {
		return err
	}
	teardown.Add("watcher", daemon.Closing(p.watcher.Close))
	if p.reporter, err = newReporter(p.watcher, registry, log); err != nil {
		return err
	}
	name := nameOf(c, grpcListener.Addr())
	p.profile = feed.NewProfile(accepted(&c.Reloadable))
	p.follow(ctx, name)
	teardown.Add("alerts", lastAlerts(p.watcher, p.reporter)) // before the feed ends
	if p.observers, err = p.observe(ctx, name); err != nil {
		return err
	}
	if err := p.serve(grpcListener, grpcTLS, authorizer); err != nil {
		return err
	}
	if of != nil {
		if err := p.serveKnown(ctx, authorizer, of); err != nil { // after the server of Checks, so that it ends before it
			return err
		}
	}
	watching, unwatch := context.WithCancel(ctx)
	watched := processes.Run("configuration", func() error {
		daemon.Watch(watching, c.Files(), reloadDelay, log, func() { p.reload(watching) })
		return nil
	})
	teardown.Add("configuration", daemon.StopAndWait(unwatch, watched))

	return processes.Wait(ctx, log, p.readiness)
}

// process is a running replica.
type process struct {
	options   Options
	log       *slog.Logger
	level     *slog.LevelVar
	registry  *prometheus.Registry
	processes *daemon.Processes
	teardown  *daemon.Teardown

	figures       *jwks.Figures
	statusFigures *statuslist.Figures
	follower      *revset.Follower
	watcher       *watch.Watcher
	reporter      *feed.Reporter
	profile       *feed.Profile
	observers     *observers
	gate          *gate.Gate

	cacheCounts *tokencache.Counts // of the authorizers one after the other
	known       *knownTokens       // nil: every request of Envoy asks

	running *config.Authz // as last put in force
	keys    map[string]issuerKeys
	ready   readyKeys

	reloadNote    atomic.Pointer[string] // for readiness; nil or empty: none
	reloadRefused atomic.Bool            // the last reload was refused
	changedAt     atomic.Int64           // when running was put in force, in Unix nanoseconds
}

// serve begins to answer Checks on l.
func (p *process) serve(l net.Listener, secure *tls.Config, a *authz.Authorizer) (err error) {
	if err := p.registry.Register(followerMetrics{p.follower}); err != nil {
		return err
	}
	options := gate.Options{
		Authorizer: a, Registerer: p.registry, Logger: p.log,
		Watch: func(o gate.Observation, first time.Time, times int) {
			p.watcher.ObserveUses(o.Request, o.Decision, first, o.At, times)
		},
	}
	p.observers.addTo(&options)
	if p.gate, err = gate.New(options); err != nil {
		return err
	}
	if err := p.registry.Register(cacheMetrics{p.gate, p.cacheCounts}); err != nil {
		return err
	}
	c := p.options.Config
	server, err := envoy.NewServer(envoy.Options{
		Gate: p.gate, MaxMessage: c.MaxMessage, MaxReceiving: c.MaxReceiving, Ready: func() bool { return len(p.readiness().Missing) == 0 },
		TLS: secure, Linger: linger, Registerer: p.registry, Logger: p.log,
	})
	if err != nil {
		return err
	}
	served := p.processes.Run("grpc", func() error { return server.Serve(l) })
	p.teardown.Add("grpc", func(ctx context.Context) error { err := server.Shutdown(ctx); <-served; return err })
	daemon.LogListening(p.log, "grpc", l)
	return nil
}
