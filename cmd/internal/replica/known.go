package replica

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
	"rescind/authz/tokencache"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/envoy/known"
	"rescind/revocation"
	"rescind/revocation/insight"
	revset "rescind/revocation/replica"
)

// knownTokens keeps the table of the tokens for which Envoy answers by itself. Each
// authorizer has a table of its own, because keys and settings in the table belong to
// one authorizer.
type knownTokens struct {
	settings *config.Known
	server   *known.Server
	streams  *openStreams
	table    atomic.Pointer[known.Table] // nil: none yet
	counts   known.Counts
	seen     uses
	log      *slog.Logger

	contradictions prometheus.Counter
	alert          func(insight.Alert) // tells operators of one
}

// admission is the way of an authorizer to its table.
type admission struct {
	of      *knownTokens
	table   atomic.Pointer[known.Table]
	pending atomic.Int32 // second looks to come
}

// newKnownTokens returns the known tokens without a table, or nil if no tokens are to be
// known. The metric of contradictions is there in any case, because a rule asks for it.
func newKnownTokens(settings *config.Known, registry prometheus.Registerer, log *slog.Logger) *knownTokens {
	contradictions := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rescind_known_contradictions_total", Help: "Tokens that the replica denied while Envoy would have allowed them. It must stay 0.",
	})
	registry.MustRegister(contradictions)
	if settings == nil {
		return nil
	}
	return &knownTokens{settings: settings, log: log, streams: newOpenStreams(), contradictions: contradictions}
}

// sharedMemory returns the bytes of shared memory that the known tokens may take.
func sharedMemory(settings *config.Known) uint64 {
	if settings == nil {
		return 0
	}
	return known.MostMemory(settings.Entries, settings.AnswerBytes)
}

// newAdmission returns an admission for the next authorizer, or nil if no tokens are
// known.
func (p *process) newAdmission() *admission {
	if p.known == nil {
		return nil
	}
	return &admission{of: p.known}
}

// Mark returns the table's mark.
func (a *admission) Mark() uint64 {
	if t := a.table.Load(); t != nil {
		return t.Mark()
	}
	return 0
}

// Admit makes a token known.
func (a *admission) Admit(o authz.Offer) {
	t := a.table.Load()
	if t == nil {
		return
	}
	token := known.Token{
		Policy: o.Policy, Key: o.Key.Words(), Mark: o.Mark, Ends: o.Ends,
		Issuer: o.Issuer, Subject: o.Subject, TokenID: o.TokenID,
	}
	for _, d := range o.Digests {
		token.Digests = append(token.Digests, selectorOf(d))
	}
	for _, h := range o.Set {
		token.Set = append(token.Set, known.Header(h))
	}
	t.Admit(&token, time.Now())
}

const (
	// secondLook is the time after which a denied token must have left the table. A
	// revocation reaches the table moments after it reaches the look-ups.
	secondLook = time.Second
	// mostPending bounds the second looks, because clients choose when they are denied.
	mostPending = 64
)

// Denied looks whether a token that is denied is in the table, and still is a moment
// later. Then the table is wrong, and all of it becomes void.
func (a *admission) Denied(key tokencache.Key, d authz.Decision) {
	t := a.table.Load()
	if t == nil {
		return
	}
	entry := t.Holds(key.Words(), time.Now())
	if entry == 0 || a.pending.Add(1) > mostPending {
		if entry != 0 {
			a.pending.Add(-1)
		}
		return
	}
	alert := contradiction(&d)
	time.AfterFunc(secondLook, func() {
		defer a.pending.Add(-1)
		if t.Holds(key.Words(), time.Now()) == entry {
			t.Void()
			a.of.contradictions.Inc()
			a.of.log.Error("a token that is denied was among the known tokens; all known tokens are void now. Please report this")
			a.of.alert(alert)
		}
	})
}

// contradiction returns the alert about a denied token for which Envoy would have
// answered.
func contradiction(d *authz.Decision) insight.Alert {
	now := time.Now()
	a := insight.Alert{
		Detector: insight.KnownTokenDenied, Key: insight.AlertKey(insight.KnownTokenDenied, d.Issuer, d.Policy),
		Summary: "A token was denied for which Envoy would have answered by itself. All known tokens of the replica are void now. This is a fault of rescind: please report it.",
		First:   now, Last: now, Count: 1,
		Issuer: insight.Text(d.Issuer), Subject: insight.Text(d.Subject), TokenID: insight.Text(d.TokenID), Policy: insight.Text(d.Policy),
	}
	if d.RevocationID != (revocation.ID{}) {
		a.RevocationID = d.RevocationID.String()
	}
	return a
}

// selectorOf returns the part of a digest by which the table finds tokens.
func selectorOf(d revocation.Digest) uint64 { return binary.BigEndian.Uint64(d[:]) }

// changed takes tokens out of the table before a change of the revocations is
// acknowledged.
func (k *knownTokens) changed(c revset.Changed) {
	t := k.table.Load()
	if t == nil {
		return
	}
	if c.All || len(c.Added) > k.settings.Entries {
		t.Void()
		c.Added = nil
	}
	t.Revoke(selectorsOf(c.Added), c.Revision)
	k.streams.changed()
}

func selectorsOf(entries []revocation.Entry) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for i := range entries {
			if !yield(selectorOf(entries[i].Digest)) {
				return
			}
		}
	}
}

// newTable returns an empty table for an authorizer.
func (k *knownTokens) newTable(a *authz.Authorizer) (*known.Table, error) {
	s := a.KnownSettings()
	o := known.Options{
		Entries: k.settings.Entries, Answer: k.settings.AnswerBytes, Names: s.Headers, Prefix: s.Prefix, HideAuthorization: s.RemoveAuthorization, Audit: k.settings.Audit, Counts: &k.counts,
	}
	for _, name := range slices.Sorted(maps.Keys(s.Policies)) {
		o.Policies = append(o.Policies, known.Policy{Name: name, Secret: s.Policies[name].Words()})
	}
	return known.NewTable(o)
}

