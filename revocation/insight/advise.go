package insight

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// Below fewRequests requests, or within less than shortSpan, there is no
	// recommendation.
	fewRequests = 100
	shortSpan   = 5 * time.Minute
	// affordable is the number of refreshes for each request that an issuer
	// does not notice.
	affordable = 0.02
	// shortest is the shortest lifetime that is recommended. Below it, clocks
	// that differ and the leeway for them matter.
	shortest = 5 * time.Minute
)

// Advise returns a recommendation for each issuer, client and policy, from the
// statistics of all replicas together.
func Advise(replicas ...AdviceData) Advice {
	out := Advice{Items: []Recommendation{}}
	type name struct{ issuer, client, policy string }
	items := map[name]*item{}
	for _, r := range replicas {
		out.Since = later(out.Since, r.Since)
		out.Partial = out.Partial || r.Partial
		for _, g := range r.Groups {
			n := name{Text(g.Issuer), Text(g.Client), Text(g.Policy)}
			i := items[n]
			if i == nil && len(items) >= maxNames {
				out.Partial = true
				continue
			}
			if i == nil {
				i = newItem()
				i.Issuer, i.Client, i.Policy = n.issuer, n.client, n.policy
				items[n] = i
			}
			if !i.add(&g, r.Until.Sub(r.Since), r.CutOff) {
				out.Partial = true
			}
		}
	}
	for _, i := range items {
		i.finish()
		out.Items = append(out.Items, i.Recommendation)
	}
	slices.SortFunc(out.Items, func(a, b Recommendation) int {
		return cmp.Or(-cmp.Compare(a.Requests, b.Requests), cmp.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Policy, b.Policy))
	})
	return out
}

// item gathers the statistics for one recommendation.
type item struct {
	Recommendation
	span                     time.Duration // the longest that a replica has watched
	lives, ages, gaps, rests distribution
	holders                  union
	each                     uint64 // sum of the holders of each replica
	cutOff                   Duration
	endless                  bool // a replica that is cut off never denies for it
	longer, older            [len(Lifetimes)]uint64
	refreshes                [len(Lifetimes)]float64 // an hour; a holder counts once for each replica
}

func newItem() *item {
	return &item{
		lives: newDistribution(), ages: newDistribution(), gaps: newDistribution(), rests: newDistribution(),
		holders: union{precision: HoldersPrecision},
	}
}

// add takes in the statistics of one replica. It reports whether all of them
// could be read.
func (i *item) add(g *AdviceGroup, span time.Duration, cutOff Duration) bool {
	hours := span.Hours()
	lists := len(g.LivesLonger) == len(Lifetimes) && len(g.IsOlder) == len(Lifetimes) && len(g.Pauses) == len(Lifetimes) && len(g.Busy) == len(Lifetimes)
	const most = 1e15 // a sum of such numbers is finite
	if !lists || hours < 1./3600 || float64(g.Requests) > most {
		return false
	}
	for n := range Lifetimes {
		if !(g.Busy[n] >= 0 && g.Busy[n] < most && float64(g.Pauses[n]) < most) {
			return false
		}
	}
	i.span = max(i.span, span)
	i.Tokens += g.Tokens
	i.Requests += g.Requests
	i.RequestsPerHour += float64(g.Requests) / hours
	i.cutOff, i.endless = max(i.cutOff, cutOff), i.endless || cutOff <= 0
	for n, limit := range Lifetimes {
		i.longer[n] += g.LivesLonger[n]
		i.older[n] += g.IsOlder[n]
		// A holder needs a new token after each longer pause. A busy holder
		// needs one whenever the last has expired.
		i.refreshes[n] += (float64(g.Pauses[n]) + g.Busy[n]/limit.Seconds()) / hours
	}
	whole := true
	for _, d := range []struct {
		into *distribution
		raw  []byte
	}{{&i.lives, g.Lifetimes}, {&i.ages, g.Ages}, {&i.gaps, g.Gaps}, {&i.rests, g.Rests}} {
		whole = d.into.add(d.raw) && whole
	}
	holders, ok := countOf(g.Holders, HoldersPrecision)
	i.each += holders
	return i.holders.add(g.Holders, holders) && ok && whole
}

