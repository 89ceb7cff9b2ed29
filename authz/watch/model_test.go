package watch

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// naive remembers the same as memory does, in plain maps and for ever.
type naive struct {
	window time.Duration
	tokens map[naiveToken]*naiveLife
}

type naiveToken struct{ issuer, id string }

type naiveLife struct {
	seen        seen
	first, last time.Time
	issued      time.Time
	uses        map[naiveUse]*naiveCount
}

type naiveUse struct {
	network, policy string
	reason          authz.Reason
}

type naiveCount struct {
	n    uint64
	last time.Time
}

func (n *naive) note(s seen, at time.Time) {
	_, d := s.decision(at)
	k := naiveToken{d.Issuer, "jti " + d.TokenID}
	if d.TokenID == "" {
		k.id = fmt.Sprintf("hash %x", d.Facts.Hash)
	}
	t := n.tokens[k]
	if t == nil || at.Sub(t.last) > n.window {
		t = &naiveLife{seen: s, first: at, issued: d.Facts.IssuedAt.Time(), uses: map[naiveUse]*naiveCount{}}
		t.seen.issuer = d.Issuer
		n.tokens[k] = t
	}
	r, _ := s.decision(at)
	u := naiveUse{networkOf(r.Source).String(), d.Policy, d.Reason}
	c := t.uses[u]
	if c == nil || at.Sub(c.last) > n.window {
		c = &naiveCount{}
		t.uses[u] = c
	}
	c.n++
	c.last, t.last = at, at
}

func (n *naive) each(now time.Time, yield func(naiveToken, *naiveLife, naiveUse, *naiveCount)) {
	for k, t := range n.tokens {
		for u, c := range t.uses {
			if now.Sub(c.last) <= n.window {
				yield(k, t, u, c)
			}
		}
	}
}

func (n *naive) activity(q insight.ActivityQuery, now time.Time) insight.Activity {
	a := insight.Activity{Networks: map[string]uint64{}, Policies: map[string]uint64{}, Outcomes: map[string]uint64{}}
	n.each(now, func(k naiveToken, t *naiveLife, u naiveUse, c *naiveCount) {
		is := map[insight.Dimension]bool{
			insight.BySubject: t.seen.subject == q.Value, insight.ByToken: k.id == "jti "+q.Value,
			insight.BySession: t.seen.session == q.Value, insight.ByClient: t.seen.client == q.Value,
		}[q.By]
		if !is || q.Issuer != "" && q.Issuer != k.issuer {
			return
		}
		a.Count += c.n
		a.Networks[u.network] += c.n
		a.Policies[u.policy] += c.n
		a.Outcomes[string(u.reason)] += c.n
		if a.First.IsZero() || t.first.Before(a.First) {
			a.First = t.first
		}
		if c.last.After(a.Last) {
			a.Last = c.last
		}
	})
	return a
}

func (n *naive) impact(hits func(naiveToken, *naiveLife) bool, now time.Time) (a insight.Impact) {
	tokens, subjects, sessions := map[naiveToken]bool{}, map[string]bool{}, map[string]bool{}
	n.each(now, func(k naiveToken, t *naiveLife, u naiveUse, c *naiveCount) {
		if u.reason != authz.OK {
			return
		}
		a.Total += c.n
		if !hits(k, t) {
			return
		}
		a.Requests += c.n
		tokens[k] = true
		if t.seen.subject != "" {
			subjects[k.issuer+t.seen.subject] = true
		}
		if t.seen.session != "" {
			sessions[k.issuer+t.seen.session] = true
		}
	})
	a.Tokens, a.Subjects, a.Sessions = uint64(len(tokens)), uint64(len(subjects)), uint64(len(sessions))
	return a
}

func sameActivity(a, b insight.Activity) bool {
	return a.Count == b.Count && maps.Equal(a.Networks, b.Networks) && maps.Equal(a.Policies, b.Policies) &&
		maps.Equal(a.Outcomes, b.Outcomes) && near(a.First, b.First) && near(a.Last, b.Last)
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() <= 2*time.Millisecond }

