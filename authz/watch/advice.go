package watch

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"

	"rescind/revocation/insight"
)

// Advice returns the statistics of lifetimes, for [insight.Advise].
func (w *Watcher) Advice() (a insight.AdviceData, err error) {
	err = w.ask(func(m *memory, _ func()) { a = m.advice(time.Now()) })
	return a, err
}

func (m *memory) advice(now time.Time) insight.AdviceData {
	g := m.lifetimes
	a := insight.AdviceData{
		Since: m.began.UTC(), Until: now.UTC(), CutOff: insight.Duration(m.settings.CutOff),
		Partial: g.short || g.wasShort || m.partial(now), Groups: []insight.AdviceGroup{},
	}
	if !g.began.IsZero() {
		a.Since = g.began.UTC()
	}
	keys := slices.Collect(maps.Keys(g.current))
	for k := range g.previous {
		if g.current[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y groupKey) int {
		return cmp.Or(strings.Compare(x.issuer.name, y.issuer.name), strings.Compare(x.client, y.client), strings.Compare(x.policy, y.policy))
	})
	for _, k := range keys {
		all := merged(g.current[k], g.previous[k])
		all.Issuer, all.Client, all.Policy = insight.Text(k.issuer.name), insight.Text(k.client), insight.Text(k.policy)
		a.Groups = append(a.Groups, all)
	}
	return a
}

// merged returns the sum of groups; each may be nil.
func merged(of ...*group) insight.AdviceGroup {
	n := len(insight.Lifetimes)
	out := insight.AdviceGroup{LivesLonger: make([]uint64, n), IsOlder: make([]uint64, n), Pauses: make([]uint64, n), Busy: make([]float64, n)}
	lives, ages, gaps, rests := newDistribution(), newDistribution(), newDistribution(), newDistribution()
	holders := newCounter(insight.HoldersPrecision)
	for _, g := range of {
		if g == nil {
			continue
		}
		out.Tokens += g.tokens
		out.Requests += g.requests
		_ = holders.Merge(g.holders.Clone()) // of one precision
		for _, pair := range [][2]*ddsketch.DDSketch{{lives, g.lives}, {ages, g.ages}, {gaps, g.gaps}, {rests, g.rests}} {
			_ = pair[0].MergeWith(pair[1]) // of one mapping
		}
		for i := range n {
			out.LivesLonger[i] += g.livesLonger[i]
			out.IsOlder[i] += g.older[i]
			out.Pauses[i] += g.pausing[i]
			out.Busy[i] += g.busy[i]
		}
	}
	out.Lifetimes, out.Ages, out.Gaps, out.Rests = encoded(lives), encoded(ages), encoded(gaps), encoded(rests)
	if raw, err := holders.MarshalBinary(); err == nil {
		out.Holders = raw
	}
	return out
}
