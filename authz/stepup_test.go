package authz

import (
	"strings"
	"testing"
	"time"

	"rescind/revocation"
)

// A condition on acr that does not hold asks for another login, unless another
// claim does not fit either: then no login helps.
func TestStepUp(t *testing.T) {
	o := options(t)
	o.Policies = map[string]Policy{
		"gold": {
			Claims: Conditions{named("acr"): {textValue("gold"), textValue("very gold"), textValue("platinum")}, named("tenant"): {textValue("acme")}},
			Scopes: []string{"pay"}, Realm: "orders", ResourceMetadata: "https://api.example/.well-known/oauth-protected-resource",
		},
		"pointer": {Claims: Conditions{named("/acr"): {textValue("gold")}}, Realm: "orders", ResourceMetadata: "https://api.example/.well-known/oauth-protected-resource"},
		"trial":   {Claims: Conditions{named("acr"): {textValue("gold")}}, Observe: true},
	}
	a := authorizer(t, o)
	for _, c := range []struct {
		name, policy string
		claims       map[string]any
		want         Reason
		acr, scope   string
	}{
		{"strong enough", "gold", map[string]any{"acr": "gold", "tenant": "acme", "scope": "pay"}, OK, "", ""},
		{"too weak", "gold", map[string]any{"acr": "silver", "tenant": "acme", "scope": "pay"}, StepUp, "gold platinum", ""},
		{"no acr", "gold", map[string]any{"tenant": "acme", "scope": "pay"}, StepUp, "gold platinum", ""},
		{"too weak, by a pointer of one step", "pointer", map[string]any{"acr": "silver"}, StepUp, "gold", ""},
		{"too weak, and without the scope", "gold", map[string]any{"acr": "silver", "tenant": "acme"}, StepUp, "gold platinum", ""},
		{"too weak, and of another tenant", "gold", map[string]any{"acr": "silver", "tenant": "other", "scope": "pay"}, ClaimRefused, "", ""},
		{"strong enough, without the scope", "gold", map[string]any{"acr": "gold", "tenant": "acme"}, InsufficientScope, "", "pay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(edKey().token(c.claims)).under(c.policy))
			wantReason(t, c.name, d, c.want)
			want := Challenge{Realm: "orders", ResourceMetadata: "https://api.example/.well-known/oauth-protected-resource", Scope: c.scope, ACRValues: c.acr}
			if d.Challenge != want {
				t.Errorf("got the challenge %+v, want %+v", d.Challenge, want)
			}
		})
	}
	if d := a.Authorize(t.Context(), carrying(edKey().token(nil)).under("trial")); !d.Allow || d.WouldDeny != StepUp {
		t.Errorf("mode observe: got allowed %v and would deny %q, want true and %s", d.Allow, d.WouldDeny, StepUp)
	}
	e := a.Authorize(t.Context(), carrying("").under("gold"))
	if e.Reason != NoToken || e.Challenge.Realm != "orders" || e.Challenge.ResourceMetadata == "" {
		t.Errorf("no token: got %s with the challenge %+v, want the realm and resource_metadata of the policy", e.Reason, e.Challenge)
	}
}

// A request that is denied without a decision gets the challenge of its policy.
func TestRefuse(t *testing.T) {
	o := options(t)
	o.Policies = map[string]Policy{"orders": {Realm: "orders"}}
	a := authorizer(t, o)
	for name, c := range map[string]struct {
		r             *Request
		policy, realm string
	}{
		"a policy":           {(&Request{}).under("orders"), "orders", "orders"},
		"an unknown policy":  {(&Request{}).under("made-up"), "", ""},
		"no policy":          {&Request{}, "", ""},
		"unreadable request": {nil, "", ""},
	} {
		if d := a.Refuse(c.r, BadRequest); d.Allow || d.Reason != BadRequest || d.ID == "" || d.Policy != c.policy || d.Challenge.Realm != c.realm {
			t.Errorf("%s: got %+v, want a denial with policy %q and realm %q", name, d, c.policy, c.realm)
		}
	}
	if d := a.Refuse(&Request{}, UnknownPolicy); d.Allow || !strings.Contains(d.Detail, "name different policies") {
		t.Errorf("a policy that could not be read: got %+v, want a denial whose detail says why", d)
	}
}

func TestTextsThatBreakOutOfAChallenge(t *testing.T) {
	for _, p := range []Policy{{Realm: `a" , x="`}, {Realm: "a\\"}, {Realm: "ä"}, {ResourceMetadata: "https://a/\r\n"}} {
		o := options(t)
		o.Policies = map[string]Policy{DefaultPolicy: p}
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "challenge") {
			t.Errorf("policy %+v: got error %v, want one about the challenge", p, err)
		}
	}
	p := Policy{Claims: Conditions{named("acr"): []revocation.Value{textValue(`a"b`), textValue("a b"), textValue("ok")}}}
	if values := p.acrValues(); values != "ok" {
		t.Errorf("acr_values: got %q, want ok alone", values)
	}
}

// The guard reads tokens up to the limit of the largest issuer. A token above its
// own issuer's limit is still refused, before a key is looked for.
func TestEachIssuerHasItsOwnMaxToken(t *testing.T) {
	small, large := ringOf(edKey()), ringOf(edKey())
	o := options(t)
	o.Issuers = []Issuer{
		{Name: idp, Keys: small, AnyAudience: true, MaxLifetime: time.Hour},
		{Name: other, Keys: large, AnyAudience: true, MaxLifetime: time.Hour, MaxToken: MaxToken},
	}
	a := authorizer(t, o)
	// sized returns a token of exactly this size.
	sized := func(issuer string, size int) string {
		t.Helper()
		pad := size/4*3 - 300
		for ; pad < size; pad++ {
			token := edKey().token(map[string]any{"iss": issuer, "pad": strings.Repeat("x", pad)})
			if len(token) == size {
				return token
			}
			if len(token) > size+1 {
				break
			}
		}
		t.Fatalf("got no token of %d bytes, want one", size)
		return ""
	}
	for _, c := range []struct {
		name, token string
		want        Reason
	}{
		{"the default", sized(idp, DefaultMaxToken), OK},
		{"above the default", sized(idp, DefaultMaxToken+2), BadRequest},
		{"above the default, of the other issuer", sized(other, DefaultMaxToken+2), OK},
		{"64 KiB", sized(other, MaxToken), OK},
		{"above 64 KiB", sized(other, MaxToken+2), BadRequest},
		{"above the default, of an unknown issuer", sized("https://unknown.example/", DefaultMaxToken+2), UntrustedIssuer},
	} {
		small.asked = nil
		wantReason(t, c.name, a.Authorize(t.Context(), carrying(c.token)), c.want)
		if c.want == BadRequest && len(small.asked) > 0 {
			t.Errorf("%s: looked for the keys %q, want none", c.name, small.asked)
		}
	}
	o.Issuers[0].MaxToken = MaxToken + 1
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "max_token_size") {
		t.Errorf("MaxToken %d: got error %v, want one about max_token_size", MaxToken+1, err)
	}
}