// TestMemoryAgainstModel compares the memory with plain maps, as long as there is room.
func TestMemoryAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
		now := began
		s := Defaults()
		s.Window = 10 * time.Minute
		m := newMemory(&s, began, func(insight.Alert, uint64) {})
		n := &naive{window: s.Window, tokens: map[naiveToken]*naiveLife{}}
		some := func(label string, size int) string {
			i := rapid.IntRange(0, size).Draw(t, label)
			if i == 0 {
				return ""
			}
			return fmt.Sprint(label, i)
		}
		// A token has one subject, session and so on for ever.
		made := map[string]seen{}
		mint := func() seen {
			c := seen{
				issuer: rapid.SampledFrom([]string{idp, other}).Draw(t, "issuer"), jti: some("jti", 30),
				subject: some("sub", 5), session: some("sid", 6), client: some("client", 3), kid: some("kid", 2),
				issued: began.Add(time.Duration(rapid.IntRange(1, 1000).Draw(t, "iat")) * time.Second),
			}
			key := fmt.Sprint(c.issuer, "/", c.jti)
			if c.jti == "" {
				key = fmt.Sprint(c.issuer, "//", c.subject, c.client)
			}
			if old, ok := made[key]; ok {
				return old
			}
			made[key] = c
			return c
		}
		for range rapid.IntRange(1, 300).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 1000, 60_000, 400_000, 700_000}).Draw(t, "pause")) * time.Millisecond)
			c := mint()
			c.from = rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.200", "198.51.100.1", "2001:db8::1", "203.0.113.4"}).Draw(t, "from")
			c.policy = rapid.SampledFrom([]string{"default", "reports"}).Draw(t, "policy")
			c.reason = rapid.SampledFrom([]authz.Reason{authz.OK, authz.OK, authz.Revoked, authz.TooOld}).Draw(t, "reason")
			r, d := c.decision(now)
			m.event = eventOf(r, d, now)
			n.note(c, now)
			for range rapid.IntRange(0, 3).Draw(t, "more at once") {
				m.event.times++
				m.event.span += 10 * time.Millisecond
				now = now.Add(10 * time.Millisecond)
				n.note(c, now)
			}
			m.event.at = now
			m.note(&m.event)
			if rapid.IntRange(0, 9).Draw(t, "tick") == 0 {
				m.tick(now)
			}
		}
		ask(t, m, n, now)
	})
}

func ask(t *rapid.T, m *memory, n *naive, now time.Time) {
	for by, values := range map[insight.Dimension][]string{
		insight.BySubject: {"sub1", "sub2", "none"}, insight.ByToken: {"jti1", "jti2"},
		insight.BySession: {"sid1", "sid2"}, insight.ByClient: {"client1", "client2"},
	} {
		for _, value := range values {
			for _, iss := range []string{"", idp, other, "https://nobody.example/"} {
				q := insight.ActivityQuery{Issuer: iss, By: by, Value: value}
				got, err := m.activity(q, now, func() {})
				if want := n.activity(q, now); err != nil || !sameActivity(got, want) || got.Partial {
					t.Fatalf("activity of %+v: error %v\ngot  %+v\nwant %+v", q, err, got, want)
				}
			}
		}
	}
	before := now.Add(-20 * time.Minute).Truncate(time.Second)
	var queries []insight.ImpactQuery
	var wanted []insight.Impact
	for _, c := range []struct {
		q    insight.ImpactQuery
		hits func(naiveToken, *naiveLife) bool
	}{
		{insight.ImpactQuery{All: true}, func(naiveToken, *naiveLife) bool { return true }},
		{insight.ImpactQuery{All: true, Before: before}, func(_ naiveToken, l *naiveLife) bool { return l.issued.Before(before) }},
		{insight.ImpactQuery{KeyID: "kid1"}, func(_ naiveToken, l *naiveLife) bool { return l.seen.kid == "kid1" }},
		{insight.ImpactQuery{Claims: map[string]any{"sub": "sub1"}}, func(_ naiveToken, l *naiveLife) bool { return l.seen.subject == "sub1" }},
		{insight.ImpactQuery{Claims: map[string]any{"jti": "jti3"}}, func(k naiveToken, _ *naiveLife) bool { return k.id == "jti jti3" }},
		{insight.ImpactQuery{Claims: map[string]any{"sub": "sub1"}}, func(_ naiveToken, l *naiveLife) bool { return l.seen.subject == "sub1" }},
		{insight.ImpactQuery{Claims: map[string]any{"sub": "sub2", "client_id": "client2"}}, func(_ naiveToken, l *naiveLife) bool {
			return l.seen.subject == "sub2" && l.seen.client == "client2"
		}},
		{insight.ImpactQuery{Claims: map[string]any{"sub": "sub2"}, Before: before}, func(_ naiveToken, l *naiveLife) bool {
			return l.seen.subject == "sub2" && l.issued.Before(before)
		}},
		{insight.ImpactQuery{Claims: map[string]any{"sid": "sid2", "client_id": "client1"}}, func(_ naiveToken, l *naiveLife) bool {
			return l.seen.session == "sid2" && l.seen.client == "client1"
		}},
	} {
		c.q.Issuer = idp
		got := m.impact(c.q, now, func() {})
		want := n.impact(func(k naiveToken, l *naiveLife) bool { return k.issuer == idp && c.hits(k, l) }, now)
		if got.Tokens != want.Tokens || got.Subjects != want.Subjects || got.Sessions != want.Sessions ||
			got.Requests != want.Requests || got.Total != want.Total || got.Partial {
			t.Fatalf("impact of %+v:\ngot  %+v\nwant %+v", c.q, got, want)
		}
		queries, wanted = append(queries, c.q), append(wanted, want)
	}
	got := m.weights(queries, now, func() {})
	for i, want := range wanted {
		if item := got.Items[i]; item.Tokens != want.Tokens || item.Requests != want.Requests || got.Total != want.Total || got.Partial || item.Partial {
			t.Fatalf("weight of %+v: got %+v of %d, want %+v", queries[i], item, got.Total, want)
		}
	}
}

