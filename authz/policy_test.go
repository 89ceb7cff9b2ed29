package authz

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"rescind/revocation"
)

func values(t testing.TB, raw ...any) []revocation.Value {
	t.Helper()
	out := make([]revocation.Value, len(raw))
	for i, r := range raw {
		v, ok := revocation.ValueOf(r)
		if !ok {
			t.Fatalf("%v is no value", r)
		}
		out[i] = v
	}
	return out
}

func TestConditions(t *testing.T) {
	conditions := Conditions{"tenant": values(t, "acme", "globex", json.Number("17"), true)}
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
			if got := conditions.hold(map[string]any{"tenant": c.claim}); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	if conditions.hold(map[string]any{}) {
		t.Error("a claim that is absent holds")
	}
	if !(Conditions)(nil).hold(nil) {
		t.Error("no conditions do not hold")
	}
	two := Conditions{"a": values(t, "1"), "b": values(t, "2")}
	if two.hold(map[string]any{"a": "1", "b": "1"}) || !two.hold(map[string]any{"a": "1", "b": "2"}) {
		t.Error("not all of two conditions are asked for")
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
			if got := scope(c.claims); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
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
		"claims":      {Claims: Conditions{"tenant": values(t, "acme")}},
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
			if d.Reason != c.want || d.Allow != (c.want == OK || c.want == NoTokenAllowed) || d.Policy != c.policy {
				t.Errorf("%+v, want %s", d, c.want)
			}
			wantScope := ""
			if c.want == InsufficientScope {
				wantScope = "reports:read openid"
			}
			if d.Scope != wantScope {
				t.Errorf("asks for scope %q", d.Scope)
			}
		})
	}
	t.Run("two headers where a token is optional", func(t *testing.T) {
		r := carrying(key.token(nil)).under("public")
		r.Headers = append(r.Headers, field("authorization", "Basic x"))
		if d := a.Authorize(t.Context(), r); d.Reason != BadRequest || d.Allow {
			t.Errorf("%+v", d)
		}
	})
	t.Run("without a token nobody is anybody", func(t *testing.T) {
		r := carrying("").under("public")
		r.Headers = append(r.Headers, field("x-jwt-subject", "root"), field("X_JWT_Admin", "yes"))
		d := a.Authorize(t.Context(), r)
		if !d.Allow || len(d.Set) > 0 || !slices.Contains(d.Remove, "x-jwt-subject") || !slices.Contains(d.Remove, "x_jwt_admin") {
			t.Errorf("%+v", d)
		}
	})
	t.Run("without a name", func(t *testing.T) {
		if d := a.Authorize(t.Context(), carrying(key.token(nil))); d.Reason != OK || d.Policy != DefaultPolicy {
			t.Errorf("%+v", d)
		}
	})
	t.Run("without a default", func(t *testing.T) {
		o.Policies = map[string]Policy{"public": {TokenOptional: true}}
		if d := authorizer(t, o).Authorize(t.Context(), carrying(key.token(nil))); d.Reason != UnknownPolicy || d.Allow {
			t.Errorf("%+v", d)
		}
	})
}
