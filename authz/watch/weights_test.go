package watch

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"rescind/authz"
	"rescind/revocation/insight"
)

func subjectQuery(subject string) insight.ImpactQuery {
	return insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sub": subject}}
}

// One question about several revocations gets each of them its own weight.
func TestWeights(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(
			seen{jti: "a", subject: "alice", session: "s1", client: "web", repeat: 3},
			seen{jti: "b", subject: "alice", session: "s2"},
			seen{jti: "e", subject: "17", authorized: "app", repeat: 2},
			seen{jti: "c", subject: "bob", reason: authz.Revoked},
			seen{jti: "d", subject: "alice", issuer: other},
		)
		for _, c := range []struct {
			query            insight.ImpactQuery
			tokens, requests uint64
			partial          bool
		}{
			{subjectQuery("alice"), 2, 4, false},
			{subjectQuery("bob"), 0, 0, false}, // is denied already
			{subjectQuery("nobody"), 0, 0, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"jti": "a"}}, 1, 3, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sid": "s2"}}, 1, 1, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sub": json.Number("17")}}, 1, 2, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sub": json.Number("17.0")}}, 1, 2, false},
			{subjectQuery("17"), 1, 2, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"client_id": "web"}}, 1, 3, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"client_id": "app"}}, 1, 2, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"azp": "app"}}, 1, 2, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"azp": "web"}}, 0, 0, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"appid": "app"}}, 0, 0, false},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"sub": "alice", "tenant": "acme"}}, 2, 4, true},
			{insight.ImpactQuery{Issuer: idp, Claims: map[string]any{"tenant": "acme"}}, 0, 0, true},
			{insight.ImpactQuery{Issuer: "https://nobody.example/", All: true}, 0, 0, false},
			{insight.ImpactQuery{Issuer: other, All: true}, 1, 1, false},
		} {
			got, err := r.Weights([]insight.ImpactQuery{subjectQuery("bob"), c.query, subjectQuery("alice")})
			if err != nil || !got.Fits(3) {
				t.Fatalf("%+v: got %+v and error %v, want 3 items", c.query, got, err)
			}
			if w := got.Items[1]; w.Tokens != c.tokens || w.Requests != c.requests || w.Partial != c.partial || got.Total != 7 || got.Partial {
				t.Errorf("%+v: got %+v of %d requests (partial: %v), want %d tokens, %d of 7 requests, partial: %v",
					c.query, w, got.Total, got.Partial, c.tokens, c.requests, c.partial)
			}
		}
	})
}

// A revocation by a claim that no token carries hits nothing, and that is certain.
// By a claim that is carried and not remembered, it is not known.
func TestClaimsThatNoTokenCarries(t *testing.T) {
	bubble(t, func(s *Settings) { s.Window = 10 * time.Minute }, func(r *rig) {
		keycloak := map[string]any{
			"sub": "alice", "tenant": nil, "realm_access": map[string]any{"roles": []any{"admin"}},
			"groups": []any{map[string]any{"name": "ops"}}, "a.b": "flat", "/odd": "x",
		}
		r.see(seen{jti: "a", subject: "alice", claims: keycloak, repeat: 3})
		r.see(seen{jti: "b", subject: "alice", issuer: other, claims: map[string]any{"elsewhere": true}})
		wanted := func(when string, carried map[string]bool) {
			t.Helper()
			for name, carried := range carried {
				for _, claims := range []map[string]any{{name: "x"}, {name: "x", "sub": "alice"}} {
					got, err := r.Weights([]insight.ImpactQuery{{Issuer: idp, Claims: claims}})
					if err != nil || got.Partial || got.Items[0].Partial != carried || !carried && got.Items[0].Requests != 0 {
						t.Errorf("%s: weight by %v: got %+v, %v, want it partial: %v, and nothing where it is not", when, claims, got, err, carried)
					}
				}
			}
		}
		wanted("with a token", map[string]bool{
			"tenant": true, "/realm_access/roles": true, "realm_access": true, "/groups/0/name": true, "/groups/x": true, "a.b": true, "/~1odd": true,
			"realm_access.roles": false, "/realm_access/role": false, "/a/b": false, "/odd/x": false, "/tenant/x": false, "department": false, "elsewhere": false,
		})
		time.Sleep(11 * time.Minute)
		wanted("after the window", map[string]bool{"tenant": false, "/realm_access/roles": false})
		r.see(seen{jti: "a", subject: "alice", claims: keycloak})
		wanted("seen again", map[string]bool{"tenant": true, "/realm_access/roles": true, "department": false})
		r.see(seen{jti: "c", subject: "bob"}) // the claims are not known
		wanted("with a token whose claims are not known", map[string]bool{"department": true})
	})
}

