package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rescind/envoy/envoytest"
	"rescind/envoy/known"
)

// module is the filter in Envoy that answers for known tokens.
type module struct {
	socket   string
	settings string // of the filter, besides the socket and the user
	policy   string // of the route; empty: the module and ext_authz do nothing
	alone    part   // the only one of the two filters that is there; empty: both are
}

type part string

const (
	onlyModule   part = "module"
	onlyExtAuthz part = "ext_authz"
)

// metadata returns the metadata of the route, where the module and the replica read the
// policy.
func (m *module) metadata() object {
	if m.policy == "" {
		return nil
	}
	return object{"filter_metadata": object{"rescind": object{"policy": m.policy}}}
}

// answers returns the shipped filter of the module with other settings.
func (s shipped) answers(m *module) object {
	config, _ := s.module["typed_config"].(object)
	text, _ := config["filter_config"].(object)
	return with(s.module, object{"typed_config": with(config, object{
		"filter_config": with(text, object{"value": strings.TrimSpace(fmt.Sprintf("socket=%s uid=%d %s", m.socket, os.Getuid(), m.settings))}),
	})})
}

// off returns a filter ext_authz that asks nobody.
func off(filter object) object {
	config, _ := filter["typed_config"].(object)
	return with(filter, object{"typed_config": with(config, object{"filter_enabled": object{"default_value": object{"numerator": 0}}})})
}

// buildModule builds the module into a folder, and returns the environment in which
// Envoy finds it.
func buildModule(ctx context.Context, dir string) ([]string, error) {
	source, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "rescind/envoy").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	build := exec.CommandContext(ctx, "make", "-s", "-C", filepath.Join(strings.TrimSpace(string(source)), "module"), "OUT="+dir) //nolint:gosec // our own
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the module: %w\n%s", err, out)
	}
	return []string{"ENVOY_DYNAMIC_MODULES_SEARCH_PATH=" + dir}, nil
}

// Ways to authorize a request, beside those of [bench.routes].
const (
	direct       = "no authorization"
	knownAll     = "known, all on"
	knownNoAudit = "known, all on but the audit"
	knownNoLog   = "known, no log metadata and no audit"
	missed       = "missed by the module"
	idle         = "the module and ext_authz, both off"
	idleModule   = "the module alone, off"
	idleExtAuthz = "ext_authz alone, off"
	byExtAuthz   = "rescind by ext_authz"
	jwtAuthn     = "jwt_authn of Envoy"
	jwtCached    = "jwt_authn of Envoy with its cache"
)

// inProcess measures tokens for which Envoy itself answers, beside other ways.
func (b *bench) inProcess(ctx context.Context) error {
	if !b.known {
		return nil
	}
	environment, err := buildModule(ctx, filepath.Join(b.dir, "module"))
	if err != nil {
		return err
	}
	d, err := b.product(ctx, "rescind-known", -1)
	if err != nil {
		return err
	}
	routes, err := b.knownRoutes(ctx, d)
	if err != nil {
		return err
	}
	signed, err := b.issuer.tokens(b.algorithms[0], 1)
	if err != nil {
		return err
	}
	traffic, err := signed.traffic(browserRequest)
	if err != nil {
		return err
	}
	g, err := b.newGateway(ctx, b.dir, environment, routes, traffic.few[0])
	if err != nil {
		return err
	}
	for _, r := range routes {
		if err := r.learn(ctx, &traffic); err != nil {
			return err
		}
	}
	all := knownTurns{}
	for round := range b.rounds {
		note("known tokens, round %d of %d", round+1, b.rounds)
		for i := range routes {
			r := routes[(i+round)%len(routes)] // each route is first in turn
			for _, connections := range []int{throughConnections, 1} {
				m, err := g.measureKnown(ctx, r, &traffic, connections, b.turn)
				if err != nil {
					return fmt.Errorf("%s: %w", r.name, err)
				}
				c := gatewayCell{seen, r.name, connections}
				all[c] = append(all[c], m)
			}
		}
	}
	b.tables.add("known", all.markdown(b.options, routes))
	return errors.Join(b.end(g.process), b.end(d.control))
}

