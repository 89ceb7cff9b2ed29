package watch

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/authz"
	"rescind/revocation/insight"
)

// pair is two memories that see the same requests: one by one, and together.
type pair struct {
	one, together           *memory
	alertsOne, alertsGroups map[string]uint64 // sightings
}

func newPair(began time.Time) *pair {
	p := &pair{alertsOne: map[string]uint64{}, alertsGroups: map[string]uint64{}}
	s := Defaults()
	s.SubjectAtLeast, s.SubjectRate = 20, 3
	out := func(to map[string]uint64) func(insight.Alert, uint64) {
		return func(a insight.Alert, n uint64) { to[string(a.Detector)+" "+a.Key] += n }
	}
	p.one, p.together = newMemory(&s, began, out(p.alertsOne)), newMemory(&s, began, out(p.alertsGroups))
	return p
}

// portion shows requests that a replica reads at once.
func (p *pair) portion(all []seen, at []time.Time) {
	var events []event
	last := map[string]int{} // the newest event of a token
	for n, s := range all {
		r, d := s.decision(at[n])
		e := eventOf(r, d, at[n])
		p.one.event = e
		p.one.note(&p.one.event)
		i, there := last[e.tokenID]
		if there && events[i].network == e.network && events[i].policy == e.policy && events[i].reason == e.reason {
			events[i].times++
			events[i].span += e.at.Sub(events[i].at)
			events[i].at = e.at
			continue
		}
		last[e.tokenID] = len(events)
		events = append(events, e)
	}
	for _, e := range events {
		p.together.event = e
		p.together.note(&p.together.event)
	}
}

func (p *pair) tick(now time.Time) {
	p.one.tick(now)
	p.together.tick(now)
}

// TestUsesTogether compares a memory that sees requests one by one with a memory that
// sees requests alike together.
func TestUsesTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
		p := newPair(began)
		holders := rapid.IntRange(1, 4).Draw(t, "holders")
		busy := rapid.SliceOfN(rapid.IntRange(0, 60), 20, 20).Draw(t, "requests of each minute")
		now := began
		for minute, requests := range busy {
			now = began.Add(time.Duration(minute)*time.Minute + time.Duration(rapid.IntRange(0, 50_000).Draw(t, "second"))*time.Millisecond)
			for left := requests; left > 0; {
				n := min(left, rapid.IntRange(1, 40).Draw(t, "portion"))
				left -= n
				all, at := make([]seen, n), make([]time.Time, n)
				for i := range n {
					token := rapid.IntRange(0, 2*holders-1).Draw(t, "token")
					all[i] = seen{
						jti: fmt.Sprint("t", token), subject: fmt.Sprint("u", token/2), session: fmt.Sprint("s", token/2), client: "web", issued: began.Add(-2 * time.Hour), life: 12 * time.Hour,
						from:   rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "198.51.100.1"}).Draw(t, "from"),
						policy: rapid.SampledFrom([]string{"default", "default", "reports"}).Draw(t, "policy"),
						reason: rapid.SampledFrom([]authz.Reason{authz.OK, authz.OK, authz.OK, authz.OK, authz.Revoked}).Draw(t, "reason"),
					}
					at[i] = now
					now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "pause")) * time.Microsecond)
				}
				p.portion(all, at)
				now = now.Add(time.Duration(rapid.IntRange(0, 50).Draw(t, "rest")) * time.Millisecond)
			}
			p.tick(now)
		}
		now = now.Add(time.Minute)
		p.one.alerts.flush(now)
		p.together.alerts.flush(now)
		p.compare(t, holders, now)
	})
}

