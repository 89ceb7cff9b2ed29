package revocation

import (
	"fmt"

	"rescind/jwks/jwt"
)

// rawToken makes a target of a raw token. It keeps the jti, or else the hash,
// and nothing else of the token. It does not verify the signature: a caller
// that may revoke by claims may revoke a token with any claims. Faults do not quote
// the token.
func (a *acceptance) rawToken() {
	t, err := readToken(a.Token)
	if err != nil {
		a.fault("token", "%s", err)
		return
	}
	a.token, a.out.Target = t, targetOf(t)
	switch {
	case a.Issuer == "":
		a.out.Issuer = t.Issuer
	case a.Issuer != t.Issuer:
		a.fault("issuer", "is not the issuer of the token; leave issuer out, it is read from the token")
	}
}

// TargetOfToken returns the issuer and the target of a revocation of a raw token.
func TargetOfToken(raw string) (issuer string, _ Target, err error) {
	t, err := readToken(raw)
	if err != nil {
		return "", Target{}, err
	}
	return t.Issuer, targetOf(t), nil
}

func targetOf(t *jwt.Token) Target {
	if id, _ := ValueOf(t.Claims["jti"]); id.text != "" && len(id.text) <= MaxValue {
		return Target{Kind: KindClaims, Claims: []Claim{{"jti", id}}}
	}
	return Target{Kind: KindToken, Token: t.Hash()}
}

// readToken reads a token as replicas do. A token that replicas refuse for its
// form cannot be revoked, and does not have to be.
func readToken(raw string) (*jwt.Token, error) {
	if len(raw) > MaxToken {
		return nil, fmt.Errorf("has %d bytes; at most %d are possible", len(raw), MaxToken)
	}
	t, err := jwt.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("is a token that no replica accepts: %w", err)
	}
	if t.Issuer = t.IssuerName(); t.Issuer == "" {
		return nil, fmt.Errorf("has no issuer (iss)")
	}
	return t, nil
}
