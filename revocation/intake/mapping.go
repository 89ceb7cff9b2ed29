package intake

import (
	"maps"
	"slices"

	"rescind/jwks/jwt"
	"rescind/revocation"
)

// Kinds of names by which events name subjects, sessions and clients. Those of
// RFC 9493 have the names of its formats.
const (
	NameSub      = "sub"
	NameSession  = "sid"
	NameClient   = "client"
	NameEmail    = "email"
	NamePhone    = "phone_number"
	NameUser     = "username"
	NameOpaque   = "opaque"
	NameAccount  = "account"
	NameDID      = "did"
	NameURI      = "uri"
	NameExternal = "external_id"
)

// Map says which claim of a token carries a name of each kind. A kind without a
// claim cannot be revoked by, except for sub, sid and client, which have their
// usual claims.
type Map map[string]jwt.ClaimName

var usualClaims = Map{
	NameSub:     jwt.MemberName("sub"),
	NameSession: jwt.MemberName("sid"),
	NameClient:  jwt.MemberName(revocation.ClientNames[0]),
}

// NameKinds returns the kinds of names that a map may have, sorted.
func NameKinds() []string {
	return []string{NameAccount, NameClient, NameDID, NameEmail, NameExternal, NameOpaque, NamePhone, NameSession, NameSub, NameURI, NameUser}
}

// Claim returns the equality for a name of this kind. ok is false if no claim
// carries such names, or if the name is empty.
func (m Map) Claim(kind, value string) (_ revocation.Claim, ok bool) {
	name, ok := m.claim(kind)
	if !ok || value == "" {
		return revocation.Claim{}, false
	}
	v, ok := revocation.ValueOf(value)
	return revocation.Claim{Name: name.String(), Value: v}, ok
}

func (m Map) claim(kind string) (name jwt.ClaimName, ok bool) {
	if name, ok = m[kind]; !ok {
		name, ok = usualClaims[kind]
	}
	return name, ok
}

// power returns the power that an equality on this claim takes. A claim that the
// map does not name may be one that every token has.
func (m Map) power(claim string) Power {
	if name, err := revocation.ClaimName(claim); err == nil { // one name for every spelling
		claim = name
	}
	switch {
	case claim == "jti":
		return Token
	case claim == usualClaims[NameSession].String(), m.names(claim, NameSession):
		return Session
	case slices.Contains(revocation.ClientNames[:], claim), m.names(claim, NameClient):
		return Client
	case claim == usualClaims[NameSub].String():
		return Subject
	}
	for _, kind := range slices.Sorted(maps.Keys(m)) {
		if m.names(claim, kind) {
			return Subject
		}
	}
	return All
}

func (m Map) names(claim, kind string) bool {
	name, ok := m[kind]
	return ok && name.String() == claim
}

// powerOf returns the power that the target of a revocation takes. All
// equalities must hold, so the narrowest one decides.
func (m Map) powerOf(t *revocation.Target) Power {
	switch t.Kind {
	case revocation.KindToken:
		return Token
	case revocation.KindKeyID:
		return KeyID
	case revocation.KindClaims:
		narrowest := All
		for _, c := range t.Claims {
			if p := m.power(c.Name); slices.Index(reach, p) < slices.Index(reach, narrowest) {
				narrowest = p
			}
		}
		return narrowest
	}
	return All
}

// reach orders the powers of claims, from the narrowest.
var reach = []Power{Token, Session, Subject, Client, All}
