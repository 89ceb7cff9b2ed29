package replica

import (
	"rescind/authz"
	"rescind/cmd/internal/config"
)

// Demands returns the demands on tokens that a replica with this configuration
// makes: its issuers, still without their keys, and its policies.
func Demands(c *config.Reloadable) ([]authz.Issuer, map[string]authz.Policy) {
	issuers := make([]authz.Issuer, len(c.Issuers))
	for n, i := range c.Issuers {
		issuers[n] = authz.Issuer{
			Name: i.Issuer, Algorithms: i.Algorithms, Audiences: i.Audiences, AnyAudience: i.AnyAudience,
			TokenTypes: i.TokenTypes, MaxLifetime: i.MaxLifetime, Leeway: i.Leeway, IatLeeway: i.IatLeeway, MaxToken: i.MaxTokenSize, RequiredClaims: i.RequiredClaims,
			Claims: conditions(i.Claims), SPIFFE: i.SPIFFE, AllowUnknownStatus: i.StatusLists != nil && i.StatusLists.AllowUnavailable,
		}
	}
	policies := map[string]authz.Policy{}
	for name, policy := range c.Policies {
		policies[name] = authz.Policy{
			Issuers: policy.Issuers, Audiences: policy.Audiences, Scopes: policy.Scopes, Claims: conditions(policy.Claims),
			MaxAge: policy.MaxAge, TokenOptional: policy.TokenOptional, Observe: policy.Observe,
			TokensFrom: policy.TokensFrom, Realm: policy.Realm, ResourceMetadata: policy.ResourceMetadata,
		}
	}
	return issuers, policies
}
