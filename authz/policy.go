package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rescind/authz/tokencache"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// Policy holds the conditions of a route. They come on top of the conditions of
// the token's issuer. The zero Policy demands a valid token and nothing more.
type Policy struct {
	Issuers       []string      // one of these; empty: every configured issuer
	Audiences     []string      // one of these, besides one of the issuer's own
	Scopes        []string      // all of these
	Claims        Conditions    // all of these
	MaxAge        time.Duration // since iat; 0: no limit
	TokenOptional bool          // a request without a token passes; a bad token is denied

	// TokensFrom are the places that may hold a token. Exactly one of them may
	// hold one. nil: the Authorization header with the scheme Bearer.
	TokensFrom []Place
	// Realm and ResourceMetadata (RFC 9728) are named in every challenge. An
	// empty Realm is DefaultRealm, and an empty ResourceMetadata is left out.
	Realm, ResourceMetadata string

	// Observe tries the policy out. Audiences, Scopes, Claims and MaxAge then
	// deny nothing, and a decision that allows names the reason for which they
	// would have denied. Nothing else changes. A token that is required must
	// still be there, be valid, come from an admitted issuer and not be revoked.
	Observe bool
}

// policy is a compiled Policy.
type policy struct {
	Policy
	name   string
	secret tokencache.Secret // makes the keys of the tokens that are known under it
	// oneAnswer says that the headers of two requests change in the same way if they
	// bring the same token and no header that must be removed.
	oneAnswer bool
	hidden    string // the header with the token, if it is removed; else ""
}

func newPolicy(name string, p Policy, h *headers) *policy {
	c := &policy{Policy: p, name: name, secret: tokencache.NewSecret(), oneAnswer: true}
	if h.removeToken {
		c.hidden = p.TokensFrom[0].Header
		c.oneAnswer = len(p.TokensFrom) == 1 && c.hidden != ""
	}
	return c
}

// DefaultPolicy is the policy of a request that names none.
const DefaultPolicy = "default"

// Conditions maps claims to values. Each claim must have one of its values, of
// the same JSON type: the number 7 is not the text "7". A claim that is an array
// has the value of each element.
type Conditions map[jwt.ClaimName][]revocation.Value

// Hold reports whether the claims of a token meet all conditions.
func (c Conditions) Hold(claims map[string]any) bool {
	for name, values := range c {
		claim, _ := name.In(claims)
		if !anyElement(claim, func(v any) bool {
			value, ok := revocation.ValueOf(v)
			return ok && slices.Contains(values, value)
		}) {
			return false
		}
	}
	return true
}

func anyElement(claim any, match func(any) bool) bool {
	if array, ok := claim.([]any); ok {
		return slices.ContainsFunc(array, match)
	}
	return match(claim)
}

// admits reports whether the policy accepts tokens of this issuer.
func (p *Policy) admits(issuer string) bool {
	return len(p.Issuers) == 0 || slices.Contains(p.Issuers, issuer)
}

// refuses returns the reason for which the policy refuses a valid token of an
// admitted issuer, or "".
func (p *Policy) refuses(t *verified, now time.Time, leeway time.Duration) Reason {
	if len(p.Audiences) > 0 && !anyElement(t.Claims["aud"], func(v any) bool {
		audience, ok := v.(string)
		return ok && slices.Contains(p.Audiences, audience)
	}) {
		return WrongAudience
	}
	if p.MaxAge > 0 {
		if !t.IssuedAt.Set {
			return MissingClaim
		}
		if now.Sub(t.issuedAt().Time()) > p.MaxAge+leeway {
			return TooOld
		}
	}
	if reason := p.refusesClaims(t.Claims); reason != "" {
		return reason
	}
	if len(p.Scopes) > 0 {
		granted := Scope(t.Claims)
		for _, s := range p.Scopes {
			if !slices.Contains(granted, s) {
				return InsufficientScope
			}
		}
	}
	return ""
}

// acr is the claim that says how the subject logged in (RFC 9470).
var acr = jwt.MemberName("acr")

// refusesClaims returns ClaimRefused for a claim that does not fit, or StepUp if
// acr alone does not fit: a client can get another acr by a stronger login.
func (p *Policy) refusesClaims(claims map[string]any) Reason {
	reason := Reason("")
	for name, values := range p.Claims {
		switch {
		case (Conditions{name: values}).Hold(claims):
		case name != acr:
			return ClaimRefused
		default:
			reason = StepUp
		}
	}
	return reason
}

// acrValues returns the values of acr that the policy accepts, as a challenge
// lists them. A value that the list cannot hold is left out.
func (p *Policy) acrValues() string {
	var values []string
	for _, v := range p.Claims[acr] {
		if s := v.String(); isScope(s) {
			values = append(values, s)
		}
	}
	return strings.Join(values, " ")
}

// Scope returns the scopes that the token was granted. Issuers write them in
// scope or scp, as words or as an array.
func Scope(claims map[string]any) []string {
	var granted []string
	for _, name := range []string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			granted = append(granted, strings.Split(v, " ")...)
		case []any:
			for _, element := range v {
				if s, ok := element.(string); ok {
					granted = append(granted, s)
				}
			}
		}
	}
	return granted
}

func (p *Policy) check(issuers map[string]*issuer, h *headers) error {
	errs := []error{checkPlaces(p.TokensFrom, h), CheckQuoted(p.Realm), CheckQuoted(p.ResourceMetadata)}
	for _, name := range p.Issuers {
		if issuers[name] == nil {
			errs = append(errs, fmt.Errorf("issuer %q is not one of the configured issuers", name))
		}
	}
	for _, s := range p.Scopes {
		if !isScope(s) {
			errs = append(errs, fmt.Errorf("%q cannot be a scope: visible ASCII without space, \" and \\ (RFC 6749, section 3.3)", s))
		}
	}
	if slices.Contains(p.Audiences, "") {
		errs = append(errs, errors.New("audiences has an empty element"))
	}
	if p.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max_age must be 0 or more, not %v", p.MaxAge))
	}
	return errors.Join(append(errs, p.Claims.check())...)
}

func (c Conditions) check() error {
	var errs []error
	for name, values := range c {
		if name == (jwt.ClaimName{}) || len(values) == 0 {
			errs = append(errs, fmt.Errorf("claim %q needs a name and at least one value", name))
		}
	}
	return errors.Join(errs...)
}

// CheckQuoted returns an error if s needs an escape within the quotes of a
// challenge.
func CheckQuoted(s string) error {
	for i := range len(s) {
		if b := s[i]; b < ' ' || b > '~' || b == '"' || b == '\\' {
			return fmt.Errorf("%.60q cannot stand in a challenge: visible ASCII without \" and \\", s)
		}
	}
	return nil
}

// isScope reports whether s is a scope-token of RFC 6749, section 3.3. Such a
// text needs no escape in a challenge.
func isScope(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b > '~' || b == '"' || b == '\\' {
			return false
		}
	}
	return s != ""
}
