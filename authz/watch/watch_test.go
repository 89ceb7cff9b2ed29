package watch

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/authz"
	"rescind/revocation/insight"
)

// TestConfigure changes thresholds. The watcher keeps its memory.
func TestConfigure(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for n := range 4 {
			r.see(seen{jti: "a", subject: "alice", from: fmt.Sprintf("198.51.%d.1", n)})
		}
		r.wants()
		s := Defaults()
		s.NetworksPerToken = 4
		r.Configure(s)
		r.see(seen{jti: "a", subject: "alice", from: "203.0.113.1"})
		r.wants(insight.ManyNetworks)
		if a, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"}); err != nil || a.Count != 5 {
			t.Errorf("alice after a new threshold: got %+v and error %v, want 5 requests", a, err)
		}

		s.Enabled = false
		r.Configure(s)
		r.see(seen{jti: "b", reason: authz.Revoked})
		r.wants(insight.ManyNetworks)
		time.Sleep(2 * time.Second)
		s.Enabled = true
		r.Configure(s)
		r.see(seen{jti: "b", reason: authz.Revoked})
		r.wants(insight.ManyNetworks, insight.RevokedTokenUsed)
		if a, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"}); err != nil || a.Count != 0 {
			t.Errorf("alice after the watcher was off: got %+v and error %v, want no request", a, err)
		}

		s.Window, s.Tokens = 0, 1<<40 // nonsense is bounded
		r.Configure(s)
		r.see(seen{jti: "c"})
		r.settle()
		if got := r.settings.Load(); got.Window != MinWindow || got.Tokens != MaxTokens {
			t.Errorf("window 0, 2^40 tokens: got %+v, want %v and %d", got, MinWindow, MaxTokens)
		}
	})
}

func TestActivity(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		began := time.Now()
		alice := seen{jti: "a", subject: "alice", session: "s", client: "web"}
		r.see(alice, alice)
		time.Sleep(10 * time.Minute)
		alice.from, alice.policy = "2001:db8:1::1", "reports"
		r.see(alice)
		alice.reason = authz.Revoked
		r.see(alice, seen{jti: "b", subject: "bob"}, seen{jti: "c", subject: "alice", issuer: other})
		want := insight.Activity{
			Since: began.UTC(), First: began.UTC(), Last: began.Add(10 * time.Minute).UTC(), Count: 4,
			Networks: map[string]uint64{"192.0.2.0/24": 2, "2001:db8:1::/48": 2},
			Policies: map[string]uint64{"default": 2, "reports": 2},
			Outcomes: map[string]uint64{"ok": 3, "revoked": 1},
		}
		for by, value := range map[insight.Dimension]string{insight.BySubject: "alice", insight.ByToken: "a", insight.BySession: "s", insight.ByClient: "web"} {
			got, err := r.Activity(insight.ActivityQuery{Issuer: idp, By: by, Value: value})
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("activity by %s %s: error %v\ngot  %+v\nwant %+v", by, value, err, got, want)
			}
		}
		if got, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"}); err != nil || got.Count != 5 {
			t.Errorf("alice at any issuer: got %+v and error %v, want 5 requests", got, err)
		}
		for _, q := range []insight.ActivityQuery{{}, {By: insight.BySubject}, {By: "aud", Value: "x"}} {
			if _, err := r.Activity(q); err == nil {
				t.Errorf("activity of %+v: got an answer, want an error", q)
			}
		}
		time.Sleep(51 * time.Minute) // its first use is over a window ago
		got, err := r.Activity(insight.ActivityQuery{By: insight.ByToken, Value: "a"})
		if err != nil || got.Count != 2 || got.Networks["192.0.2.0/24"] != 0 || !got.Since.After(began) {
			t.Errorf("token a, its first use over a window ago: got %+v and error %v, want 2 requests, none from 192.0.2.0/24, since later than %v", got, err, began)
		}
	})
}

// TestTokenWithoutID asks for a token without jti by its name in the alert.
func TestTokenWithoutID(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{subject: "x", reason: authz.Revoked})
		name := r.alerts(insight.RevokedTokenUsed)[0].TokenID
		if !strings.HasPrefix(name, "sha256:") || len(name) != 7+16 {
			t.Errorf("an alert about a token without jti: got the name %q, want sha256: and 16 digits", name)
		}
		if a, err := r.Activity(insight.ActivityQuery{By: insight.ByToken, Value: name}); err != nil || a.Count != 1 {
			t.Errorf("activity of token %s: got %+v and error %v, want 1 request", name, a, err)
		}
	})
}

func TestAnswer(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a", subject: "alice"})
		b, err := r.Answer("activity", []byte(`{"by": "sub", "value": "alice"}`))
		var a insight.Activity
		if err != nil || json.Unmarshal(b, &a) != nil || a.Count != 1 {
			t.Errorf("activity of alice: got %s and error %v, want 1 request", b, err)
		}
		b, err = r.Answer("impact", []byte(`{"issuer": "https://idp.example/", "claims": {"sub": "alice"}}`))
		var i insight.Impact
		if err != nil || json.Unmarshal(b, &i) != nil || i.Tokens != 1 || insight.MergeImpacts(i, i).Tokens != 1 {
			t.Errorf("impact of alice: got %s and error %v, want 1 token, also of two replicas", b, err)
		}
		b, err = r.Answer("advice", nil)
		var d insight.AdviceData
		if err != nil || json.Unmarshal(b, &d) != nil || len(d.Groups) != 1 {
			t.Errorf("advice: got %s and error %v, want 1 group", b, err)
		}
		for kind, query := range map[string]string{"other": "{}", "activity": "", "impact": `{"issuer": "a"} 1`, "Activity": "{}"} {
			if b, err := r.Answer(kind, []byte(query)); err == nil {
				t.Errorf("question %s %q: got %s, want an error", kind, query, b)
			}
		}
		if b, err := r.Answer("impact", []byte(`{"issuer": "a", "token": "x"}`)); err == nil {
			t.Errorf("impact with the unknown member token: got %s, want an error", b)
		}
	})
}

