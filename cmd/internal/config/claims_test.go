package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rescind/authz"
	"rescind/jwks/jwt"
)

// Every key that names a claim takes a JSON Pointer, and one of one step is the
// plain name.
func TestClaimsByPointer(t *testing.T) {
	path := filepath.Join(folderOf(t), "authz.yaml")
	a := mustAuthz(t, path, `
issuers:
  - issuer: https://idp.example.com/
    discovery: true
    audiences: [api]
    required_claims: [/jti, /org/id, https://example.com/roles]
    claims: {/realm_access/roles: [admin], /typ: Bearer}
policies:
  reports: {claims: {/org/id: [7, "7"], "/https:~1~1example.com~1tier": gold}}
headers:
  claims: {x-jwt-role: /realm_access/roles, x-jwt-subject: [/org/user, sub], x-jwt-org: {claim: [/org/id, /org], encoding: percent}}
`+baseRevocation)
	pointer := func(text string) jwt.ClaimName {
		t.Helper()
		n, err := jwt.ParseClaimName(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	i := a.Issuers[0]
	if want := []jwt.ClaimName{jwt.MemberName("jti"), pointer("/org/id"), jwt.MemberName("https://example.com/roles")}; !slices.Equal(i.RequiredClaims, want) {
		t.Errorf("required_claims: got %v, want %v", i.RequiredClaims, want)
	}
	equal(t, i.Claims, map[jwt.ClaimName][]any{pointer("/realm_access/roles"): {"admin"}, jwt.MemberName("typ"): {"Bearer"}})
	equal(t, a.Headers.Claims, map[string]authz.HeaderClaim{
		"x-jwt-role":    {Claims: []jwt.ClaimName{pointer("/realm_access/roles")}},
		"x-jwt-subject": {Claims: []jwt.ClaimName{pointer("/org/user"), jwt.MemberName("sub")}},
		"x-jwt-org":     {Claims: []jwt.ClaimName{pointer("/org/id"), jwt.MemberName("org")}, Encoding: authz.Percent},
	})
	if got := len(a.Policies["reports"].Claims[jwt.MemberName("https://example.com/tier")]); got != 1 {
		t.Errorf("the claims of the policy are %v, want https://example.com/tier among them", a.Policies["reports"].Claims)
	}
	if w := a.Warnings(); len(w) != 0 {
		t.Errorf("got the warnings %v, want none", w)
	}
}

// A name with dots is a likely mistake wherever a claim is named.
func TestWarningsOfDottedNames(t *testing.T) {
	path := filepath.Join(folderOf(t), "authz.yaml")
	a := mustAuthz(t, path, `issuers:
  - issuer: https://idp.example.com/
    discovery: true
    audiences: [api]
    required_claims: [realm_access.roles, urn:example.com:x]
    claims:
      resource_access.orders.roles: [clerk]
      https://example.com/roles: [x]
      /a.b/c: [x]
policies:
  reports: {claims: {org.id: 7}}
headers:
  claims:
    x-jwt-role: realm_access.roles
    x-jwt-b: [sub, address.country]
    x-jwt-c: {claim: a.b, encoding: percent}
`+baseRevocation)
	var got []string
	for _, w := range a.Warnings() {
		got = append(got, strings.TrimPrefix(w.String(), path))
	}
	want := []string{
		`:5:23: issuers[0].required_claims[0]: warning: "realm_access.roles" is one claim with dots in its name; for a member within a claim write /realm_access/roles`,
		`:7:7: issuers[0].claims["resource_access.orders.roles"]: warning: "resource_access.orders.roles" is one claim with dots in its name; for a member within a claim write /resource_access/orders/roles`,
		`:11:22: policies.reports.claims["org.id"]: warning: "org.id" is one claim with dots in its name; for a member within a claim write /org/id`,
		`:14:17: headers.claims.x-jwt-role: warning: "realm_access.roles" is one claim with dots in its name; for a member within a claim write /realm_access/roles`,
		`:15:20: headers.claims.x-jwt-b[1]: warning: "address.country" is one claim with dots in its name; for a member within a claim write /address/country`,
		`:16:22: headers.claims.x-jwt-c.claim: warning: "a.b" is one claim with dots in its name; for a member within a claim write /a/b`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
