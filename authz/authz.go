// Package authz decides whether a request may pass. It knows no network and no
// Envoy. It is given the headers of a request and returns a [Decision].
//
// # The path
//
// [Authorizer.Authorize] is one straight function, the cheapest refusal first:
// bearer, guard, issuer, key, signature, times, audience, type, policy, proof,
// revocation, status list, headers. Each exit has its own [Reason]. No other
// function allows a request. Authorize allows in two cases: a token passed every
// step, or there is no token and the policy says that none is needed.
//
// The steps from guard to policy are those of establish. They depend on the token,
// the configuration, the keys and the time alone, so a token that comes again may
// skip them, see known.go. The others are taken on every request.
//
// # Trust
//
// The configuration is trusted. The keys of an issuer are trusted for tokens
// that name exactly this issuer. The request is not trusted, and a token is not
// trusted before its signature has been verified: until then its iss, kid and
// alg choose one of the configured keys and do nothing else. The type verified
// is a token whose claims are the issuer's word. Such a claim may be odd, and it
// never becomes a header that it could break out of.
//
// golang-jwt compares the times and the audience, and makes the signature
// methods. It does not decode a token. Its decoder accepts tokens that mean
// different things to different readers, so it gets the claims that package
// [rescind/jwks/jwt] has read.
//
// # Observing
//
// A policy that observes ([Policy.Observe]) does not deny for the conditions
// that the policy adds to a valid token: audiences, scopes, claims and max_age.
// The decision then says why the policy would have denied. The validity of the
// token, the admitted issuers, the need of a token and the revocations deny as
// ever, because they do not come from the limit that is being tried.
//
// # Failure
//
// The zero Decision denies. A panic denies, an unknown policy denies, and so
// does a look-up that fails. A fault of the token is a 401 or a 403, never a 5xx.
//
// An Authorizer never changes, except for the times of its last warnings about
// each issuer, and for the tokens that it knows. To reconfigure, make another and
// swap the pointer. The other one knows no tokens, so no setting is forgotten.
package authz

import (
	"errors"
	"fmt"
	"log/slog"

	"rescind/authz/tokencache"
	"rescind/revocation/linelimit"
	"rescind/revocation/replica"
)

// Options configure an [Authorizer].
type Options struct {
	Issuers     []Issuer
	Policies    map[string]Policy // nil: DefaultPolicy alone, without conditions
	Headers     Headers
	Revocations *replica.Follower
	// DenyOverdue denies every request once the revocations are older than the
	// follower's MaxStaleness.
	DenyOverdue bool
	// TrustForwardedCertificate takes the client certificate from
	// x-forwarded-client-cert. That is safe only if Envoy's
	// forward_client_cert_details keeps clients from sending the header.
	TrustForwardedCertificate bool
	Cache                     Cache
	Known                     Known // nil: no gateway answers by itself
	Logger                    *slog.Logger
}

// Authorizer decides about requests. It is safe for concurrent use.
type Authorizer struct {
	issuers        map[string]*issuer
	maxToken       int // the largest of all issuers
	policies       map[string]*policy
	headers        *headers
	cache          *tokencache.Cache[*known] // nil: none
	encode         func(*Decision) []byte
	known          Known // nil: none
	revocations    *replica.Follower
	denyOverdue    bool
	trustForwarded bool
	log            *slog.Logger
	panics         *linelimit.Limit // a client that finds one can cause it with every request
}

// New compiles o, or returns every fault in it.
func New(o Options) (*Authorizer, error) {
	a := &Authorizer{
		issuers:        map[string]*issuer{},
		policies:       map[string]*policy{},
		cache:          newCache(o.Cache),
		encode:         o.Cache.Encode,
		known:          o.Known,
		revocations:    o.Revocations,
		denyOverdue:    o.DenyOverdue,
		trustForwarded: o.TrustForwardedCertificate,
		log:            o.Logger,
	}
	var errs []error
	if a.log == nil {
		a.log = slog.Default()
	}
	a.panics = linelimit.New(a.log, slog.LevelError, "decision panicked, request denied", 10)
	if a.revocations == nil {
		errs = append(errs, errors.New("no revocations are given"))
	}
	if len(o.Issuers) == 0 {
		errs = append(errs, errors.New("no issuer is configured"))
	}
	for _, i := range o.Issuers {
		compiled, err := newIssuer(i)
		if err != nil {
			errs = append(errs, fmt.Errorf("issuer %q: %w", i.Name, err))
		}
		if a.issuers[i.Name] != nil {
			errs = append(errs, fmt.Errorf("issuer %q is configured twice; remove one", i.Name))
		}
		a.issuers[i.Name] = compiled
		a.maxToken = max(a.maxToken, compiled.MaxToken)
	}
	if len(o.Policies) == 0 {
		o.Policies = map[string]Policy{DefaultPolicy: {}}
	}
	var err error
	if a.headers, err = newHeaders(o.Headers); err != nil {
		errs = append(errs, err)
	}
	for name, p := range o.Policies {
		p.TokensFrom = placesOf(p.TokensFrom)
		if err := p.check(a.issuers, a.headers); err != nil {
			errs = append(errs, fmt.Errorf("policy %q: %w", name, err))
		}
		a.policies[name] = newPolicy(name, p, a.headers)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return a, nil
}

// policy returns the name of the policy that r asks for, and the policy. The
// policy is nil if none has this name.
func (a *Authorizer) policy(r *Request) (string, *policy) {
	name := DefaultPolicy
	if r.Policy != nil {
		name = *r.Policy
	}
	if p := a.policies[name]; p != nil {
		return p.name, p // the name of the configuration, which outlives the request
	}
	return name, nil
}

// twoPolicies is the detail of a denial for a policy that a front end could not read.
const twoPolicies = "the metadata and the context extensions of the route name different policies, or the metadata names none as a text; rescind lint shows where"

// Refuse returns the denial of a request that is denied before any decision. r is
// nil if the request could not be read.
func (a *Authorizer) Refuse(r *Request, reason Reason) Decision {
	d := Decision{ID: newID()}
	if r != nil {
		if name, policy := a.policy(r); policy != nil {
			d.Policy, d.Challenge = name, policy.challenge()
		}
	}
	if reason == UnknownPolicy {
		d.Detail = twoPolicies
	}
	return d.deny(reason)
}
