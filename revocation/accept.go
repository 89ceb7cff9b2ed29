package revocation

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Accept returns the revocation that r asks for, or every fault of r. now is the
// instant of acceptance. retention is the longest that a revocation may last. by
// is the name of the caller's credential. The revocation has no ID yet: the log
// gives it one.
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

// acceptance is the state of one call of Accept.
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
		a.fault("", "the request must have one of claims, kid, token and all; it has none of them")
		return
	}
	for _, name := range given[1:] {
		a.fault(name, "cannot be combined with %s; remove one of them: a request has exactly one of claims, kid, token and all", given[0])
	}
	switch given[0] {
	case "claims":
		a.claims()
	case "kid":
		a.out.Target = Target{Kind: KindKeyID, KeyID: a.KeyID}
		if n := utf8.RuneCountInString(a.KeyID); n > MaxKeyID { // every kid that a token may name can be revoked
			a.fault("kid", "has %d characters; at most %d are possible", n, MaxKeyID)
		}
	case "token":
		a.rawToken()
	case "all":
		a.out.Target = Target{Kind: KindAll}
	}
}

func (a *acceptance) claims() {
	if len(a.Claims) > MaxClaims {
		a.fault("claims", "has %d members; at most %d are possible", len(a.Claims), MaxClaims)
	}
	claims := make([]Claim, 0, len(a.Claims))
	for _, c := range a.Claims {
		member := "claims." + clip(c.Name)
		name, err := jwt.ParseClaimName(c.Name)
		if err != nil {
			a.fault(member, "%v", err)
			continue
		}
		c.Name = name.String()
		if text := c.fault(name); text != "" {
			a.fault(member, "%s", text)
		}
		if slices.ContainsFunc(claims, func(o Claim) bool { return o.Name == c.Name }) {
			a.fault(member, "is a duplicate; remove one of the two")
		}
		if claims = append(claims, c); len(claims) > MaxClaims {
			break
		}
	}
	sortClaims(claims)
	a.out.Target = Target{Kind: KindClaims, Claims: claims}
}

// fault returns why no revocation can have this claim; "" if one can.
func (c *Claim) fault(name jwt.ClaimName) string {
	switch {
	case len(wireName(c.Name)) > MaxName:
		return fmt.Sprintf("must have a name of 1 to %d bytes, or a JSON Pointer of at most %d", MaxName, MaxName-len(nestedMark))
	case !printable.Valid(c.Name):
		return fmt.Sprintf("must have a printable name; this one %v", printable.Check(c.Name))
	case name.Member() == "iss":
		return "cannot be revoked by; name the issuer in issuer, and use all to revoke every token of it"
	case len(c.Value.text) > MaxValue:
		return fmt.Sprintf("has %d bytes; at most %d are possible", len(c.Value.text), MaxValue)
	case c.Value.text == "":
		return "must not be empty: no token would match"
	case isWords(c.Name) && c.Value.kind == 's' && strings.ContainsFunc(c.Value.text, unicode.IsSpace):
		return "must be a single word, because it is compared with each word of a token's " + c.Name
	}
	return ""
}

// issuer checks that a token can have this issuer. Where the request names none,
// it is the token's.
func (a *acceptance) issuer() {
	member := "issuer"
	if a.Issuer == "" && a.Token != "" {
		if a.out.Issuer == "" {
			return // rawToken has reported the fault
		}
		member = "token"
	}
	switch err := CheckIssuer(a.out.Issuer); {
	case err == nil:
	case member == "token":
		a.fault(member, "has an iss that no replica accepts: it %v", err)
	default:
		a.fault(member, "%v", err)
	}
}

// reach decides which tokens are denied, by their iat.
func (a *acceptance) reach() {
	a.out.Block = a.Block
	switch {
	case a.Block && !a.IssuedBefore.IsZero():
		a.fault("issued_before", "cannot be combined with block, which denies tokens of any iat; remove one of them")
	case a.Block:
	case !a.IssuedBefore.IsZero():
		a.out.Before = MicrosOf(a.IssuedBefore)
		if a.out.Before <= 0 {
			a.fault("issued_before", "must be later than 1970-01-01T00:00:00Z")
		}
	case a.out.Target.Kind == KindAll, a.out.Target.Kind == KindClaims && !a.outlastsLogins():
		a.out.Before = MicrosOf(a.now.Truncate(time.Second).Add(time.Second))
	}
}

// outlastsLogins reports whether the target is one token or one session. Such a
// revocation has no cut-off by default: a session that is revoked stays revoked
// through refreshes.
func (a *acceptance) outlastsLogins() bool {
	return slices.ContainsFunc(a.out.Target.Claims, func(c Claim) bool { return c.Name == "jti" || c.Name == "sid" })
}

// end decides when the revocation ends.
func (a *acceptance) end() {
	member, at := "expires_at", a.ExpiresAt
	if at.IsZero() {
		at = a.latest
		if exp, ok := a.tokenEnd(); ok {
			member, at = "token", exp
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
		a.fault(member, "has expired already, so every replica denies it; there is nothing to revoke")
	case !at.After(a.now):
		a.fault(member, "must be later than now, %s", a.now.UTC().Format(time.RFC3339))
	case at.After(a.latest):
		a.fault(member, "must be at most %s: store.retention of the control endpoint allows no later end", a.latest.UTC().Format(time.RFC3339))
	}
	a.out.ExpiresAt = MicrosOf(at)
}

// tokenEnd returns the exp of a raw token. ok is false if the revocation need not
// last until then. No replica accepts a token that is signed with a secret, so
// its revocation may end earlier. Keycloak writes an exp of 0, or one that is
// months ahead, into such tokens.
func (a *acceptance) tokenEnd() (exp time.Time, ok bool) {
	if a.token == nil || !a.token.Expires.Set {
		return time.Time{}, false
	}
	exp = Micros(a.token.Expires.Micros).Time()
	if withSecret(a.token) && (a.token.Expires.Micros == 0 || exp.After(a.latest)) {
		return time.Time{}, false
	}
	return exp, true
}

func (a *acceptance) reason() {
	if len(a.Reason) > MaxReason {
		a.fault("reason", "has %d bytes; at most %d are possible", len(a.Reason), MaxReason)
	} else if err := printable.Check(a.Reason); err != nil {
		a.fault("reason", "%v", err)
	}
}
