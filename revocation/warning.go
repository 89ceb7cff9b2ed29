package revocation

import (
	"fmt"
	"slices"
	"strings"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Warning is an effect of a revocation that its caller may not expect.
type Warning struct {
	Text  string // for the caller of one revocation
	Lines string // for the caller of an import; %d stands for the number of such lines
}

var session = jwt.MemberName("sid")

// Warnings returns the effects of r that its caller may not expect. It returns
// none for a request that [Request.Accept] refuses.
func (r *Request) Warnings() []Warning {
	if r.Token != "" {
		return tokenWarnings(r.Token)
	}
	if slices.ContainsFunc(r.Claims, func(c Claim) bool {
		name, err := jwt.ParseClaimName(c.Name)
		return err == nil && name == session
	}) {
		return []Warning{{
			"the session goes on at the issuer. Its tokens are denied here, also refreshed ones. End the session at the issuer too",
			"revocations of a session (sid): %d. The sessions go on at their issuers. End them there too",
		}}
	}
	return nil
}

// tokenWarnings warns of a token that is no access token. Its revocation denies
// the token itself, which a client does not send, and the access tokens beside it
// stay good.
func tokenWarnings(raw string) []Warning {
	t, err := readToken(raw)
	if err != nil {
		return nil
	}
	kind, sign := kindOf(t)
	if kind == "" {
		return nil
	}
	instead := "Revoke the access token itself"
	for _, name := range []string{"sid", "sub"} {
		if text := offered(t.Claims[name]); text != "" {
			instead = fmt.Sprintf("To deny those, revoke by %s %s", name, text)
			break
		}
	}
	return []Warning{{
		fmt.Sprintf("the token looks like %s token (%s). It alone is revoked, and access tokens of the same login stay good. %s", kind, sign, instead),
		"tokens that look like " + kind + " token: %d. They alone are revoked, and access tokens of the same logins stay good. Revoke by sid or sub to deny those",
	}}
}

// kindOf returns "an ID" or "a refresh", and the sign of it. It returns "" for a
// token that may be an access token.
func kindOf(t *jwt.Token) (kind, sign string) {
	typ, _ := t.Claims["typ"].(string)
	has := func(name string) bool { return t.Claims[name] != nil }
	switch {
	case typ == "Refresh" || typ == "Offline":
		return "a refresh", "its claim typ is " + typ
	case withSecret(t):
		return "a refresh", "it is signed with a secret of the issuer"
	case typ == "ID":
		return "an ID", "its claim typ is ID"
	case typ == "Bearer" || t.Type == "at+jwt":
		return "", ""
	case has("nonce"):
		return "an ID", "it has the claim nonce"
	case has("at_hash"):
		return "an ID", "it has the claim at_hash"
	}
	return "", ""
}

// withSecret reports whether t is signed with a secret that its issuer alone has,
// as Keycloak signs refresh tokens.
func withSecret(t *jwt.Token) bool { return strings.HasPrefix(t.Algorithm, "HS") }

// offered returns a claim as the text by which it can be revoked, or "".
func offered(claim any) string {
	v, _ := ValueOf(claim)
	if len(v.text) > MaxValue || !printable.Valid(v.text) {
		return ""
	}
	return v.text
}