func (p *pair) compare(t *rapid.T, holders int, now time.Time) {
	if fmt.Sprint(p.alertsOne) != fmt.Sprint(p.alertsGroups) {
		t.Fatalf("alerts:\none by one %v\ntogether   %v", p.alertsOne, p.alertsGroups)
	}
	for n := range holders {
		q := insight.ActivityQuery{By: insight.BySubject, Value: fmt.Sprint("u", n)}
		want, _ := p.one.activity(q, now, func() {})
		got, _ := p.together.activity(q, now, func() {})
		if !sameActivity(got, want) {
			t.Fatalf("activity of %s:\none by one %+v\ntogether   %+v", q.Value, want, got)
		}
		i := insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sub": q.Value}}
		heavy, light := p.one.impact(i, now, func() {}), p.together.impact(i, now, func() {})
		if light.Requests != heavy.Requests || light.Total != heavy.Total || light.Tokens != heavy.Tokens {
			t.Fatalf("impact of a revocation of %s:\none by one %+v\ntogether   %+v", q.Value, heavy, light)
		}
	}
	one, together := p.one.lifetimes.current, p.together.lifetimes.current
	if len(one) != len(together) {
		t.Fatalf("groups: one by one %d, together %d", len(one), len(together))
	}
	for k, a := range one {
		k.issuer = p.together.names.issuer(k.issuer.name)
		b := together[k]
		if b == nil {
			t.Fatalf("client %s under policy %s: no figures of requests together", k.client, k.policy)
		}
		for name, figures := range map[string][2]float64{
			"tokens": {float64(a.tokens), float64(b.tokens)}, "requests": {float64(a.requests), float64(b.requests)},
			"holders": {float64(a.holders.Estimate()), float64(b.holders.Estimate())},
			"lives":   {a.lives.GetCount(), b.lives.GetCount()}, "ages": {a.ages.GetCount(), b.ages.GetCount()}, "rests": {a.rests.GetCount(), b.rests.GetCount()},
			"lives longer than an hour": {float64(a.livesLonger[3]), float64(b.livesLonger[3])}, "older than an hour": {float64(a.older[3]), float64(b.older[3])},
		} {
			if figures[0] != figures[1] {
				t.Fatalf("%s of client %s under policy %s: one by one %v, together %v", name, k.client, k.policy, figures[0], figures[1])
			}
		}
		if one, two, ok := quantiles(a, b); !ok {
			t.Fatalf("ages and rests of client %s under policy %s: one by one %v, together %v", k.client, k.policy, one, two)
		}
	}
	// Which policy a pause counts for depends on the order within a portion, so the
	// pauses of a client are compared as a whole.
	if a, b := pausesOf(one), pausesOf(together); !slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-6 }) {
		t.Fatalf("busy time and pauses longer than each limit: one by one %v, together %v", a, b)
	}
}

// quantiles returns the medians of ages and rests, and whether they are as near to each other
// as the accuracy of the sketches permits.
func quantiles(a, b *group) (one, two [2]float64, ok bool) {
	if a.ages.IsEmpty() {
		return one, two, b.ages.IsEmpty()
	}
	one[0], _ = a.ages.GetValueAtQuantile(.5)
	two[0], _ = b.ages.GetValueAtQuantile(.5)
	one[1], _ = a.rests.GetValueAtQuantile(.5)
	two[1], _ = b.rests.GetValueAtQuantile(.5)
	for i := range one {
		if math.Abs(one[i]-two[i]) > 3*insight.SketchAccuracy*one[i] {
			return one, two, false
		}
	}
	return one, two, true
}

func pausesOf(all map[groupKey]*group) (out []float64) {
	out = make([]float64, 2*len(insight.Lifetimes))
	for _, g := range all {
		for i := range insight.Lifetimes {
			out[2*i] += g.busy[i]
			out[2*i+1] += float64(g.pausing[i])
		}
	}
	return out
}

