package authz

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
)

func values(t testing.TB, raw ...any) []revocation.Value {
	t.Helper()
	out := make([]revocation.Value, len(raw))
	for i, r := range raw {
		v, ok := revocation.ValueOf(r)
		if !ok {
			t.Fatalf("ValueOf(%v): got none, want a value", r)
		}
		out[i] = v
	}
	return out
}

// named returns the name of a claim. An empty text is the name of none.
func named(text string) jwt.ClaimName {
	if text == "" {
		return jwt.ClaimName{}
	}
	name, err := jwt.ParseClaimName(text)
	if err != nil {
		panic(err)
	}
	return name
}

func allNamed(texts ...string) []jwt.ClaimName {
	names := make([]jwt.ClaimName, len(texts))
	for i, text := range texts {
		names[i] = named(text)
	}
	return names
}

func TestConditions(t *testing.T) {
	conditions := Conditions{named("tenant"): values(t, "acme", "globex", json.Number("17"), true)}
	for _, c := range []struct {
		name  string
		claim any
		want  bool
	}{
		{"one of them", "globex", true},
		{"an array with one of them", []any{"x", "acme"}, true},
		{"the same number, written differently", json.Number("1.70e1"), true},
		{"a boolean", true, true},
		{"another value", "initech", false},
		{"another case", "Acme", false},
		{"the number as a string", "17", false},
		{"the boolean as a string", "true", false},
		{"a word in a string", "acme globex", false},
		{"an array without", []any{"x", "y"}, false},
		{"an empty array", []any{}, false},
		{"an array in an array", []any{[]any{"acme"}}, false},
		{"an object", map[string]any{"acme": true}, false},
		{"null", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := conditions.Hold(map[string]any{"tenant": c.claim}); got != c.want {
				t.Errorf("tenant %v holds: got %v, want %v", c.claim, got, c.want)
			}
		})
	}
	if conditions.Hold(map[string]any{}) {
		t.Error("without the claim: the condition holds, want not")
	}
	if !(Conditions)(nil).Hold(nil) {
		t.Error("without conditions: they do not hold, want that they do")
	}
	two := Conditions{named("a"): values(t, "1"), named("b"): values(t, "2")}
	if two.Hold(map[string]any{"a": "1", "b": "1"}) || !two.Hold(map[string]any{"a": "1", "b": "2"}) {
		t.Error("two conditions: want both to be needed, and both to be enough")
	}
}

// A name that is a pointer reads a nested claim, and a pointer of one step the
// claim itself. A value keeps its type.
func TestConditionsOnNestedClaims(t *testing.T) {
	claims := map[string]any{
		"realm_access": map[string]any{"roles": []any{"admin", "clerk"}},
		"org":          map[string]any{"id": json.Number("7"), "paid": true, "none": nil},
		"org.id":       "9",
		"tenant":       "acme",
	}
	for _, c := range []struct {
		name  string
		value any
		want  bool
	}{
		{"/realm_access/roles", "admin", true},
		{"/realm_access/roles/1", "clerk", true},
		{"/org/id", json.Number("7.0"), true},
		{"/org/paid", true, true},
		{"org.id", "9", true},
		{"/tenant", "acme", true},
		{"/realm_access/roles", "root", false},
		{"/org/id", "7", false},
		{"/org/id", "9", false},
		{"/org/paid", "true", false},
		{"/org/none", "null", false},
		{"/org", "7", false},
		{"/tenant/0", "acme", false},
		{"/missing/roles", "admin", false},
		{"realm_access.roles", "admin", false},
		{"realm_access/roles", "admin", false},
	} {
		if got := (Conditions{named(c.name): values(t, c.value)}).Hold(claims); got != c.want {
			t.Errorf("%s: %v holds: got %v, want %v", c.name, c.value, got, c.want)
		}
	}
}