// replace puts the table of an authorizer in the place of the one before. Nothing is
// known until the authorizer is in force and Envoy has connected again.
func (k *knownTokens) replace(next *known.Table, of *admission) {
	old := k.table.Swap(next) // first, so that the table misses no change
	of.table.Store(next)
	k.server.Replace(next)
	if old != nil {
		old.Close()
	}
}

// keepKnown opens the table while the replica is sure of its decisions, and voids it when
// keys change. It reads the uses of known tokens on the way, because a goroutine that wakes
// for each of the two costs the replica more than the uses do.
func (p *process) keepKnown(ctx context.Context) {
	tick := time.NewTicker(known.BeatInterval)
	defer tick.Stop()
	var generations map[string]uint64
	for {
		now := p.gate.Authorizer().KeyGenerations()
		t := p.known.table.Load() // after the generations, so that a table that has just come has tokens of these keys or later ones
		if !maps.Equal(now, generations) {
			generations = now
			t.Void()
		}
		t.Open(p.sure())
		p.follower.Locked(func() {
			_, revision := p.follower.Position()
			t.Beat(revision)
		})
		p.known.server.Drain()
		select {
		case <-ctx.Done():
			p.known.table.Load().Open(false)
			return
		case <-tick.C:
		}
	}
}

// sure reports whether every token that is allowed now is allowed without a doubt.
func (p *process) sure() bool {
	s := p.follower.Status()
	return s.Ready && !s.Stale
}

// serveKnown begins to hand the table to Envoys.
func (p *process) serveKnown(ctx context.Context, a *authz.Authorizer, of *admission) (err error) {
	k := p.known
	k.streams.again = func(policy, token string) *revset.Again { return p.gate.Authorizer().Again(policy, token) }
	k.streams.lookup = p.follower.LookupAgain
	k.alert = p.watcher.Alert
	k.server, err = known.Listen(known.ServerOptions{
		Socket: k.settings.Socket, Group: k.settings.Group, UID: k.settings.EnvoyUID, Streams: k.streams, Logger: p.log,
		Uses: func(portion []known.Use) { p.observeKnown(ctx, portion) },
	})
	if err != nil {
		return &config.Unusable{Err: err}
	}
	table, err := k.newTable(a)
	if err != nil {
		_ = k.server.Close()
		return &config.Unusable{Err: err}
	}
	k.replace(table, of)
	served := p.processes.Run("known tokens", k.server.Serve)
	keeping, stop := context.WithCancel(ctx)
	kept := p.processes.Run("beat of the known tokens", func() error { p.keepKnown(keeping); return nil })
	looking := p.processes.Run("open streams", func() error { k.streams.run(keeping); return nil })
	p.teardown.Add("known tokens", func(ctx context.Context) error {
		err := daemon.StopAndWait(stop, kept)(ctx) // no table is used after this
		err = errors.Join(err, k.server.Close())
		<-served
		<-looking
		k.table.Load().Close()
		return err
	})
	return p.registry.Register(knownMetrics{k})
}

type knownMetrics struct{ *knownTokens }

var (
	knownRequests  = prometheus.NewDesc("rescind_known_requests_total", "Requests that Envoy answered by itself, by whether anything else is known about them: recorded, or dropped because the replica did not read fast enough.", []string{"record"}, nil)
	knownMisses    = prometheus.NewDesc("rescind_known_misses_total", "Requests that Envoy's module left to ext_authz, by reason.", []string{"reason"}, nil)
	knownTable     = prometheus.NewDesc("rescind_known_tokens", "Tokens for which Envoy answers by itself.", nil, nil)
	knownChanges   = prometheus.NewDesc("rescind_known_token_changes_total", "Tokens that came into the table and left it: admitted, evicted, revoked, or forgotten because token_cache.max_bytes is too small. unfit counts uses of tokens whose headers are too long to be known. void counts the times at which all tokens left.", []string{"change"}, nil)
	knownEnvoys    = prometheus.NewDesc("rescind_known_envoys", "Envoys that use the known tokens.", nil, nil)
	knownUnwatched = prometheus.NewDesc("rescind_streams_unwatched_total", "Open streams that were too many to be reset when their tokens are revoked.", nil, nil)
	knownStreams   = prometheus.NewDesc("rescind_streams", "Open streams that are reset when their tokens are revoked.", nil, nil)
	knownEnded     = prometheus.NewDesc("rescind_streams_ended_total", "Open streams that were reset because their tokens were revoked.", nil, nil)
)

// Describe is part of prometheus.Collector.
func (m knownMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect is part of prometheus.Collector.
func (m knownMetrics) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	e, connected := m.server.State()
	count(knownRequests, e.Hits-min(e.Drops, e.Hits), "recorded")
	count(knownRequests, e.Drops, "dropped")
	for i, name := range known.Misses {
		count(knownMisses, e.Misses[i], name)
	}
	count(knownUnwatched, e.Unwatched)
	gauge(knownEnvoys, connected)
	gauge(knownTable, m.table.Load().Len())
	for name, n := range map[string]*atomic.Uint64{"admitted": &m.counts.Admitted, "evicted": &m.counts.Evicted, "revoked": &m.counts.TakenOut, "forgotten": &m.counts.Forgotten, "unfit": &m.counts.Unfit, "void": &m.counts.Voided} {
		count(knownChanges, n.Load(), name)
	}
	streams, ended := m.streams.figures()
	gauge(knownStreams, streams)
	count(knownEnded, ended)
}