// TestAdviceFromTraffic compares the advice with the traffic behind it.
func TestAdviceFromTraffic(t *testing.T) {
	bubble(t, func(s *Settings) { s.CutOff = 2 * time.Minute }, func(r *rig) {
		issued := time.Now()
		for range 120 * 6 { // two hours
			for user := range 5 {
				r.see(seen{
					jti: fmt.Sprint("t", user), subject: fmt.Sprint("u", user), session: fmt.Sprint("s", user), client: "web",
					issued: issued, life: 12 * time.Hour,
				})
			}
			time.Sleep(10 * time.Second)
		}
		d, err := r.Advice()
		if err != nil {
			t.Fatal(err)
		}
		a := insight.Advise(d)
		if len(a.Items) != 1 || a.Partial {
			t.Fatalf("two hours of 5 users: got %+v, want one complete item", a)
		}
		got := a.Items[0]
		about := func(figure string, got, want float64) {
			t.Helper()
			if math.Abs(got-want) > .06*want {
				t.Errorf("%s: got %v, want about %v", figure, got, want)
			}
		}
		about("holders", float64(got.Holders), 5)
		about("requests an hour", got.RequestsPerHour, 1800)
		about("lifetime", time.Duration(got.Lifetime.P50).Hours(), 12)
		about("gap", time.Duration(got.Gap.P50).Seconds(), 10)
		about("rest", time.Duration(got.Rest.P50).Hours(), 11)
		about("refreshes for 5m", got.Candidates[1].RefreshesPerHour, 60)
		about("denied by max_age 1h", got.Candidates[3].DeniedByMaxAge, .5)
		about("denied by max_lifetime 4h", got.Candidates[4].DeniedByMaxLifetime, 1)
		about("cut off", time.Duration(got.Candidates[3].ExposureCutOff).Minutes(), 2)
		if time.Duration(got.Recommended) != 15*time.Minute {
			t.Errorf("a request every 10s: got %v: %q, want 15m", got.Recommended, got.Reason)
		}
	})
}

// TestConcurrently observes, asks and configures at once, for the race detector.
// Every decision is seen or counted as dropped.
func TestConcurrently(t *testing.T) {
	r := newRig(t, nil)
	const senders, each = 8, 3000
	var all sync.WaitGroup
	for n := range senders {
		all.Go(func() {
			for i := range each {
				s := seen{jti: fmt.Sprint(n, i%50), subject: "alice"}
				if i%100 == 0 {
					s.reason = authz.Revoked
				}
				req, d := s.decision(time.Now())
				r.Observe(req, d, time.Now())
				if i%200 == 0 {
					r.Configure(Defaults())
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	all.Go(func() {
		for range 50 {
			if _, err := r.Answer("activity", []byte(`{"by": "sub", "value": "alice"}`)); err != nil {
				t.Errorf("activity of alice during traffic: got the error %v, want an answer", err)
			}
		}
	})
	all.Wait()
	a, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"})
	dropped := uint64(r.figure("rescind_watch_dropped_total"))
	if err != nil || a.Count+dropped != senders*each || (dropped > 0) != a.Partial {
		t.Errorf("%d senders: got %d seen, %d dropped, partial %v and error %v, want %d in all, and partial if any was dropped", senders, a.Count, dropped, a.Partial, err, senders*each)
	}
}

// TestFullQueueDrops fills the queue. The watcher drops, counts and never waits.
func TestFullQueueDrops(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a", repeat: queueSize + 500}) // the goroutine has no turn in a bubble until we wait
		r.settle()
		a, err := r.Activity(insight.ActivityQuery{By: insight.ByToken, Value: "a"})
		dropped := r.figure("rescind_watch_dropped_total")
		if err != nil || float64(a.Count)+dropped != queueSize+500 || a.Partial != (dropped > 0) {
			t.Errorf("%d decisions at once: got %+v, %v dropped and error %v, want all of them seen or dropped, and partial if any was dropped", queueSize+500, a, dropped, err)
		}
	})
}

func TestObserveWithoutRequest(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		_, d := seen{jti: "a", subject: "alice"}.decision(time.Now())
		r.Observe(nil, d, time.Now())
		r.Observe(&authz.Request{}, d, time.Now())
		a, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"})
		if err != nil || a.Networks["unknown"] != 2 {
			t.Errorf("decisions without a request: got %+v and error %v, want 2 from the network unknown", a, err)
		}
		r.wants()
	})
}

func TestNetworks(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.77": "203.0.113.0/24", "0.0.0.0": "0.0.0.0/24", "255.255.255.255": "255.255.255.0/24",
		"::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2::3": "2001:db8:1::/48", "::1": "::/48", "ffff:ffff:ffff:ffff::": "ffff:ffff:ffff::/48",
		"fe80::1%eth0": "fe80::/48",
	} {
		n := networkOf(netip.MustParseAddr(in))
		if n.String() != want || n == 0 || n>>networkBits != 0 {
			t.Errorf("network of %s: got %s (%#x), want %s in %d bits", in, n, uint64(n), want, networkBits)
		}
		if k := useOf(n, 77); k.network() != n || k.route() != 77 {
			t.Errorf("use of network %s by route 77: got %s and %d, want both back", n, k.network(), k.route())
		}
	}
	if n := networkOf(netip.Addr{}); n != 0 || n.String() != "unknown" {
		t.Errorf("network of no address: got %s, want unknown", n)
	}
}
