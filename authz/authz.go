// Package authz decides whether a request may pass. It knows no network and no
// Envoy: it is given headers and answers with a [Decision].
//
// # The path
//
// [Authorizer.Authorize] is one straight function, the cheapest refusal first:
// bearer, guard, issuer, key, signature, times, audience, type, policy,
// revocation, headers. Each exit has its own [Reason]. It is the only place
// that allows, and it does so twice: for a token that passed all of it, and for
// a request without a token where the policy says so.
//
// # Trust
//
// The configuration is trusted, and the keys of an issuer for tokens that name
// exactly this issuer. The request is not, and neither is what the token says
// before its signature has been verified: until then its iss, kid and alg
// choose a key, from those configured, and do nothing else. After that its
// claims are the issuer's word: they may be odd, and they never become a
// header that they could break out of. A raw token is no identity: another
// signature of the same claims is the same token.
//
// golang-jwt validates the times and the audience, and makes the signature
// methods. It is handed what the guard has decoded, as MapClaims with numbers
// as text, instead of the bytes: its own decoder folds what must be told apart
// (duplicate members, invalid UTF-8, line breaks within a segment).
//
// # Observing
//
// A policy that only observes ([Policy.Observe]) denies nothing for what it
// asks on top of a valid token: audiences, scopes, claims and max_age. It has
// no say in what makes a token valid, in which issuers are admitted, in whether
// a token is needed and in revocation: these come from elsewhere or keep out
// somebody who must not get in while a limit is tried out. Such a request goes
// on to the revocations like any other.
//
// # Failure
//
// The zero Decision denies, a panic denies, an unknown policy denies, and so
// does whatever cannot be looked up. What is the token's fault is a 401 or a
// 403, never a 5xx.
//
// An Authorizer never changes, except for the time of its last warning about
// each issuer's clock. To reconfigure, make another and swap the pointer.
package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	golangjwt "github.com/golang-jwt/jwt/v5"

	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// Options of an [Authorizer].
type Options struct {
	Issuers     []Issuer
	Policies    map[string]Policy // nil: DefaultPolicy alone, which asks for nothing more
	Headers     Headers
	Revocations *replica.Follower
	// DenyOverdue denies everything once the revocations are older than the
	// follower's MaxStaleness.
	DenyOverdue bool
	// TrustForwardedCertificate takes the client certificate from
	// x-forwarded-client-cert, which is only safe where Envoy's
	// forward_client_cert_details keeps clients from sending it themselves.
	TrustForwardedCertificate bool
	Logger                    *slog.Logger
}

// Issuer is one whose tokens are accepted, and on which conditions.
type Issuer struct {
	Name           string // compared with iss, byte for byte
	Keys           Keys
	Algorithms     []string // nil: [jwks.DefaultAlgorithms]
	Audiences      []string // one of these
	AnyAudience    bool     // instead
	TokenTypes     []string // accepted typ; "" is an absent one; nil: DefaultTokenTypes
	MaxLifetime    time.Duration
	Leeway         time.Duration // for exp and nbf
	IatLeeway      time.Duration // how far in the future iat may be; at most Leeway
	RequiredClaims []string      // besides exp
	Claims         Conditions
}

// Keys are the keys of one issuer: a [jwks.Keys].
type Keys interface {
	// Find returns the keys that may have signed a token with this kid ("" if
	// it has none) and alg. A denial names the causes [jwks.ErrUnknownKey],
	// [jwks.ErrAmbiguousKey] and [jwks.ErrUnavailable]; every other error
	// denies as internal.
	Find(ctx context.Context, kid, alg string) ([]jwks.Key, error)
}

// DefaultTokenTypes are those of an issuer that names none.
var DefaultTokenTypes = []string{"at+jwt", "JWT", ""}

// DefaultIatLeeway is the iat_leeway of an issuer that sets none, or its leeway
// if that is less.
const DefaultIatLeeway = 2 * time.Second

// MaxLeeway is for how long the revocation of a single token outlives its exp.
// With more leeway the token would be good again after that.
const MaxLeeway = time.Minute

// Authorizer decides. It is safe for concurrent use and does not change.
type Authorizer struct {
	issuers        map[string]*issuer
	policies       map[string]*Policy
	headers        *headers
	revocations    *replica.Follower
	denyOverdue    bool
	trustForwarded bool
	log            *slog.Logger
}

// issuer is a compiled Issuer.
type issuer struct {
	Issuer
	algorithms map[string]bool
	types      map[string]bool      // media types; "" for none
	validator  *golangjwt.Validator // of exp, nbf, iss and aud
	ahead      clockWarning
}

// New checks o and reports every fault in it.
func New(o Options) (*Authorizer, error) {
	a := &Authorizer{
		issuers:        map[string]*issuer{},
		policies:       map[string]*Policy{},
		revocations:    o.Revocations,
		denyOverdue:    o.DenyOverdue,
		trustForwarded: o.TrustForwardedCertificate,
		log:            o.Logger,
	}
	var errs []error
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.revocations == nil {
		errs = append(errs, errors.New("there are no revocations to look tokens up in"))
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
			errs = append(errs, fmt.Errorf("issuer %q is configured twice", i.Name))
		}
		a.issuers[i.Name] = compiled
	}
	if len(o.Policies) == 0 {
		o.Policies = map[string]Policy{DefaultPolicy: {}}
	}
	for name, p := range o.Policies {
		if err := p.check(a.issuers); err != nil {
			errs = append(errs, fmt.Errorf("policy %q: %w", name, err))
		}
		a.policies[name] = &p
	}
	var err error
	if a.headers, err = newHeaders(o.Headers); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return a, nil
}