func TestScope(t *testing.T) {
	for _, c := range []struct {
		name   string
		claims map[string]any
		want   []string
	}{
		{"a string", map[string]any{"scope": "a b:c"}, []string{"a", "b:c"}},
		{"an array", map[string]any{"scope": []any{"a", "b"}}, []string{"a", "b"}},
		{"scp, an array", map[string]any{"scp": []any{"a", "b"}}, []string{"a", "b"}},
		{"scp, a string", map[string]any{"scp": "a b"}, []string{"a", "b"}},
		{"both", map[string]any{"scope": "a", "scp": []any{"b"}}, []string{"a", "b"}},
		{"odd elements", map[string]any{"scope": []any{"a", json.Number("1"), nil, []any{"b"}}}, []string{"a"}},
		{"elements are not split", map[string]any{"scope": []any{"a b"}}, []string{"a b"}},
		{"a number", map[string]any{"scope": json.Number("1")}, nil},
		{"none", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Scope(c.claims); !slices.Equal(got, c.want) {
				t.Errorf("Scope(%v): got %q, want %q", c.claims, got, c.want)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(key), AnyAudience: true, MaxLifetime: time.Hour})
	o.Policies = map[string]Policy{
		DefaultPolicy: {},
		"issuer":      {Issuers: []string{other}},
		"audience":    {Audiences: []string{"reports", "billing"}},
		"scopes":      {Scopes: []string{"reports:read", "openid"}},
		"claims":      {Claims: Conditions{named("tenant"): values(t, "acme")}},
		"age":         {MaxAge: time.Minute},
		"public":      {TokenOptional: true},
	}
	a := authorizer(t, o)
	now := time.Now().Unix()
	with := func(name string, v any) string { return key.token(map[string]any{name: v}) }
	for _, c := range []struct {
		name, policy, token string
		want                Reason
	}{
		{"default", DefaultPolicy, key.token(nil), OK},
		{"one that is not configured", "nobody", key.token(nil), UnknownPolicy},
		{"an empty name is a name", "", key.token(nil), UnknownPolicy},
		{"another case is another name", "Default", key.token(nil), UnknownPolicy},

		{"its issuer", "issuer", with("iss", other), OK},
		{"another issuer", "issuer", key.token(nil), UntrustedIssuer},

		{"both audiences", "audience", with("aud", []any{"api", "billing"}), OK},
		{"the issuer's audience alone", "audience", key.token(nil), WrongAudience},
		{"the policy's audience alone", "audience", with("aud", "reports"), WrongAudience},
		{"any audience of the issuer, the policy's one", "audience", key.token(map[string]any{"iss": other, "aud": "reports"}), OK},
		{"any audience of the issuer, none", "audience", key.token(map[string]any{"iss": other, "aud": nil}), WrongAudience},

		{"all scopes", "scopes", with("scope", "x reports:read openid"), OK},
		{"scopes in two claims", "scopes", key.token(map[string]any{"scope": "openid", "scp": []any{"reports:read"}}), OK},
		{"a scope is missing", "scopes", with("scope", "reports:read"), InsufficientScope},
		{"a scope that begins so", "scopes", with("scope", "openid reports:readonly"), InsufficientScope},
		{"no scope", "scopes", with("scope", nil), InsufficientScope},

		{"the claim", "claims", with("tenant", "acme"), OK},
		{"another value", "claims", with("tenant", "initech"), ClaimRefused},
		{"without the claim", "claims", key.token(nil), ClaimRefused},

		{"young enough", "age", with("iat", now-50), OK},
		{"within the leeway", "age", with("iat", now-80), OK},
		{"too old", "age", with("iat", now-100), TooOld},
		{"of no age", "age", with("iat", nil), MissingClaim},

		{"no token is needed", "public", "", NoTokenAllowed},
		{"a good one", "public", key.token(nil), OK},
		{"a bad one", "public", with("exp", now-100), Expired},
		{"nonsense", "public", "nonsense", Malformed},
		{"no token", DefaultPolicy, "", NoToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(c.token).under(c.policy))
			wantReason(t, c.name, d, c.want)
			if d.Policy != c.policy {
				t.Errorf("got policy %q, want %q", d.Policy, c.policy)
			}
			wantScope := ""
			if c.want == InsufficientScope {
				wantScope = "reports:read openid"
			}
			if d.Challenge.Scope != wantScope {
				t.Errorf("the decision demands scope %q, want %q", d.Challenge.Scope, wantScope)
			}
		})
	}
	t.Run("two headers where a token is optional", func(t *testing.T) {
		r := carrying(key.token(nil)).under("public")
		r.Headers = append(r.Headers, field("authorization", "Basic x"))
		wantReason(t, "Bearer and Basic", a.Authorize(t.Context(), r), BadRequest)
	})
	t.Run("without a token the client's own headers are removed", func(t *testing.T) {
		r := carrying("").under("public")
		r.Headers = append(r.Headers, field("x-jwt-subject", "root"), field("X_JWT_Admin", "yes"))
		d := a.Authorize(t.Context(), r)
		if !d.Allow || len(d.Set) > 0 || !slices.Contains(d.Remove, "x-jwt-subject") || !slices.Contains(d.Remove, "x_jwt_admin") {
			t.Errorf("got %+v, want it allowed with no header set and both removed", d)
		}
	})
	t.Run("without a name", func(t *testing.T) {
		if d := a.Authorize(t.Context(), carrying(key.token(nil))); d.Reason != OK || d.Policy != DefaultPolicy {
			t.Errorf("got %s under policy %q, want %s under %q", d.Reason, d.Policy, OK, DefaultPolicy)
		}
	})
	t.Run("without a default", func(t *testing.T) {
		o.Policies = map[string]Policy{"public": {TokenOptional: true}}
		wantReason(t, "no policy named default", authorizer(t, o).Authorize(t.Context(), carrying(key.token(nil))), UnknownPolicy)
	})
}