// TestTableAgainstMap compares the table with a map through growth, removal and eviction.
func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := &table[holder, *holder]{limit: rapid.SampledFrom([]int{1, 10, 300, 100_000}).Draw(t, "limit")}
		model := map[uint64]stamp{}
		gone := func(h *holder) { delete(model, h.id) }
		// Few homes, so that there are long runs.
		keys := rapid.Custom(func(t *rapid.T) uint64 {
			return rapid.Uint64Range(0, 3).Draw(t, "home")<<62 | rapid.Uint64Range(1, 400).Draw(t, "key")
		})
		for i := range rapid.IntRange(1, 2000).Draw(t, "steps") {
			key := keys.Draw(t, "key")
			switch rapid.IntRange(0, 9).Draw(t, "do") {
			case 0, 1, 2, 3, 4:
				h := tab.get(key)
				if h == nil {
					h = tab.add(key, gone)
				}
				*h = holder{key, stamp(i)}
				model[key] = stamp(i)
			case 5, 6:
				if tab.n > 0 {
					n := rapid.IntRange(0, tab.n-1).Draw(t, "entry")
					gone(tab.at(n))
					tab.remove(n)
				}
			case 7:
				tab.sweep(1, func(h *holder) bool { return h.last < stamp(i/2) }, gone)
			default:
				h := tab.get(key)
				if at, there := model[key]; there != (h != nil) || there && h.last != at {
					t.Fatalf("key %x: got %v, want it there: %v, last %v", key, h, there, at)
				}
			}
			if tab.n != len(model) || tab.n > tab.limit {
				t.Fatalf("after step %d: got %d entries, want %d and at most %d", i, tab.n, len(model), tab.limit)
			}
		}
		for key, at := range model {
			if h := tab.get(key); h == nil || h.last != at {
				t.Fatalf("key %x at the end: got %v, want last %v", key, h, at)
			}
		}
	})
}

func TestImpactOfRevocations(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a", subject: "alice", client: "web"}, seen{jti: "b", subject: "alice"}, seen{subject: "carol"}, seen{jti: "c", subject: "7", reason: authz.OK})
		for _, c := range []struct {
			request string
			tokens  uint64
			partial bool
		}{
			{`{"issuer": "https://idp.example/", "claims": {"sub": "alice"}}`, 2, false},
			{`{"issuer": "https://idp.example/", "claims": {"sub": "alice", "client_id": "web"}}`, 1, false},
			{`{"issuer": "https://idp.example/", "claims": {"sub": "alice", "tenant": "acme"}}`, 2, true},
			{`{"issuer": "https://idp.example/", "claims": {"tenant": "acme"}}`, 0, true},
			{`{"issuer": "https://idp.example/", "claims": {"sub": 7}}`, 1, false},
			{`{"issuer": "https://idp.example/", "claims": {"sub": "7"}}`, 1, false},
			{`{"issuer": "https://idp.example/", "claims": {"/sub": "alice"}}`, 2, false},
			{`{"issuer": "https://idp.example/", "all": true}`, 4, false},
			{`{"issuer": "https://idp.example/", "all": true, "issued_before": "1999-01-01T00:00:00Z"}`, 0, false},
			{`{"issuer": "https://idp.example/", "all": true, "block": true}`, 4, false},
			{`{"issuer": "https://nobody.example/", "all": true}`, 0, false},
		} {
			req, faults := revocation.ParseRequest([]byte(c.request))
			if faults != nil {
				t.Fatalf("%s: got the faults %v, want none", c.request, faults)
			}
			rev, faults := req.Accept(time.Now(), time.Hour, "x")
			if faults != nil {
				t.Fatalf("%s: got the faults %v, want none", c.request, faults)
			}
			got, err := r.Impact(insight.ImpactQueryOf(&rev))
			if err != nil || got.Tokens != c.tokens || got.Partial != c.partial || got.Total != 4 {
				t.Errorf("impact of %s: got %+v and error %v, want %d of 4 requests' tokens, partial: %v", c.request, got, err, c.tokens, c.partial)
			}
		}
		_, d := seen{subject: "carol"}.decision(time.Now())
		rev := revocation.Revocation{Issuer: idp, Target: revocation.Target{Kind: revocation.KindToken, Token: d.Facts.Hash}}
		if got, err := r.Impact(insight.ImpactQueryOf(&rev)); err != nil || got.Tokens != 1 || got.Subjects != 1 {
			t.Errorf("impact of the hash of carol's token: got %+v and error %v, want 1 token of 1 subject", got, err)
		}
		if _, err := r.Impact(insight.ImpactQuery{}); err == nil {
			t.Error("impact without an issuer: got an answer, want an error")
		}
	})
}
