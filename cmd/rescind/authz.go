package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"rescind/authz"
	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/revocation"
	"rescind/revocation/feed"
	revset "rescind/revocation/replica"
)

func authzCommand() *cobra.Command {
	var flags serverFlags
	cmd := &cobra.Command{
		Use:   "authz --config FILE",
		Short: "The data plane: what Envoy asks",
		Long: `The data plane: answers Envoy's ext_authz calls, from keys and revocations that
it holds in memory. It rereads its configuration when a file of it changes, or
on SIGHUP; what is faulty is refused, and what is in force stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, done, err := readConfig(&flags, cmd.OutOrStdout(), config.ReadAuthz)
			if err != nil || done {
				return err
			}
			return runAuthz(cmd.Context(), flags.config, c, streams{cmd.OutOrStdout(), cmd.ErrOrStderr()})
		},
	}
	flags.add(cmd, "authz.yaml")
	return cmd
}

// linger is how long a replica that is told to stop goes on answering an Envoy
// that is still connected: longer than two health checks of envoy.yaml.
const linger = 2500 * time.Millisecond

// runAuthz is a replica's life.
func runAuthz(ctx context.Context, path string, c *config.Authz, std streams) (err error) {
	level := new(slog.LevelVar)
	log := newLogger(c.Log, level, std.errs)
	teardown := &daemon.Teardown{Logger: log}
	defer func() { err = errors.Join(err, teardown.Run(drainTime)) }()
	registry := daemon.Registry()
	processes, ctx := newProcesses(ctx)
	go thriftily(ctx)

	follower, err := revset.Open(revset.Options{
		Dir: below(c.Revocation.Dir, "revocations"), MaxStaleness: c.Revocation.MaxStaleness, Lifetimes: lifetimes(c), Logger: log,
	})
	if err != nil {
		return err
	}
	teardown.Add("revocations", closing(follower.Close))

	figures, err := jwks.NewFigures(registry)
	if err != nil {
		return err
	}
	r := &replica{path: path, log: log, level: level, figures: figures, follower: follower, keys: map[string]issuerKeys{}}
	authorizer, keys, err := r.build(c)
	if err != nil {
		return usageError{err}
	}
	r.adopt(c, keys)
	teardown.Add("keys", closing(r.close))

	grpcListener, grpcTLS, err := listen(ctx, c.GRPC, log)
	if err != nil {
		return err
	}
	teardown.Add("grpc listener", closing(grpcListener.Close))
	httpListener, httpTLS, err := listen(ctx, c.HTTP, log)
	if err != nil {
		return err
	}
	teardown.Add("http listener", closing(httpListener.Close))

	page := daemon.NewServer(daemon.Page(registry, r.readiness, nil), httpTLS, log)
	served := processes.run("http", func() error { return page.Serve(httpListener) })
	teardown.Add("http", func(ctx context.Context) error { err := page.Shutdown(ctx); <-served; return err })
	daemon.LogListening(log, "http", httpListener)

	if r.watcher, err = newWatcher(c, registry, log, teardown); err != nil {
		return err
	}
	if r.reporter, err = newReporter(r.watcher, registry, log); err != nil {
		return err
	}
	if err := r.follow(ctx, c, grpcListener.Addr(), processes, teardown); err != nil {
		return err
	}
	// What it has held back goes out before the feed ends.
	teardown.Add("alerts", lastAlerts(r.watcher, r.reporter))
	if r.observing, err = observe(ctx, c, replicaName(c, grpcListener.Addr()), std, registry, log, teardown); err != nil {
		return err
	}
	if err := r.serve(grpcListener, grpcTLS, authorizer, registry, processes, teardown); err != nil {
		return err
	}
	watching, unwatch := context.WithCancel(ctx)
	watched := processes.run("configuration", func() error {
		daemon.Watch(watching, c.Files(), reloadDelay, log, func() { r.reload(watching) })
		return nil
	})
	teardown.Add("configuration", awaited(unwatch, watched))

	<-ctx.Done()
	log.Info("ending", "reason", context.Cause(ctx).Error())
	return processes.err()
}

// reloadDelay is for how long files must have stayed as they are.
const reloadDelay = 200 * time.Millisecond

// keysPatience is how long a new configuration waits for keys that it has to
// fetch: a little longer than one fetch may take.
const keysPatience = 6 * time.Second

// replica is what a reload changes, and what it needs for that. After the
// start only the goroutine of the reload uses it, but for readiness.
type replica struct {
	path     string
	log      *slog.Logger
	level    *slog.LevelVar
	figures  *jwks.Figures
	follower *revset.Follower
	server   *envoy.Server
	running  *config.Authz

	observing *observing
	watcher   *watch.Watcher
	reporter  *feed.Reporter

	keys  map[string]issuerKeys
	ready readyKeys
}

// issuerKeys are the keys of an issuer, and where and how they are fetched.
type issuerKeys struct {
	options jwks.Options
	keys    *jwks.Keys
}

// build makes an authorizer of c, and the keys that it looks in. Issuers whose
// keys are where they were keep those that they have, whatever else of them has
// changed. Nothing that is in force changes by it.
func (r *replica) build(c *config.Authz) (*authz.Authorizer, map[string]issuerKeys, error) {
	if err := r.follower.Fits(lifetimes(c)); err != nil {
		return nil, nil, err
	}
	next := map[string]issuerKeys{}
	options := authz.Options{
		Policies: map[string]authz.Policy{}, Revocations: r.follower, DenyOverdue: c.Revocation.DenyOverdue,
		TrustForwardedCertificate: c.Headers.TrustForwardedCertificate, Logger: r.log,
		Headers: authz.Headers{Prefix: c.Headers.Prefix, Claims: c.Headers.Claims, RemoveAuthorization: c.Headers.RemoveAuthorization},
	}
	fail := func(err error) (*authz.Authorizer, map[string]issuerKeys, error) {
		closeOthers(next, r.keys)
		return nil, nil, err
	}
	for _, i := range c.Issuers {
		k, err := r.keysOf(i, below(c.Revocation.Dir, "keys"))
		if err != nil {
			return fail(fmt.Errorf("issuer %s: %w", i.Issuer, err))
		}
		next[i.Issuer] = k
		options.Issuers = append(options.Issuers, authz.Issuer{
			Name: i.Issuer, Keys: k.keys, Algorithms: i.Algorithms, Audiences: i.Audiences, AnyAudience: i.AnyAudience,
			TokenTypes: i.TokenTypes, MaxLifetime: i.MaxLifetime, Leeway: i.Leeway, RequiredClaims: i.RequiredClaims,
			Claims: conditions(i.Claims),
		})
	}
	for name, p := range c.Policies {
		options.Policies[name] = authz.Policy{
			Issuers: p.Issuers, Audiences: p.Audiences, Scopes: p.Scopes, Claims: conditions(p.Claims), MaxAge: p.MaxAge, TokenOptional: p.TokenOptional,
			Observe: p.Observe,
		}
	}
	authorizer, err := authz.New(options)
	if err != nil {
		return fail(err)
	}
	return authorizer, next, nil
}

// keysOf are those that are there already, or new ones.
func (r *replica) keysOf(i config.Issuer, dir string) (issuerKeys, error) {
	o := jwks.Options{
		Issuer: i.Issuer, URI: i.JWKSURI, Discovery: i.Discovery, File: i.JWKSFile, Algorithms: i.Algorithms,
		RefreshInterval: i.RefreshInterval, MinRefreshInterval: i.MinRefreshInterval, MaxStale: i.MaxStale,
		AllowHTTP: i.AllowHTTP, CAFile: i.CAFile, Dir: dir, Figures: r.figures, Logger: r.log,
	}
	if old, ok := r.keys[i.Issuer]; ok && reflect.DeepEqual(old.options, o) {
		return old, nil
	}
	keys, err := jwks.Open(o)
	return issuerKeys{o, keys}, err
}

// await gives new keys the time to be fetched: what is in force has its own
// meanwhile, and no request has to wait for them.
func (r *replica) await(ctx context.Context, next map[string]issuerKeys) {
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	for name, k := range next {
		for r.keys[name].keys != k.keys && !k.keys.Status().Usable() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// adopt takes over c and its keys, and closes those that it does not have. An
// authorizer that still looks in them must have been replaced before.
func (r *replica) adopt(c *config.Authz, next map[string]issuerKeys) {
	old := r.keys
	r.running, r.keys = c, next
	r.ready.store(next)
	closeOthers(old, next)
}

// closeOthers closes the keys that are not among those to stay.
func closeOthers(keys, stay map[string]issuerKeys) {
	for name, k := range keys {
		if stay[name].keys != k.keys {
			k.keys.Close()
		}
	}
}

func (r *replica) close() error {
	r.adopt(r.running, map[string]issuerKeys{})
	return nil
}

// follow begins to follow the feed.
func (r *replica) follow(ctx context.Context, c *config.Authz, addr net.Addr, p *processes, t *daemon.Teardown) error {
	options := feed.ClientOptions{
		Addresses: c.Revocation.Control, Name: replicaName(c, addr), Token: secretOf(c.Revocation.TokenFile),
		Plaintext: c.Revocation.TLS == nil, Reporter: r.reporter, Logger: r.log,
	}
	if s := c.Revocation.TLS; s != nil {
		options.TLS = daemon.ClientTLS(s.CAFile, s.CertFile, s.KeyFile, s.ServerName, r.log)
	}
	following, end := context.WithCancel(ctx)
	ended := p.run("feed", func() error { return feed.Follow(following, r.follower, options) })
	t.Add("feed", awaited(end, ended))
	return nil
}

func replicaName(c *config.Authz, addr net.Addr) string {
	if c.Revocation.Name != "" {
		return c.Revocation.Name
	}
	return defaultName(addr)
}

// defaultName is how operators know a replica that has no name.
func defaultName(addr net.Addr) string {
	host, err := os.Hostname()
	if err != nil {
		host = "replica"
	}
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return fmt.Sprintf("%s:%d", host, tcp.Port)
	}
	return host + ":" + filepath.Base(addr.String())
}

// serve answers Checks.
func (r *replica) serve(l net.Listener, secure *tls.Config, a *authz.Authorizer, registry prometheus.Registerer, p *processes, t *daemon.Teardown) (err error) {
	options := envoy.Options{
		Authorizer: a, Revocations: r.follower, Ready: func() bool { return len(r.readiness().Missing) == 0 },
		TLS: secure, Linger: linger, Registerer: registry, Logger: r.log,
		Observers: []func(context.Context, envoy.Observation){tell(r.watcher)},
	}
	r.observing.options(&options)
	r.server, err = envoy.NewServer(options)
	if err != nil {
		return err
	}
	served := p.run("grpc", func() error { return r.server.Serve(l) })
	t.Add("grpc", func(ctx context.Context) error { err := r.server.Shutdown(ctx); <-served; return err })
	daemon.LogListening(r.log, "grpc", l)
	return nil
}

// reload puts the configuration that the file has now in force.
func (r *replica) reload(ctx context.Context) {
	c, err := config.ReadAuthz(r.path)
	if err != nil {
		r.log.Error("the new configuration is refused; the one in force stays", "error", err.Error())
		return
	}
	if reflect.DeepEqual(c, r.running) {
		return
	}
	before := r.running
	authorizer, keys, err := r.build(c)
	if err != nil {
		r.log.Error("the new configuration is refused; the one in force stays", "error", err.Error())
		return
	}
	r.await(ctx, keys)
	r.server.Replace(authorizer)
	r.adopt(c, keys)
	r.follower.SetLimits(c.Revocation.MaxStaleness, lifetimes(c))
	r.level.Set(c.Log.Level)
	r.observing.change(c)
	r.watcher.Configure(watchSettings(c))
	r.log.Info("a new configuration is in force")
	fixed := func(c *config.Authz) []any {
		v := c.Revocation
		return []any{c.GRPC, c.HTTP, v.Control, v.TokenFile, v.TLS, v.Name, v.Dir, c.Log.Format, fixedObserving(c)}
	}
	if !reflect.DeepEqual(fixed(before), fixed(c)) {
		r.log.Warn("grpc, http, log.format, most of revocation, and all but the rates of log.decisions and tracing are as they were: they change with a restart")
	}
}

// lifetimes are for how long a token may be accepted: from a leeway before its
// iat to a leeway after its exp.
func lifetimes(c *config.Authz) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, i := range c.Issuers {
		out[i.Issuer] = i.MaxLifetime + 2*i.Leeway
	}
	return out
}

// conditions keeps a name even if none of its values can be compared with: the
// authorizer refuses that, and a condition never gets lost.
func conditions(claims map[string][]any) authz.Conditions {
	out := authz.Conditions{}
	for name, values := range claims {
		out[name] = nil
		for _, v := range values {
			if value, ok := revocation.ValueOf(v); ok {
				out[name] = append(out[name], value)
			}
		}
	}
	return out
}

// below is a folder of dir; nowhere if dir is nowhere.
func below(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}