// notAccess are types that are never access tokens, and that an issuer signs
// with the same keys.
var notAccess = []string{"logout+jwt", "secevent+jwt", "dpop+jwt"}

func newIssuer(o Issuer) (*issuer, error) {
	i := &issuer{Issuer: o, algorithms: map[string]bool{}, types: map[string]bool{}}
	var errs []error
	if i.Algorithms == nil {
		i.Algorithms = jwks.DefaultAlgorithms
	}
	for _, alg := range i.Algorithms {
		if !jwks.Supported(alg) {
			errs = append(errs, fmt.Errorf("algorithm %q is not one that can be accepted", alg))
		}
		i.algorithms[alg] = true
	}
	// RFC 9864: two names of what is, for us, one algorithm.
	if i.algorithms["EdDSA"] || i.algorithms["Ed25519"] {
		i.algorithms["EdDSA"], i.algorithms["Ed25519"] = true, true
	}
	if i.TokenTypes == nil {
		i.TokenTypes = DefaultTokenTypes
	}
	for _, typ := range i.TokenTypes {
		typ = jwt.MediaType(typ)
		if slices.Contains(notAccess, typ) {
			errs = append(errs, fmt.Errorf("%s is never the type of an access token", typ))
		}
		i.types[typ] = true
	}
	// golang-jwt switches a check off when what it should compare with is empty.
	options := []golangjwt.ParserOption{golangjwt.WithIssuer(i.Name), golangjwt.WithLeeway(i.Leeway), golangjwt.WithExpirationRequired()}
	if !i.AnyAudience {
		options = append(options, golangjwt.WithAudience(i.Audiences...))
	}
	i.validator = golangjwt.NewValidator(options...)
	for _, fault := range []struct {
		is   bool
		text string
	}{
		{i.Name == "", "its name is empty"},
		{i.Keys == nil, "it has no keys"},
		{len(i.algorithms) == 0, "no algorithm is accepted"},
		{len(i.types) == 0, "no token type is accepted"},
		{i.AnyAudience == (len(i.Audiences) > 0), "it needs audiences, or any_audience: true, and not both"},
		{slices.Contains(i.Audiences, ""), "an audience cannot be empty"},
		{i.MaxLifetime <= 0, "max_lifetime must be above zero: revocations are kept for as long as a token can live"},
		{i.Leeway < 0, "leeway is negative"},
		{i.Leeway > MaxLeeway, "leeway is more than a minute: the revocation of a token ends so long after its exp"},
		{i.IatLeeway < 0 || i.IatLeeway > i.Leeway, "iat_leeway must be from 0s to leeway"},
		{slices.Contains(i.RequiredClaims, ""), "a required claim cannot be empty"},
	} {
		if fault.is {
			errs = append(errs, errors.New(fault.text))
		}
	}
	return i, errors.Join(append(errs, i.Claims.check())...)
}

// lacks is the name of a required claim that t does not have, if any.
func (i *issuer) lacks(t *verified) string {
	if !t.Expires.Set {
		return "exp"
	}
	for _, name := range i.RequiredClaims {
		if !t.has(name) {
			return name
		}
	}
	return ""
}

// invalid returns the reason for which exp, nbf or the audience of t do not fit,
// or "". The reader has made sure that the times are numbers.
func (i *issuer) invalid(t *verified) Reason {
	err := i.validator.Validate(golangjwt.MapClaims(t.Claims))
	switch {
	case err == nil:
		return ""
	case errors.Is(err, golangjwt.ErrTokenExpired):
		return Expired
	case errors.Is(err, golangjwt.ErrTokenNotValidYet):
		return NotYetValid
	case errors.Is(err, golangjwt.ErrTokenInvalidAudience), errors.Is(err, golangjwt.ErrTokenRequiredClaimMissing), errors.Is(err, golangjwt.ErrInvalidType):
		return WrongAudience // wrong, absent, or no string: exp and iss are there
	default:
		return Internal
	}
}

// outlives says whether t is valid for longer than a revocation is sure to be
// kept. Without an iat it is the rest of its life that counts.
func (i *issuer) outlives(t *verified, now time.Time) bool {
	if t.IssuedAt.Set {
		return t.expires()-t.issuedAt() > revocation.Micros(i.MaxLifetime.Microseconds())
	}
	return t.expires().Time().Sub(now) > i.MaxLifetime+i.Leeway
}

// accepts says whether t is an access token. Logout tokens and security events
// are signed with the same keys and may call themselves JWT, but they always
// have events (RFC 8417, section 2.2).
func (i *issuer) accepts(t *verified) bool {
	_, events := t.Claims["events"].(map[string]any)
	return i.types[t.Type] && !events
}

// policy is the one that r asks for; nil if there is none of this name.
func (a *Authorizer) policy(r *Request) (string, *Policy) {
	if r.Policy == nil {
		return DefaultPolicy, a.policies[DefaultPolicy]
	}
	return *r.Policy, a.policies[*r.Policy]
}
