package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
)

// TestRolesByMeaning revokes and restores with each form of a revocation. Claims
// or a time that mean the same as all or block take an operator.
func TestRolesByMeaning(t *testing.T) {
	clock := ledgertest.NewClock()
	at := func(d time.Duration) string { return clock.Now().Add(d).Format(time.RFC3339) }
	reported := revocation.KnownIssuers{Settled: true, AnyReplica: true, Issuers: []revocation.AcceptedIssuer{
		{Issuer: issuerA, Audiences: []string{"api", "web"}, Claims: map[string][]string{"typ": {"Bearer"}, "tier": {"1", "2"}, "azp": {"app"}, "scp": {"openid profile"}, "/realm/name": {"main"}}},
		{Issuer: issuerB, AnyAudience: true},
	}}
	unreported := revocation.KnownIssuers{Settled: true, AnyReplica: true, Every: true}
	tests := []struct {
		name    string
		known   revocation.KnownIssuers
		issuer  string
		form    string
		revoker bool
	}{
		{"one subject", reported, issuerA, `"claims":{"sub":"a"}`, true},
		{"an accepted audience", reported, issuerA, `"claims":{"aud":"api"}`, false},
		{"another audience", reported, issuerA, `"claims":{"aud":"other"}`, true},
		{"any audience where all are accepted", reported, issuerB, `"claims":{"aud":"other"}`, false},
		{"a condition of the issuer", reported, issuerA, `"claims":{"typ":"Bearer"}`, false},
		{"a condition of the issuer, as a number", reported, issuerA, `"claims":{"tier":2}`, false},
		{"a condition and an audience", reported, issuerA, `"claims":{"typ":"Bearer","aud":"web"}`, false},
		{"a condition of the issuer, as a string", reported, issuerA, `"claims":{"tier":"2"}`, false},
		{"a condition, as a pointer", reported, issuerA, `"claims":{"/typ":"Bearer"}`, false},
		{"a nested condition", reported, issuerA, `"claims":{"/realm/name":"main"}`, false},
		{"a nested claim without a condition", reported, issuerA, `"claims":{"/realm/id":"main"}`, true},
		{"an accepted audience, as a pointer", reported, issuerA, `"claims":{"/aud":"api"}`, false},
		{"an accepted audience, by its place", reported, issuerA, `"claims":{"/aud/0":"api"}`, false},
		{"a condition on an alias of client_id", reported, issuerA, `"claims":{"client_id":"app"}`, false},
		{"a word of a condition on scopes", reported, issuerA, `"claims":{"scp":"openid"}`, false},
		{"an audience by its place, not reported", unreported, issuerA, `"claims":{"/aud/0":"other"}`, false},
		{"a session, as a pointer", reported, issuerA, `"claims":{"/sid":"s"}`, true},
		{"a condition with another value", reported, issuerA, `"claims":{"typ":"ID"}`, true},
		{"a condition and a subject", reported, issuerA, `"claims":{"typ":"Bearer","sub":"a"}`, true},
		{"a sole audience, not reported", unreported, issuerA, `"claims":{"aud":"other"}`, false},
		{"an audience and a subject, not reported", unreported, issuerA, `"claims":{"aud":"other","sub":"a"}`, true},
		{"a sole audience, no replica known", revocation.KnownIssuers{}, issuerA, `"claims":{"aud":"other"}`, false},
		{"all", reported, issuerA, `"all":true`, false},
		{"kid", reported, issuerA, `"kid":"k"`, false},
		{"block", reported, issuerA, `"claims":{"sub":"a"},"block":true`, false},
		{"issued_before within a minute", reported, issuerA, fmt.Sprintf(`"claims":{"sub":"a"},"issued_before":%q`, at(time.Minute)), true},
		{"issued_before later", reported, issuerA, fmt.Sprintf(`"claims":{"sub":"a"},"issued_before":%q`, at(time.Minute+time.Second)), false},
		{"a session, with any iat", reported, issuerA, `"claims":{"sid":"s"}`, true},
	}
	for _, tt := range tests {
		l, stop := run(t, ledgertest.New(), clock.Now)
		a := NewAuthority(l, AuthorityOptions{KnownIssuers: func() revocation.KnownIssuers { return tt.known }})
		order := &Order{Action: ActRevoke, Confirm: true, Lines: []Line{{Body: fmt.Appendf(nil, `{"issuer":%q,%s}`, tt.issuer, tt.form)}}}
		revoker, operator := &Caller{Name: "r", Roles: []Role{Revoker}}, &Caller{Name: "o", Roles: []Role{Operator}}
		if _, err := a.Revoke(t.Context(), revoker, order); isForbidden(err) == tt.revoker || tt.revoker && err != nil {
			t.Errorf("%s: a revoker revokes: got %v, want it allowed: %v", tt.name, err, tt.revoker)
		}
		done, err := a.Revoke(t.Context(), operator, order)
		if err != nil {
			t.Errorf("%s: an operator revokes: %v, want it accepted", tt.name, err)
			stop()
			continue
		}
		if _, err := a.Restore(t.Context(), revoker, done.IDs[0].String()); isForbidden(err) == tt.revoker || tt.revoker && err != nil {
			t.Errorf("%s: a revoker restores: got %v, want it allowed: %v", tt.name, err, tt.revoker)
		}
		stop()
	}
}

// A caller that is narrowed to issuers sees its own entries, and those about its
// issuers alone.
func TestMaySee(t *testing.T) {
	bound := &Caller{Name: "bound", Roles: []Role{Viewer}, Issuers: []string{issuerB}}
	for _, tt := range []struct {
		name string
		e    AuditEntry
		want bool
	}{
		{"its own entry", AuditEntry{By: "bound", Issuers: []string{issuerA}}, true},
		{"its issuer", AuditEntry{By: "x", Issuers: []string{issuerB}}, true},
		{"another issuer", AuditEntry{By: "x", Issuers: []string{issuerA}}, false},
		{"its issuer and another", AuditEntry{By: "x", Issuers: []string{issuerB, issuerA}}, false},
		{"no issuer", AuditEntry{By: "x"}, false},
		{"its issuer, and issuers that the entry leaves out", AuditEntry{By: "x", Issuers: []string{issuerB}, IssuersOmitted: 3}, false},
	} {
		if got := bound.maySee(&tt.e); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func isForbidden(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Cause == Forbidden
}
