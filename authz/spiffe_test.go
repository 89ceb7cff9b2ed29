package authz

import (
	"testing"
	"time"

	"rescind/revocation"
)

const spiffeDomain = "spiffe://example.org"

// spiffeOptions accepts the JWT-SVIDs of one trust domain, signed by key, beside
// the usual issuer.
func spiffeOptions(t *testing.T, key signer) Options {
	o := options(t, ecKey())
	i := o.Issuers[0]
	i.Name, i.SPIFFE, i.Keys = spiffeDomain, true, ringOf(key)
	o.Issuers = append(o.Issuers, i)
	return o
}

// A JWT-SVID has no iss. It belongs to the trust domain of its sub.
func TestSPIFFE(t *testing.T) {
	key := newEd25519("svid")
	const sub = "spiffe://example.org/ns/default/sa/orders"
	a := authorizer(t, spiffeOptions(t, key))
	for _, c := range []struct {
		name    string
		changes map[string]any
		want    Reason
	}{
		{"an SVID", map[string]any{"iss": nil, "sub": sub}, OK},
		{"one that names its trust domain too", map[string]any{"iss": spiffeDomain, "sub": sub}, OK},
		{"another trust domain", map[string]any{"iss": nil, "sub": "spiffe://other.org/a"}, UntrustedIssuer},
		{"no SPIFFE ID", map[string]any{"iss": nil, "sub": "alice"}, UntrustedIssuer},
		{"the trust domain alone", map[string]any{"iss": nil, "sub": spiffeDomain}, UntrustedIssuer},
		{"iss with the sub of another domain", map[string]any{"iss": spiffeDomain, "sub": "spiffe://other.org/a"}, UntrustedIssuer},
		{"iss with a sub that is no SPIFFE ID", map[string]any{"iss": spiffeDomain, "sub": "alice"}, UntrustedIssuer},
		{"an empty iss", map[string]any{"iss": "", "sub": sub}, UntrustedIssuer},
		{"without sub", map[string]any{"iss": nil, "sub": nil}, UntrustedIssuer},
	} {
		wantReason(t, c.name, a.Authorize(t.Context(), carrying(key.token(c.changes))), c.want)
	}
	d := a.Authorize(t.Context(), carrying(key.token(map[string]any{"iss": nil, "sub": sub})))
	set := map[string]string{}
	for _, h := range d.Set {
		set[h.Name] = h.Value
	}
	if d.Issuer != spiffeDomain || d.Subject != sub || set["x-jwt-issuer"] != spiffeDomain || set["x-jwt-subject"] != sub {
		t.Errorf("got issuer %q, subject %q and headers %v, want %s and %s", d.Issuer, d.Subject, set, spiffeDomain, sub)
	}
}

// Only an issuer with spiffe: true gets tokens without iss.
func TestSPIFFEMustBeConfigured(t *testing.T) {
	key := newEd25519("svid")
	o := spiffeOptions(t, key)
	o.Issuers[1].SPIFFE = false
	token := key.token(map[string]any{"iss": nil, "sub": "spiffe://example.org/a"})
	wantReason(t, "without spiffe: true", authorizer(t, o).Authorize(t.Context(), carrying(token)), UntrustedIssuer)
	o.Issuers[1].SPIFFE, o.Issuers[1].Name = true, "https://idp.example.org/"
	if _, err := New(o); err == nil {
		t.Error("spiffe: true for an https issuer: got no error, want one")
	}
}

// A revocation for the trust domain reaches its SVIDs.
func TestSPIFFEIsRevoked(t *testing.T) {
	key := newEd25519("svid")
	const sub = "spiffe://example.org/a"
	o := spiffeOptions(t, key)
	r := revocation.Revocation{
		ID: revocation.ID{Revision: 3, Index: 1}, Issuer: spiffeDomain,
		Target:    revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: "sub", Value: textValue(sub)}}},
		ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
	}
	o.Revocations = following(t, r.Entry())
	a := authorizer(t, o)
	wantReason(t, "revoked by sub", a.Authorize(t.Context(), carrying(key.token(map[string]any{"iss": nil, "sub": sub}))), Revoked)
	wantReason(t, "another sub", a.Authorize(t.Context(), carrying(key.token(map[string]any{"iss": nil, "sub": sub + "/b"}))), OK)
}
