package revocation

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Accept makes a revocation of the request, or says everything that is wrong
// with it. now is the instant of acceptance, retention the longest that a
// revocation may last, by the name of the credential. The ID is for the log to
// give.
func (r *Request) Accept(now time.Time, retention time.Duration, by string) (Revocation, []Fault) {
	a := acceptance{Request: r, now: now, latest: now.Add(retention)}
	a.out = Revocation{
		Issuer:    r.Issuer,
		CreatedAt: now.UTC().Truncate(time.Microsecond),
		CreatedBy: by,
		Reason:    r.Reason,
	}
	a.target()
	a.issuer()
	a.reach()
	a.end()
	a.reason()
	if a.faults != nil {
		return Revocation{}, a.faults
	}
	return a.out, nil
}

// acceptance is one run of Accept.
type acceptance struct {
	*Request
	now, latest time.Time
	token       *jwt.Token // as Token reads; nil if the request has none, or a faulty one
	out         Revocation
	faults      []Fault
}

func (a *acceptance) fault(member, format string, args ...any) {
	a.faults = append(a.faults, Fault{member, fmt.Sprintf(format, args...)})
}

func (a *acceptance) target() {
	var given []string
	for _, form := range []struct {
		name string
		set  bool
	}{{"claims", len(a.Claims) > 0}, {"kid", a.KeyID != ""}, {"token", a.Token != ""}, {"all", a.All}} {
		if form.set {
			given = append(given, form.name)
		}
	}
	if len(given) == 0 {
		a.fault("", "one of claims, kid, token and all must say what is revoked")
		return
	}
	for _, name := range given[1:] {
		a.fault(name, "cannot stand beside %s; a revocation has exactly one of claims, kid, token and all", given[0])
	}
	switch given[0] {
	case "claims":
		a.claims()
	case "kid":
		a.out.Target = Target{Kind: KindKeyID, KeyID: a.KeyID}
		if len(a.KeyID) > MaxName {
			a.fault("kid", "is longer than %d bytes", MaxName)
		}
	case "token":
		a.rawToken()
	case "all":
		a.out.Target = Target{Kind: KindAll}
	}
}

func (a *acceptance) claims() {
	claims := slices.Clone(a.Claims)
	slices.SortFunc(claims, func(x, y Claim) int { return strings.Compare(x.Name, y.Name) })
	if len(claims) > MaxClaims {
		a.fault("claims", "has more than %d members", MaxClaims)
	}
	for i, c := range claims {
		member := "claims." + clip(c.Name)
		switch {
		case c.Name == "" || len(c.Name) > MaxName:
			a.fault(member, "a claim's name must have 1 to %d bytes", MaxName)
		case !printable.Valid(c.Name):
			a.fault(member, "a claim's name must be printable; this one %v", printable.Check(c.Name))
		case i > 0 && claims[i-1].Name == c.Name:
			a.fault(member, "stands there twice")
		case len(c.Value.text) > MaxValue:
			a.fault(member, "is longer than %d bytes", MaxValue)
		case c.Value.text == "":
			a.fault(member, "must not be empty: no token would match")
		case c.Name == "scope" && c.Value.kind == 's' && strings.ContainsFunc(c.Value.text, unicode.IsSpace):
			a.fault(member, "is compared with each word of a token's scope, so it must be a single word")
		}
	}
	a.out.Target = Target{Kind: KindClaims, Claims: claims}
}

// issuer holds the issuer to the form that OpenID Connect and RFC 8414 give
// it: anything else is a slip that would revoke nothing.
func (a *acceptance) issuer() {
	iss := a.out.Issuer
	member := "issuer"
	if a.Issuer == "" && a.Token != "" {
		if iss == "" {
			return // the token's own fault is told already
		}
		member = "token"
	}
	u, err := url.Parse(iss)
	switch {
	case iss == "":
		a.fault(member, "is missing")
	case len(iss) > MaxIssuer:
		a.fault(member, "is longer than %d bytes", MaxIssuer)
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" ||
		strings.ContainsFunc(iss, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsControl(c) }):
		a.fault(member, "is not an issuer: it must be a URL such as https://idp.example.com/, exactly as iss has it")
	}
}

// reach settles which tokens are meant by their iat.
func (a *acceptance) reach() {
	a.out.Block = a.Block
	switch {
	case a.Block && !a.IssuedBefore.IsZero():
		a.fault("issued_before", "means nothing beside block, which denies whatever the iat")
	case a.Block:
	case !a.IssuedBefore.IsZero():
		a.out.Before = MicrosOf(a.IssuedBefore)
		if a.out.Before <= 0 {
			a.fault("issued_before", "lies before 1970")
		}
	case a.out.Target.Kind == KindAll, a.out.Target.Kind == KindClaims && !a.namesOneToken():
		a.out.Before = MicrosOf(a.now.Truncate(time.Second).Add(time.Second))
	}
}

func (a *acceptance) namesOneToken() bool {
	return slices.ContainsFunc(a.out.Target.Claims, func(c Claim) bool { return c.Name == "jti" })
}

// end settles when the revocation is gone.
func (a *acceptance) end() {
	member, at := "expires_at", a.ExpiresAt
	if at.IsZero() {
		at = a.latest
		if a.token != nil && a.token.Expires.Set {
			member, at = "token", Micros(a.token.Expires.Micros).Time()
			if !at.After(a.latest) { // the grace alone is no reason to refuse
				at = at.Add(tokenGrace)
				if at.After(a.latest) {
					at = a.latest
				}
			}
		}
	}
	switch {
	case !at.After(a.now) && member == "token":
		a.fault(member, "has expired already: there is nothing to revoke")
	case !at.After(a.now):
		a.fault(member, "lies in the past")
	case at.After(a.latest):
		a.fault(member, "lies beyond the store's retention, which ends at %s", a.latest.UTC().Format(time.RFC3339))
	}
	a.out.ExpiresAt = MicrosOf(at)
}

func (a *acceptance) reason() {
	if len(a.Reason) > MaxReason {
		a.fault("reason", "is longer than %d bytes", MaxReason)
	}
	if err := printable.Check(a.Reason); err != nil {
		a.fault("reason", "%v", err)
	}
}
