package replica

import (
	"fmt"
	"path/filepath"
	"reflect"
	"time"

	"rescind/authz"
	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// issuerKeys are the keys of an issuer, with the options that they were opened
// with.
type issuerKeys struct {
	options jwks.Options
	keys    *jwks.Keys
	status  *issuerLists // nil: the issuer has no status lists
}

// build returns an authorizer for c, and the keys and status lists that it looks
// in. The authorizer makes tokens known in of, which may be nil. An issuer whose keys come from the same place keeps its present keys, also if
// other settings of the issuer have changed, and so do its status lists. Nothing that is in force changes.
func (p *process) build(c *config.Reloadable, of *admission) (*authz.Authorizer, map[string]issuerKeys, error) {
	if err := p.follower.Fits(lifetimes(c)); err != nil {
		return nil, nil, err
	}
	issuers, policies := Demands(c)
	options := authz.Options{
		Issuers: issuers, Policies: policies, Revocations: p.follower, DenyOverdue: c.Staleness.DenyOverdue,
		TrustForwardedCertificate: c.Headers.TrustForwardedCertificate, Logger: p.log,
		Cache:   authz.Cache{MaxBytes: c.TokenCache, Encode: envoy.Encode, Counts: p.cacheCounts},
		Headers: authz.Headers{Prefix: c.Headers.Prefix, Claims: c.Headers.Claims, Payload: c.Headers.Payload, RemoveAuthorization: c.Headers.RemoveAuthorization},
	}
	if of != nil {
		options.Known = of
	}
	next := map[string]issuerKeys{}
	fail := func(err error) (*authz.Authorizer, map[string]issuerKeys, error) {
		closeUnused(next, p.keys)
		return nil, nil, err
	}
	for n, i := range c.Issuers {
		k, err := p.keysOf(i)
		if err != nil {
			return fail(fmt.Errorf("issuer %s: %w", i.Issuer, err))
		}
		next[i.Issuer] = k
		options.Issuers[n].Keys = k.keys
		if k.status, err = p.listsOf(i, k.keys); err != nil {
			return fail(fmt.Errorf("issuer %s: %w", i.Issuer, err))
		}
		if k.status != nil {
			next[i.Issuer] = k
			options.Issuers[n].StatusLists = k.status.lists
		}
	}
	authorizer, err := authz.New(options)
	if err != nil {
		return fail(err)
	}
	return authorizer, next, nil
}

// keysOf returns the present keys of an issuer, or opens new ones.
func (p *process) keysOf(i config.Issuer) (issuerKeys, error) {
	o := p.keyOptions(i)
	if old, ok := p.keys[i.Issuer]; ok && reflect.DeepEqual(old.options, o) {
		return issuerKeys{options: o, keys: old.keys}, nil
	}
	keys, err := jwks.Open(o)
	return issuerKeys{options: o, keys: keys}, err
}

// keyOptions returns the options of the keys of an issuer in this process.
func (p *process) keyOptions(i config.Issuer) jwks.Options {
	o := i.Options(i.Issuer)
	o.Dir, o.Figures, o.Logger = below(p.options.Config.Revocation.Dir, "keys"), p.figures, p.log
	return o
}

// lifetimes returns for how long a token of each issuer may be accepted: from
// one leeway before its iat to one leeway after its exp.
func lifetimes(c *config.Reloadable) map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, i := range c.Issuers {
		out[i.Issuer] = i.MaxLifetime + 2*i.Leeway
	}
	return out
}

// accepted returns the issuers as the control endpoint is told about them.
func accepted(c *config.Reloadable) []revocation.AcceptedIssuer {
	var out []revocation.AcceptedIssuer
	for _, i := range c.Issuers {
		a := revocation.AcceptedIssuer{Issuer: i.Issuer, Audiences: i.Audiences, AnyAudience: i.AnyAudience, Claims: map[string][]string{}}
		for name, values := range conditions(i.Claims) {
			for _, v := range values {
				a.Claims[name.String()] = append(a.Claims[name.String()], v.String())
			}
		}
		out = append(out, a)
	}
	return out
}

// conditions returns the claims as the authorizer compares them. A name none of
// whose values can be compared stays without values, which the authorizer
// refuses, so that no condition is lost.
func conditions(claims map[jwt.ClaimName][]any) authz.Conditions {
	out := authz.Conditions{}
	for name, values := range claims {
		out[name] = nil
		for _, v := range values {
			if value, ok := revocation.ValueOf(v); ok {
				out[name] = append(out[name], value)
			}
		}
	}
	return out
}

// watchSettings returns the settings of alerts. They include the age at which
// the replica denies everything, because advice on lifetimes depends on it.
func watchSettings(c *config.Reloadable) watch.Settings {
	s := c.Alerts
	if c.Staleness.DenyOverdue {
		s.CutOff = c.Staleness.Max
	}
	return s
}

// below returns the folder name in dir, or no folder if dir is none.
func below(dir, name string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, name)
}
