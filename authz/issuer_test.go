package authz

import (
	"strings"
	"testing"
	"time"
)

func TestIssuerConditions(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers[0].RequiredClaims = allNamed("jti", "sub")
	o.Issuers[0].Claims = Conditions{named("typ"): values(t, "Bearer")}
	o.Issuers[0].TokenTypes = []string{"JWT"}
	a := authorizer(t, o)
	header := map[string]any{"typ": "JWT"}
	for _, c := range []struct {
		name            string
		header, changes map[string]any
		want            Reason
	}{
		{"all of them", header, map[string]any{"typ": "Bearer"}, OK},
		{"no jti", header, map[string]any{"typ": "Bearer", "jti": nil}, MissingClaim},
		{"an ID token", header, map[string]any{"typ": "ID"}, ClaimRefused},
		{"no claim typ", header, nil, ClaimRefused},
		{"no header typ", nil, map[string]any{"typ": "Bearer"}, WrongType},
		{"another header typ", map[string]any{"typ": "at+jwt"}, map[string]any{"typ": "Bearer"}, WrongType},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantReason(t, c.name, a.Authorize(t.Context(), carrying(key.typed(c.header, c.changes))), c.want)
		})
	}
	t.Run("a required claim that is null", func(t *testing.T) {
		raw := key.sign(`{"alg":"EdDSA","kid":"ed1","typ":"JWT"}`, `{"iss":"`+idp+`","aud":"api","typ":"Bearer","sub":"a","jti":null,"exp":`+soon()+`}`)
		wantReason(t, "jti null", a.Authorize(t.Context(), carrying(raw)), MissingClaim)
	})
}

// A required claim may be nested. null counts as absent at every level.
func TestRequiredNestedClaim(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers[0].RequiredClaims = allNamed("/realm_access/roles", "/sub")
	a := authorizer(t, o)
	for _, c := range []struct {
		name  string
		claim any
		want  Reason
	}{
		{"an array", map[string]any{"roles": []any{"admin"}}, OK},
		{"an empty array", map[string]any{"roles": []any{}}, OK},
		{"null", map[string]any{"roles": nil}, MissingClaim},
		{"another member", map[string]any{"rules": []any{"admin"}}, MissingClaim},
		{"no object", "roles", MissingClaim},
		{"none", nil, MissingClaim},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(key.token(map[string]any{"realm_access": c.claim})))
			wantReason(t, c.name, d, c.want)
			if want := "the token has no /realm_access/roles"; c.want == MissingClaim && d.Detail != want {
				t.Errorf("got the detail %q, want %q", d.Detail, want)
			}
		})
	}
}

func TestFaultyOptions(t *testing.T) {
	good := Issuer{Name: idp, Keys: &ring{}, Audiences: []string{"api"}, MaxLifetime: time.Hour}
	change := func(f func(*Issuer)) []Issuer {
		i := good
		f(&i)
		return []Issuer{i}
	}
	for _, c := range []struct {
		name, fault string
		options     Options
	}{
		{"no issuer", "no issuer", Options{}},
		{"twice", "twice", Options{Issuers: []Issuer{good, good}}},
		{"no name", "name is empty", Options{Issuers: change(func(i *Issuer) { i.Name = "" })}},
		{"no keys", "no keys", Options{Issuers: change(func(i *Issuer) { i.Keys = nil })}},
		{"no audiences", "any_audience", Options{Issuers: change(func(i *Issuer) { i.Audiences = nil })}},
		{"audiences and any", "any_audience", Options{Issuers: change(func(i *Issuer) { i.AnyAudience = true })}},
		{"an empty audience", "audiences has an empty element", Options{Issuers: change(func(i *Issuer) { i.Audiences = []string{""} })}},
		{"no algorithms", "algorithms is empty", Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{} })}},
		{"none", `"none"`, Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{"RS256", "none"} })}},
		{"HS256", `"HS256"`, Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{"HS256"} })}},
		{"no token types", "token_types is empty", Options{Issuers: change(func(i *Issuer) { i.TokenTypes = []string{} })}},
		{"logout tokens", "logout+jwt", Options{Issuers: change(func(i *Issuer) { i.TokenTypes = []string{"application/Logout+JWT"} })}},
		{"no lifetime", "max_lifetime", Options{Issuers: change(func(i *Issuer) { i.MaxLifetime = 0 })}},
		{"negative leeway", "leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway = -1 })}},
		{"too much leeway", "leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway = MaxLeeway + 1 })}},
		{"negative iat_leeway", "iat_leeway", Options{Issuers: change(func(i *Issuer) { i.IatLeeway = -1 })}},
		{"iat_leeway above leeway", "iat_leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway, i.IatLeeway = time.Second, 2*time.Second })}},
		{"an empty required claim", "required_claims has an empty element", Options{Issuers: change(func(i *Issuer) { i.RequiredClaims = allNamed("") })}},
		{"a condition without values", "at least one value", Options{Issuers: change(func(i *Issuer) { i.Claims = Conditions{named("typ"): nil} })}},
		{"a policy for an unknown issuer", other, Options{Policies: map[string]Policy{"p": {Issuers: []string{other}}}}},
		{"a scope that breaks out", "cannot be a scope", Options{Policies: map[string]Policy{"p": {Scopes: []string{`a" b`}}}}},
		{"a negative age", "max_age", Options{Policies: map[string]Policy{"p": {MaxAge: -1}}}},
		{"a policy's empty audience", "audiences has an empty element", Options{Policies: map[string]Policy{"p": {Audiences: []string{""}}}}},
		{"a header that is none", "x y", Options{Headers: Headers{Claims: map[string]HeaderClaim{"x y": {Claims: allNamed("sub")}}}}},
		{"no revocations", "no revocations", Options{Issuers: []Issuer{good}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.fault != "no revocations" {
				c.options.Revocations = following(t)
			}
			a, err := New(c.options)
			if a != nil || err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("New: got %v and error %v, want an error with %q", a, err, c.fault)
			}
		})
	}
}