// TestPausesOfUsesTogether looks at the pauses within an event. A watcher sees no pause
// of less than a millisecond.
func TestPausesOfUsesTogether(t *testing.T) {
	for name, c := range map[string]struct {
		times int
		span  time.Duration
		gaps  float64
	}{
		"one request":             {1, 0, 0},
		"three within 40 ms":      {3, 40 * time.Millisecond, 2},
		"a hundred within 40 ms":  {100, 40 * time.Millisecond, 40},
		"three at once":           {3, 0, 0},
		"a time that goes back":   {3, -time.Second, 0},
		"two within two days":     {2, 48 * time.Hour, 0},
		"the most within a while": {math.MaxInt32, 40 * time.Millisecond, 40},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				now := time.Now()
				req, d := seen{jti: "a", subject: "alice"}.decision(now)
				r.ObserveUses(req, d, now.Add(-c.span), now, c.times)
				r.ObserveUses(req, d, now, now, 0) // nothing
				r.settle()
				advice, err := r.Advice()
				if err != nil {
					t.Fatal(err)
				}
				a, err := r.Activity(insight.ActivityQuery{By: insight.ByToken, Value: "a"})
				if err != nil || a.Count != uint64(c.times) {
					t.Errorf("%d requests: got %d and error %v", c.times, a.Count, err)
				}
				if g := advice.Groups[0]; g.Requests != uint64(c.times) || g.Tokens != 1 {
					t.Errorf("advice about %d requests with a token: got %d with %d tokens", c.times, g.Requests, g.Tokens)
				}
				_ = r.ask(func(m *memory, _ func()) {
					for _, g := range m.lifetimes.current {
						if got := g.gaps.GetCount(); got != c.gaps {
							t.Errorf("%d requests within %v: got %v pauses, want %v", c.times, c.span, got, c.gaps)
						}
					}
				})
			})
		})
	}
}

// TestUnverifiedTogether shows denials alike together. Each counts in a burst.
func TestUnverifiedTogether(t *testing.T) {
	bubble(t, func(s *Settings) { s.Failures = 10 }, func(r *rig) {
		now := time.Now()
		req, d := seen{nothing: true, reason: authz.BadSignature}.decision(now)
		r.ObserveUses(req, d, now, now, 9)
		r.wants()
		r.ObserveUses(req, d, now, now, 4)
		if got := r.alerts(insight.BadSignatures); len(got) != 1 || got[0].Count != 10 {
			t.Errorf("13 bad signatures: got the alerts %+v, want one at the tenth", got)
		}
	})
}

// TestManyTokensAtOnce observes as many tokens at once as a replica reads of its Envoys
// within 50 ms at 30,000 requests a second, each with another token.
func TestManyTokensAtOnce(t *testing.T) {
	r := newRig(t, nil)
	const tokens = 1500
	for n := range tokens {
		now := time.Now()
		req, d := seen{jti: fmt.Sprint(n)}.decision(now)
		r.ObserveUses(req, d, now, now, 1)
	}
	d, err := r.Advice()
	if err != nil || len(d.Groups) != 1 || d.Groups[0].Requests != tokens {
		t.Errorf("%d tokens at once: got the error %v and %+v, want all of them seen", tokens, err, d.Groups)
	}
	if dropped := r.figure("rescind_watch_dropped_total"); dropped != 0 {
		t.Errorf("%d tokens at once: got %v dropped, want none", tokens, dropped)
	}
}

// TestHoldersOfGroups counts more holders of two groups than there is room for among
// the recent ones, each again and again, and in the next window once more.
func TestHoldersOfGroups(t *testing.T) {
	const holders = len(recent{})
	g, now := newGroups(), time.Now()
	i := &issuer{}
	for window := range 2 {
		g.tick(now.Add(time.Duration(window)*time.Hour), time.Hour)
		want := newCounter(insight.HoldersPrecision)
		for range 3 {
			for n := range uint64(holders) {
				id := max(spread(n), 1)
				g.recent.hold(g.of(groupKey{issuer: i, client: "web"}), id)
				g.recent.hold(g.of(groupKey{issuer: i, client: "app"}), id)
				want.InsertHash(id)
			}
		}
		for k, of := range g.current {
			if got := of.holders.Estimate(); got != want.Estimate() {
				t.Errorf("window %d, %d holders of %s: got %d, want %d as without the recent ones", window, holders, k.client, got, want.Estimate())
			}
		}
	}
}