// Layouts and names beyond the bounds make an answer partial, never wrong.
func TestClaimNamesAreBounded(t *testing.T) {
	many := map[string]any{}
	for n := range maxNames + 1 {
		many[fmt.Sprint("claim", n)] = true
	}
	for _, c := range []struct {
		name   string
		tokens []map[string]any
	}{
		{"more names than are kept", []map[string]any{many}},
		{"more layouts than are kept", func() (all []map[string]any) {
			for n := range maxLayouts + 1 {
				all = append(all, map[string]any{fmt.Sprint("claim", n): true})
			}
			return all
		}()},
	} {
		bubble(t, nil, func(r *rig) {
			for n, claims := range c.tokens {
				r.see(seen{jti: fmt.Sprint(n), claims: claims})
			}
			got, err := r.Weights([]insight.ImpactQuery{{Issuer: idp, Claims: map[string]any{"department": "x"}}})
			if err != nil || !got.Items[0].Partial {
				t.Errorf("%s: got %+v, %v, want a partial weight", c.name, got, err)
			}
		})
	}
}

// The memory learns a layout again that its event did not bring.
func TestALostLayoutIsBroughtAgain(t *testing.T) {
	bubble(t, func(s *Settings) { s.Window = time.Minute }, func(r *rig) {
		claims := map[string]any{"sub": "alice"}
		r.settle()
		r.layouts.learn(layoutOf(idp, claims)) // as if the first event was dropped
		for _, want := range []bool{true, true, false} {
			r.see(seen{jti: "a", subject: "alice", claims: claims})
			r.settle()
			got, err := r.Weights([]insight.ImpactQuery{{Issuer: idp, Claims: map[string]any{"department": "x"}}})
			if err != nil || got.Items[0].Partial != want {
				t.Errorf("got %+v, %v, want a partial weight: %v", got, err, want)
			}
			time.Sleep(40 * time.Second)
		}
	})
}

// A watcher that is switched off must not read as a gateway without traffic.
func TestSwitchedOffIsPartial(t *testing.T) {
	bubble(t, func(s *Settings) { s.Enabled = false }, func(r *rig) {
		r.see(seen{jti: "a", subject: "alice"})
		weights, err := r.Weights([]insight.ImpactQuery{subjectQuery("alice")})
		if err != nil || !weights.Partial {
			t.Errorf("weights: got %+v, %v, want a partial answer", weights, err)
		}
		impact, err := r.Impact(subjectQuery("alice"))
		if err != nil || !impact.Partial {
			t.Errorf("impact: got %+v, %v, want a partial answer", impact, err)
		}
	})
}

// Beyond the number of revocations that are scanned for, a weight is partial.
// One question cannot make a replica look at its tokens without end.
func TestQuestionIsBounded(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.see(seen{jti: "a", subject: "alice", kid: "k1"})
		queries := make([]insight.ImpactQuery, insight.MaxWeighed)
		for i := range queries {
			queries[i] = insight.ImpactQuery{Issuer: idp, KeyID: "k1"}
		}
		got, err := r.Weights(queries)
		if err != nil || !got.Fits(len(queries)) {
			t.Fatalf("a question about %d revocations: got %d items and error %v, want one each", len(queries), len(got.Items), err)
		}
		for i, w := range got.Items {
			if scanned := i < insight.MaxScanned; scanned != (w.Requests == 1) || scanned == w.Partial {
				t.Errorf("revocation %d: got %+v, want it scanned for: %v", i, w, scanned)
			}
		}
		if _, err := r.Weights(append(queries, queries[0])); err == nil {
			t.Errorf("a question about %d revocations: got an answer, want an error", len(queries)+1)
		}
		if _, err := r.Weights([]insight.ImpactQuery{{All: true}}); err == nil {
			t.Error("a revocation without an issuer: got an answer, want an error")
		}
	})
}

// The answer to the largest question about users with many tokens each fits
// into one message of a replica.
func TestAnswerIsBounded(t *testing.T) {
	s := Defaults()
	const each = 250
	s.Tokens = each * insight.MaxWeighed
	now := time.Now()
	m := newMemory(&s, now, func(insight.Alert, uint64) {})
	queries := make([]insight.ImpactQuery, insight.MaxWeighed)
	for i := range queries {
		queries[i] = subjectQuery(fmt.Sprint("user", i))
		for n := range each {
			_, d := seen{subject: fmt.Sprint("user", i), jti: fmt.Sprint(i, "/", n)}.decision(now)
			m.event = eventOf(nil, d, now)
			m.note(&m.event)
		}
	}
	a := m.weights(queries, now, func() {})
	b, err := json.Marshal(a)
	if err != nil || len(b) > 1<<20-64 {
		t.Errorf("weights of %d users: got an answer of %d bytes (error %v), want at most 1 MiB", len(queries), len(b), err)
	}
	if got := a.Sum(); got.Requests != a.Total || got.Requests != each*insight.MaxWeighed {
		t.Errorf("weights of %d users: got %+v in all, want all %d requests", len(queries), got, each*insight.MaxWeighed)
	}
}