// knownRoutes starts the replicas and servers. The first route has no authorization.
func (b *bench) knownRoutes(ctx context.Context, d *product) ([]*route, error) {
	replica := func(socket, audit string) (*server, string, error) {
		path := filepath.Join(d.dir, socket)
		// A token that may stand in two places is never known.
		d.settings = fmt.Sprintf("known_tokens: {socket: %q%s}\npolicies: {default: {}, elsewhere: {tokens_from: [{header: authorization}, {header: x-token}]}}\n", path, audit)
		s, err := d.replica(ctx)
		return s, path, err
	}
	audited, ofAudited, err := replica("audited.sock", "")
	if err != nil {
		return nil, err
	}
	plain, ofPlain, err := replica("plain.sock", ", audit: 0")
	if err != nil {
		return nil, err
	}
	d.settings = ""
	asked, err := d.replica(ctx)
	if err != nil {
		return nil, err
	}
	nothing, err := b.plain(ctx, b.dir, noOp, b.issuer.file)
	if err != nil {
		return nil, err
	}
	keys, err := os.ReadFile(b.issuer.file)
	if err != nil {
		return nil, err
	}
	return []*route{
		{name: direct},
		{name: knownAll, server: audited, module: &module{socket: ofAudited, policy: "default"}},
		{name: knownNoAudit, server: plain, module: &module{socket: ofPlain, policy: "default"}},
		{name: knownNoLog, server: plain, module: &module{socket: ofPlain, settings: "metadata=off", policy: "default"}},
		{name: missed, server: plain, module: &module{socket: ofPlain, policy: "elsewhere"}},
		{name: idle, server: plain, module: &module{socket: ofPlain}},
		{name: idleModule, server: plain, module: &module{socket: ofPlain, alone: onlyModule}},
		{name: idleExtAuthz, server: plain, module: &module{socket: ofPlain, alone: onlyExtAuthz}},
		{name: byExtAuthz, server: asked},
		{name: noOp, server: nothing},
		{name: jwtAuthn, filter: verifies(string(keys), false)},
		{name: jwtCached, filter: verifies(string(keys), true)},
	}, nil
}

// answersItself reports whether Envoy answers for the seen tokens on this route.
func (r *route) answersItself() bool { return r.module != nil && r.module.policy == "default" }

// learn sends each seen token until Envoy answers for all of them.
func (r *route) learn(ctx context.Context, t *traffic) error {
	if !r.answersItself() {
		return nil
	}
	return r.server.until("known to Envoy", func() bool {
		before, _, err := r.server.known()
		if err != nil {
			return false
		}
		for _, request := range t.few {
			if r.try(ctx, request) != nil {
				return false
			}
		}
		after, _, err := r.server.known()
		return err == nil && after-before > 0.9*fewSeen // the audit asks about some
	})
}

// known returns how many requests Envoy's module has answered in place of this replica,
// and how many it has left to ext_authz.
func (s *server) known() (answered, left float64, err error) {
	for _, record := range []string{"recorded", "dropped"} {
		m, fault := metric(s.metrics, `rescind_known_requests_total{record="`+record+`"}`)
		answered, err = answered+m, errors.Join(err, fault)
	}
	for _, reason := range known.Misses {
		m, fault := metric(s.metrics, `rescind_known_misses_total{reason="`+reason+`"}`)
		left, err = left+m, errors.Join(err, fault)
	}
	return answered, left, err
}

// knownThrough are the figures of a turn.
type knownThrough struct {
	through
	known float64 // share of the requests that Envoy answered
}

type knownTurns map[gatewayCell][]knownThrough

// measureKnown measures a route, and counts the requests that Envoy answered.
func (g *gateway) measureKnown(ctx context.Context, r *route, t *traffic, connections int, turn time.Duration) (m knownThrough, err error) {
	if r.module == nil {
		m.through, err = g.measure(ctx, r, t, seen, connections, turn)
		return m, err
	}
	answered, left, err := r.server.known()
	if err != nil {
		return m, err
	}
	if m.through, err = g.measure(ctx, r, t, seen, connections, turn); err != nil {
		return m, err
	}
	answeredLater, leftLater, err := r.server.known()
	answered, left = answeredLater-answered, leftLater-left
	if answered+left > 0 {
		m.known = answered / (answered + left)
	}
	return m, err
}

// goal is a figure that the product wants to have.
type goal struct {
	text   string
	wanted string
	got    func(t knownTurns) spread
}