// finish computes the recommendation.
func (i *item) finish() {
	i.Lifetime, i.Age, i.Gap, i.Rest = i.lives.quantiles(), i.ages.quantiles(), i.gaps.quantiles(), i.rests.quantiles()
	i.Holders = i.holders.count()
	// A holder whose requests go to several replicas counts as busy at each.
	shared := 1.0
	if i.each > 0 && i.Holders > 0 {
		shared = min(1, float64(i.Holders)/float64(i.each))
	}
	for n, limit := range Lifetimes {
		c := Candidate{
			Lifetime:     Duration(limit),
			ExposureMean: Duration(limit / 2), ExposureMost: Duration(limit), ExposureCutOff: Duration(limit),
			RefreshesPerHour: i.refreshes[n] * shared,
		}
		if !i.endless {
			c.ExposureCutOff = min(c.ExposureCutOff, i.cutOff)
		}
		if i.Requests > 0 {
			c.DeniedByMaxLifetime = min(1, float64(i.longer[n])/float64(i.Requests))
			c.DeniedByMaxAge = min(1, float64(i.older[n])/float64(i.Requests))
		}
		i.Candidates = append(i.Candidates, c)
	}
	i.recommend()
}

// recommend sets the shortest lifetime whose refreshes are few beside the
// requests. It never recommends a longer lifetime than the issuer's.
func (i *item) recommend() {
	issued := even(i.Lifetime.P90)
	switch {
	case i.Requests < fewRequests || i.span < shortSpan:
		i.Reason = fmt.Sprintf("Only %d requests within %v were seen, which is too little for a recommendation.", i.Requests, i.span.Round(time.Second))
		return
	case issued == 0:
		i.Reason = "These tokens do not say when they were issued (iat), so their lifetime is not known."
		return
	}
	for _, c := range i.Candidates {
		if time.Duration(c.Lifetime) < shortest || c.RefreshesPerHour > affordable*i.RequestsPerHour {
			continue
		}
		if float64(c.Lifetime) >= .9*float64(issued) {
			break
		}
		i.Recommended = c.Lifetime
		i.Reason = fmt.Sprintf("Tokens live for %v and could live for %v. That costs %s, which is %s of the requests. A theft that nobody notices then ends after %v at most, not after %v.",
			issued.Short(), c.Lifetime.Short(), refreshes(c.RefreshesPerHour), share(c.RefreshesPerHour/i.RequestsPerHour), c.Lifetime.Short(), issued.Short())
		return
	}
	i.Recommended = issued
	i.Reason = fmt.Sprintf("Tokens live for %v. With a shorter life the refreshes would be more than %s of the requests.", issued.Short(), share(affordable))
	if time.Duration(issued) <= shortest*11/10 {
		i.Reason = fmt.Sprintf("Tokens live for %v. A shorter life would gain little.", issued.Short())
	}
}

// even returns the round lifetime that d is, as exactly as a sketch can tell, or
// else d.
func even(d Duration) Duration {
	for _, e := range append([]time.Duration{2 * time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour, 8 * time.Hour}, Lifetimes[:]...) {
		if off := float64(d)/float64(e) - 1; off > -1.2*SketchAccuracy && off < 1.2*SketchAccuracy {
			return Duration(e)
		}
	}
	return d
}

func refreshes(perHour float64) string {
	switch {
	case perHour < 1:
		return "less than one refresh an hour"
	case perHour < 1.5:
		return "one refresh an hour"
	}
	return fmt.Sprintf("%.0f refreshes an hour", perHour)
}

func share(of float64) string {
	if of < .001 {
		return "less than 0.1 %"
	}
	return fmt.Sprintf("%.1f %%", 100*of)
}
