package test

import "net/http"

// policyRow is a request with a token that is known under the policy default, and under
// no other one.
type policyRow struct {
	name, target string
	asked        int  // the status with ext_authz behind the module
	answered     bool // the module answers
}

var policyRows = []policyRow{
	{"the policy under which the token is known", "/x", 200, true},
	{"another policy", "/reports", 403, false},
	{"another policy, which demands less", "/public", 200, false},
	{"no policy", "/no-policy", 200, false},
	{"a policy that the replica does not know", "/unknown-policy", 403, false},
	{"a policy that is no text", "/number", 403, false},
	{"route metadata that says known, and no policy", "/known-in-metadata", 200, false},
	// The headers of the first round are there, and they might be the client's.
	{"an internal redirect to the same policy", "/redirect?to=/x", 200, false},
	{"an internal redirect to another policy", "/redirect?to=/reports", 403, false},
	{"an internal redirect to no policy", "/redirect?to=/no-policy", 200, false},
	{"an internal redirect to an unknown policy", "/redirect?to=/unknown-policy", 403, false},
}

// onlyUnderItsPolicy shows that a token is known on routes of its policy alone. A request
// that the module leaves to an ext_authz without a server is denied.
func onlyUnderItsPolicy(g *moduleRig) {
	t := g.t
	token := minted(t, g.Stack, map[string]any{"sub": "alice"})
	g.makeKnown(token, "/x")
	// Twice, because a token becomes known at its second use. Each route has been used
	// with ext_authz when the module is alone, so nothing but the policy keeps it from
	// an answer.
	for range 2 {
		for _, row := range policyRows {
			if status := g.status(inFront, row.target, token); status != row.asked {
				t.Errorf("%s, GET %s: got %d, want %d", row.name, row.target, status, row.asked)
			}
		}
	}
	for _, row := range policyRows {
		// /public is a policy of its own, under which the token is known by now.
		if answered := g.status(alone, row.target, token) == http.StatusOK; answered != (row.answered || row.target == "/public") {
			t.Errorf("%s, GET %s: the module answered: %v, want %v", row.name, row.target, answered, row.answered)
		}
	}
}

// onlyTheModuleSaysKnown shows that a mark of another filter lets no request in. The
// marks are a value that stands in the configuration, and one that the client sends.
func onlyTheModuleSaysKnown(g *moduleRig) {
	t := g.t
	token, fresh := minted(t, g.Stack, map[string]any{"sub": "alice"}), minted(t, g.Stack, nil)
	g.makeKnown(token, "/x")
	const yes = "x-known: IAE=" // a google.protobuf.Value with true
	for _, c := range []struct {
		name, target string
		headers      []string
		want         int
	}{
		{"a known token", "/x", []string{"Authorization: Bearer " + token}, 200},
		{"a known token, and the client's mark", "/x", []string{"Authorization: Bearer " + token, yes}, 200},
		{"a token that was never used", "/x", []string{"Authorization: Bearer " + fresh}, 503},
		{"a token that was never used, and the client's mark", "/x", []string{"Authorization: Bearer " + fresh, yes}, 503},
		{"nonsense", "/x", []string{"Authorization: Bearer x", yes}, 503},
		{"no token", "/x", []string{yes}, 503},
		{"a route without a policy", "/no-policy", []string{"Authorization: Bearer " + token, yes}, 503},
		{"a route with an unknown policy", "/unknown-policy", []string{"Authorization: Bearer " + token, yes}, 503},
		{"a spoofed header", "/x", []string{"Authorization: Bearer " + token, yes, "x-jwt-subject: root"}, 503},
		{"a redirect", "/redirect?to=/reports", []string{"Authorization: Bearer " + token, yes}, 503},
	} {
		if a := g.raw(marked, c.target, c.headers); a.Status != c.want {
			t.Errorf("%s: got %d, want %d", c.name, a.Status, c.want)
		}
	}
}

// twoPolicies shows that a route that names two policies is denied, whenever the replica
// is asked. The module sees the policy of the metadata alone.
func twoPolicies(g *moduleRig) {
	t := g.t
	token := minted(t, g.Stack, map[string]any{"sub": "alice", "scope": "reports:read"})
	for use := range 3 {
		for _, listener := range []string{inFront, withoutModule} {
			if status := g.status(listener, "/two-policies", token); status != http.StatusForbidden {
				t.Errorf("use %d, listener %s: got %d, want 403", use, listener, status)
			}
		}
	}
	if status := g.status(alone, "/two-policies", token); status == http.StatusOK {
		t.Error("the token has become known on a route with two policies")
	}
}