// markdown returns the tables of known tokens. Ratios are to the first route in the same
// round.
func (t knownTurns) markdown(o options, routes []*route) string {
	var b strings.Builder
	b.WriteString(taken(o, "An Envoy %s with one worker, on HTTP/1.1, in front of an upstream in a process of its own. The module, ext_authz and their cluster are those of envoy-inprocess.yaml. %d tokens with %s, over and over. %d rounds of %v, in which the ways take turns. Median (least–most). The audit is the default one: one known request in a hundred asks the replica. Each replica writes its decision log.",
		envoytest.Version, fewSeen, o.algorithms[0], o.rounds, o.turn))
	fmt.Fprintf(&b, "| authorization, %d connections | requests/s | ratio | p50 ms | p99 ms | CPU of Envoy µs | above none | CPU of the server µs | Envoy busy | answered by Envoy |\n|---|---|---|---|---|---|---|---|---|---|\n", throughConnections)
	base := t[gatewayCell{seen, routes[0].name, throughConnections}]
	for _, r := range routes {
		turns := t[gatewayCell{seen, r.name, throughConnections}]
		fmt.Fprintf(&b, "| %s | %s | %v | %v | %v | %v | %v | %v | %.2f | %.1f %% |\n", r.name,
			spreadOf(turns, knownRate).whole(), ratios(turns, base, knownRate), spreadOf(turns, func(m knownThrough) float64 { return p50(m.measured) }),
			spreadOf(turns, func(m knownThrough) float64 { return p99(m.measured) }), spreadOf(turns, envoyMicros), differences(turns, base, envoyMicros),
			spreadOf(turns, serverMicros), spreadOf(turns, func(m knownThrough) float64 { return m.busy }).median,
			spreadOf(turns, func(m knownThrough) float64 { return m.known }).median*100)
	}
	fmt.Fprintln(&b, "\n| authorization, one connection | p50 µs | above none | p99 µs |\n|---|---|---|---|")
	base = t[gatewayCell{seen, routes[0].name, 1}]
	for _, r := range routes {
		turns := t[gatewayCell{seen, r.name, 1}]
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, spreadOf(turns, p50Micros).whole(), differences(turns, base, p50Micros).whole(), spreadOf(turns, func(m knownThrough) float64 { return microP99(m.through) }).whole())
	}
	fmt.Fprintln(&b, "\n| goal | wanted | measured |\n|---|---|---|")
	for _, g := range knownGoals {
		fmt.Fprintf(&b, "| %s | %s | %v |\n", g.text, g.wanted, g.got(t))
	}
	return b.String()
}

// against returns a function that compares a figure of two routes in the same rounds.
func against(of, base string, connections int, compare func(turns, base []knownThrough, figure func(knownThrough) float64) spread, figure func(knownThrough) float64) func(knownTurns) spread {
	return func(t knownTurns) spread {
		return compare(t[gatewayCell{seen, of, connections}], t[gatewayCell{seen, base, connections}], figure)
	}
}

// knownGoals are the goals that one table can show. The audit is a share of requests
// that the replica answers, so the goals are about the others.
var knownGoals = []goal{
	{"requests/s, all on but the audit, to none", "≥ 0.90", against(knownNoAudit, direct, throughConnections, ratios[knownThrough], knownRate)},
	{"requests/s without log metadata, to none", "≥ 0.95", against(knownNoLog, direct, throughConnections, ratios[knownThrough], knownRate)},
	{"requests/s, all on but the audit, to the no-op server", "≥ 2.1", against(knownNoAudit, noOp, throughConnections, ratios[knownThrough], knownRate)},
	{"CPU of Envoy, all on but the audit, above none, µs", "≤ 4", against(knownNoAudit, direct, throughConnections, differences, envoyMicros)},
	{"p50 with one connection, all on but the audit, above none, µs", "≤ 25", against(knownNoAudit, direct, 1, differences, p50Micros)},
	{"CPU of the replica, a known request, µs", "≤ 1", func(t knownTurns) spread {
		return spreadOf(t[gatewayCell{seen, knownNoAudit, throughConnections}], serverMicros)
	}},
}

// differences returns a figure of each turn, less that of another route's turn in the
// same round.
func differences(turns, base []knownThrough, figure func(knownThrough) float64) spread {
	above := make([]float64, len(turns))
	for i := range turns {
		above[i] = figure(turns[i]) - figure(base[i])
	}
	return spreadOf(above, itself)
}

func knownRate(m knownThrough) float64    { return m.perSecond }
func envoyMicros(m knownThrough) float64  { return m.gateway * 10 }
func serverMicros(m knownThrough) float64 { return m.cpu * 10 }
func p50Micros(m knownThrough) float64    { return microP50(m.through) }
