package authz

import (
	"testing"
	"time"
)

// A policy that observes denies nothing for its own conditions, and everything
// for other reasons.
func TestObserve(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(key), AnyAudience: true, MaxLifetime: time.Hour})
	o.Revocations = following(t, revoked("sub", "mallory"))
	strict := Policy{
		Issuers: []string{idp}, Audiences: []string{"reports"}, Scopes: []string{"reports:read"},
		Claims: Conditions{named("tenant"): values(t, "acme")}, MaxAge: time.Minute,
	}
	observing := strict
	observing.Observe = true
	o.Policies = map[string]Policy{"enforce": strict, "observe": observing}
	a := authorizer(t, o)
	now := time.Now().Unix()
	good := map[string]any{"aud": []any{"api", "reports"}, "scope": "reports:read", "tenant": "acme", "iat": now - 5}
	but := func(name string, v any) string {
		claims := map[string]any{}
		for n, value := range good {
			claims[n] = value
		}
		claims[name] = v
		return key.token(claims)
	}
	mallory := func(name string, v any) string {
		return key.token(map[string]any{"sub": "mallory", name: v})
	}
	for _, c := range []struct {
		name, token string
		enforced    Reason
		observed    Reason
		would       Reason
	}{
		{"all that is asked for", key.token(good), OK, OK, ""},

		// the policy's own conditions
		{"another audience", but("aud", "api"), WrongAudience, OK, WrongAudience},
		{"no scope", but("scope", nil), InsufficientScope, OK, InsufficientScope},
		{"another tenant", but("tenant", "globex"), ClaimRefused, OK, ClaimRefused},
		{"too old", but("iat", now-200), TooOld, OK, TooOld},
		{"of no age", but("iat", nil), MissingClaim, OK, MissingClaim},

		// other reasons
		{"no token", "", NoToken, NoToken, ""},
		{"nonsense", "nonsense", Malformed, Malformed, ""},
		{"an issuer that is not admitted", but("iss", other), UntrustedIssuer, UntrustedIssuer, ""},
		{"an unknown issuer", but("iss", "https://nobody.example/"), UntrustedIssuer, UntrustedIssuer, ""},
		{"another key", newEd25519("ed1").token(good), BadSignature, BadSignature, ""},
		{"expired", but("exp", now-100), Expired, Expired, ""},
		{"lives too long", but("exp", now+90000), LifetimeTooLong, LifetimeTooLong, ""},
		{"the issuer's audience is missing", but("aud", "reports"), WrongAudience, WrongAudience, ""},
		{"bound to a key", but("cnf", map[string]any{"jkt": "x"}), Unproven, Unproven, ""},

		// a revoked token never gets through because of a mode
		{"revoked", but("sub", "mallory"), Revoked, Revoked, ""},
		{"revoked, and refused by the policy", mallory("tenant", "globex"), WrongAudience, Revoked, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for policy, want := range map[string]Reason{"enforce": c.enforced, "observe": c.observed} {
				d := a.Authorize(t.Context(), carrying(c.token).under(policy))
				if d.Reason != want || d.Allow != (want == OK) {
					t.Errorf("policy %s: got %s, allowed %v; want %s", policy, d.Reason, d.Allow, want)
				}
				would := c.would
				if policy == "enforce" {
					would = ""
				}
				if d.WouldDeny != would {
					t.Errorf("policy %s: would deny for %q, want %q", policy, d.WouldDeny, would)
				}
			}
		})
	}
}

func TestObserveSetsTheHeaders(t *testing.T) {
	o := options(t)
	o.Policies = map[string]Policy{DefaultPolicy: {Scopes: []string{"admin"}, Observe: true}}
	d := authorizer(t, o).Authorize(t.Context(), carrying(edKey().token(nil)))
	if !d.Allow || d.WouldDeny != InsufficientScope || d.Challenge.Scope != "" || len(d.Set) == 0 {
		t.Errorf("got %+v, want it allowed, with headers, no scope, and %s as the reason that would deny", d, InsufficientScope)
	}
}

func TestDenialsForgetWhatWasObserved(t *testing.T) {
	d := Decision{WouldDeny: TooOld}
	if d = d.deny(Revoked); d.WouldDeny != "" {
		t.Errorf("a denial would deny for %q, want nothing", d.WouldDeny)
	}
}
