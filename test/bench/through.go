package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"rescind/envoy/envoytest"
)

// throughConnections is the number of connections of the clients of the gateway.
const throughConnections = 32

// through are the figures of a turn through the gateway.
type through struct {
	measured         // processor time of the server that is asked
	gateway  float64 // processor time of Envoy, seconds for 100,000 requests
	busy     float64 // processor time of Envoy in a second; its one worker can use 1
}

// gatewayTurns are the figures of all turns through the gateway.
type gatewayTurns map[gatewayCell][]through

type gatewayCell struct {
	kind, route string
	connections int
}

// throughGateway measures each way to authorize requests behind one Envoy.
func (b *bench) throughGateway(ctx context.Context) error {
	if !b.envoy {
		return nil
	}
	routes, err := b.routes(ctx)
	if err != nil {
		return err
	}
	alg := b.algorithms[0]
	signed, err := b.issuer.tokens(alg, b.unseen)
	if err != nil {
		return err
	}
	traffic, err := signed.traffic(browserRequest)
	if err != nil {
		return err
	}
	g, err := b.newGateway(ctx, b.dir, nil, routes, traffic.few[0])
	if err != nil {
		return err
	}
	all := gatewayTurns{}
	for round := range b.rounds {
		note("through Envoy, round %d of %d", round+1, b.rounds)
		for _, kind := range b.gatewayKinds {
			for i := range routes {
				r := routes[(i+round)%len(routes)] // each route is first in turn
				for _, connections := range []int{throughConnections, 1} {
					if connections == 1 && kind != seen {
						continue
					}
					m, err := g.measure(ctx, r, &traffic, kind, connections, b.turn)
					if err != nil {
						return fmt.Errorf("%s, %s: %w", r.name, kind, err)
					}
					c := gatewayCell{kind, r.name, connections}
					all[c] = append(all[c], m)
				}
			}
		}
	}
	b.tables.add("envoy", all.markdown(b.options, routes))
	return b.end(g.process)
}

// routes starts the servers that the gateway asks. The first route has the no-op
// server.
func (b *bench) routes(ctx context.Context) (all []*route, err error) {
	for _, kind := range []string{noOp, noOpHeaders, noOpAnswer, "golang-jwt"} {
		s, err := b.plain(ctx, b.dir, kind, b.issuer.file)
		if err != nil {
			return nil, err
		}
		all = append(all, &route{name: kind, server: s})
	}
	for n, entries := range b.entries {
		if n != 0 && n != len(b.entries)-1 {
			continue // the fewest and the most
		}
		d, err := b.product(ctx, fmt.Sprintf("rescind-envoy-%d", entries), entries)
		if err != nil {
			return nil, err
		}
		s, err := d.replica(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, &route{name: s.name, server: s})
	}
	keys, err := os.ReadFile(b.issuer.file)
	if err != nil {
		return nil, err
	}
	return append(all,
		&route{name: "jwt_authn of Envoy", filter: verifies(string(keys), false)},
		&route{name: "jwt_authn of Envoy with its cache", filter: verifies(string(keys), true)},
		&route{name: "no authorization"}), nil
}

// measure sends one kind of traffic to a route for one turn, after a short one that
// does not count.
func (g *gateway) measure(ctx context.Context, r *route, t *traffic, kind string, connections int, turn time.Duration) (m through, err error) {
	s := cmp.Or(r.server, &server{process: g.process})
	var all []*httpConn
	defer func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
	for range connections {
		c, err := dialHTTP(ctx, r.addr)
		if err != nil {
			return m, err
		}
		all = append(all, c)
	}
	var number atomic.Int64
	request := func() []byte { return t.next(kind, s, int(number.Add(1))) }
	drive := func(turn time.Duration) (result, error) {
		end := time.Now().Add(turn)
		return together(all, func(c *httpConn) (result, error) { return c.run(end, request) })
	}
	if _, err := drive(turn / 8); err != nil {
		return m, err
	}
	before, err := g.processorTime()
	if err != nil {
		return m, err
	}
	began, err := s.begin()
	if err != nil {
		return m, err
	}
	answers, err := drive(turn)
	if err != nil {
		return m, err
	}
	lasted := time.Since(began.at)
	after, err := g.processorTime()
	if err != nil {
		return m, err
	}
	if m.measured, err = began.end(answers.took); err != nil {
		return m, err
	}
	m.busy = (after - before).Seconds() / lasted.Seconds()
	m.gateway = (after - before).Seconds() / float64(len(answers.took)) * 100_000
	if r.server == nil {
		m.cpu = 0
	}
	return m, s.checkAnswers(kind, answers)
}

// markdown returns the tables of the gateway. Ratios are to the first route in the same
// round.
func (t gatewayTurns) markdown(o options, routes []*route) string {
	var b strings.Builder
	b.WriteString(taken(o, "An Envoy %s with one worker, on HTTP/1.1, in front of an upstream in a process of its own. The filter and its cluster are those of envoy.yaml. Tokens with %s. %d rounds of %v. Median (least–most). Processor times are seconds for 100,000 requests. Envoy busy is its processor time in a second, of which its worker can use 1: if it is near 1, nothing else limits the requests.",
		envoytest.Version, o.algorithms[0], o.rounds, o.turn))
	fmt.Fprintf(&b, "| traffic, %d connections | authorization | requests/s | ratio to no-op | p50 ms | p99 ms | CPU of Envoy | ratio | CPU of the server | both, ratio | CPU of the generator | Envoy busy | in the cache |\n", throughConnections)
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, kind := range o.gatewayKinds {
		base := t[gatewayCell{kind, routes[0].name, throughConnections}]
		for _, r := range routes {
			turns, cached := t[gatewayCell{kind, r.name, throughConnections}], ""
			if r.server != nil && r.server.metrics != "" {
				cached = fmt.Sprintf("%.1f %%", spreadOf(turns, func(m through) float64 { return m.hits * 100 }).median)
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %v | %v | %v | %v | %v | %v | %v | %v | %.2f | %s |\n", kind, r.name,
				spreadOf(turns, throughRate).whole(), ratios(turns, base, throughRate), spreadOf(turns, throughP50), spreadOf(turns, throughP99),
				spreadOf(turns, throughEnvoy), ratios(turns, base, throughEnvoy), spreadOf(turns, throughServer), ratios(turns, base, throughBoth),
				spreadOf(turns, func(m through) float64 { return m.own }), spreadOf(turns, func(m through) float64 { return m.busy }).median, cached)
		}
	}
	fmt.Fprintln(&b, "\n| seen, one connection | p50 µs | ratio to no-op | p99 µs |\n|---|---|---|---|")
	base := t[gatewayCell{seen, routes[0].name, 1}]
	for _, r := range routes {
		turns := t[gatewayCell{seen, r.name, 1}]
		fmt.Fprintf(&b, "| %s | %s | %v | %s |\n", r.name, spreadOf(turns, microP50).whole(), ratios(turns, base, microP50), spreadOf(turns, microP99).whole())
	}
	return b.String()
}

func throughRate(m through) float64   { return m.perSecond }
func throughP50(m through) float64    { return p50(m.measured) }
func throughP99(m through) float64    { return p99(m.measured) }
func throughEnvoy(m through) float64  { return m.gateway }
func throughServer(m through) float64 { return m.cpu }
func throughBoth(m through) float64   { return m.gateway + m.cpu }
func microP50(m through) float64      { return float64(m.p50.Nanoseconds()) / 1000 }
func microP99(m through) float64      { return float64(m.p99.Nanoseconds()) / 1000 }
