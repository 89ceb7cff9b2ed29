package authz

import (
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// verified is a token whose signature a key of its issuer has made. Its claims
// are the issuer's word.
type verified struct {
	*jwt.Token
	keyID string // of the key that made the signature, also where the token names none
	hash  [32]byte
}

// verify returns t as verified by the first of keys that made its signature.
func verify(t *jwt.Token, keys []jwks.Key) (_ *verified, ok bool) {
	for _, k := range keys {
		if jwks.Verify(t.Algorithm, k, t.Signed, t.Signature) == nil {
			return &verified{t, k.ID, t.Hash()}, true
		}
	}
	return nil, false
}

// has reports whether t has this claim. A claim that is null counts as absent.
func (t *verified) has(name jwt.ClaimName) bool {
	claim, _ := name.In(t.Claims)
	return claim != nil
}

// text returns a claim that is a string, a number or a boolean, as rescind shows
// it. It returns "" for every other claim.
func (t *verified) text(claim string) string { return revocation.Shown(t.Claims[claim]) }

// issuedAt returns iat, or 0 if t has none.
func (t *verified) issuedAt() revocation.Micros { return revocation.Micros(t.IssuedAt.Micros) }

// expires returns exp, or 0 if t has none.
func (t *verified) expires() revocation.Micros { return revocation.Micros(t.Expires.Micros) }

func (t *verified) facts() Facts {
	var clients Clients
	for i, name := range revocation.ClientNames {
		clients[i] = t.text(name)
	}
	return Facts{KeyID: t.keyID, Session: t.text("sid"), Clients: clients, IssuedAt: t.issuedAt(), Expires: t.expires(), Hash: t.hash, Claims: t.Claims}
}

// revocable returns t as the set of revocations looks it up. The hash leaves
// the signature out, because one token can have several signatures.
func (t *verified) revocable() revocation.Token {
	return revocation.Token{
		Issuer:      t.Issuer,
		KeyID:       t.keyID,
		Claims:      t.Claims,
		Hash:        t.hash,
		IssuedAt:    t.issuedAt(),
		HasIssuedAt: t.IssuedAt.Set,
	}
}
