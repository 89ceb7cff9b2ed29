package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rescind/revocation"
)

// Policy is what a route asks for beyond what the token's issuer asks for. The
// zero Policy asks for nothing more than a valid token.
type Policy struct {
	Issuers       []string      // one of these; any that is configured if empty
	Audiences     []string      // one of these, besides one of the issuer's own
	Scopes        []string      // all of these
	Claims        Conditions    // all of these
	MaxAge        time.Duration // since iat; 0: no limit
	TokenOptional bool          // no token is allowed; a bad one is still denied

	// Observe tries the policy out: Audiences, Scopes, Claims and MaxAge deny
	// nothing, and a decision that allows says what they would have denied it
	// for. Nothing else changes: a token is required if it was, must be a valid
	// one of an admitted issuer, and is denied if it has been revoked.
	Observe bool
}

// DefaultPolicy is the name that a request without a policy asks for.
const DefaultPolicy = "default"

// Conditions are claims, each with the values of which it must have one. Of a
// claim that is an array, any element may have it.
type Conditions map[string][]revocation.Value

func (c Conditions) hold(claims map[string]any) bool {
	for name, values := range c {
		if !anyElement(claims[name], func(v any) bool {
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

// admits says whether the policy lets tokens of this issuer in.
func (p *Policy) admits(issuer string) bool {
	return len(p.Issuers) == 0 || slices.Contains(p.Issuers, issuer)
}

// refuses is the reason, if there is one, for which a valid token of an
// admitted issuer does not get what this policy guards.
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
	if !p.Claims.hold(t.Claims) {
		return ClaimRefused
	}
	if len(p.Scopes) > 0 {
		granted := scope(t.Claims)
		for _, s := range p.Scopes {
			if !slices.Contains(granted, s) {
				return InsufficientScope
			}
		}
	}
	return ""
}

// scope is what the token was granted. Issuers write it as scope or as scp, and
// either as words or as an array.
func scope(claims map[string]any) []string {
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

func (p *Policy) check(issuers map[string]*issuer) error {
	var errs []error
	for _, name := range p.Issuers {
		if issuers[name] == nil {
			errs = append(errs, fmt.Errorf("issuer %q is not configured", name))
		}
	}
	for _, s := range p.Scopes {
		if !isScope(s) {
			errs = append(errs, fmt.Errorf("%q cannot be a scope: visible ASCII without space, \" and \\ (RFC 6749, section 3.3)", s))
		}
	}
	if slices.Contains(p.Audiences, "") {
		errs = append(errs, errors.New("an audience cannot be empty"))
	}
	if p.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("max_age %v is negative", p.MaxAge))
	}
	return errors.Join(append(errs, p.Claims.check())...)
}

func (c Conditions) check() error {
	var errs []error
	for name, values := range c {
		if name == "" || len(values) == 0 {
			errs = append(errs, fmt.Errorf("claim %q needs a name and at least one value", name))
		}
	}
	return errors.Join(errs...)
}

// isScope is scope-token of RFC 6749: what may stand between the quotes of a
// challenge.
func isScope(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b > '~' || b == '"' || b == '\\' {
			return false
		}
	}
	return s != ""
}
