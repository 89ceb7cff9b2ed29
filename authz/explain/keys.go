package explain

import (
	"slices"

	"rescind/authz"
	"rescind/jwks"
)

// keys explains a token without a key: its own kid and alg, and each key that its
// issuer publishes.
func (e *explanation) keys() {
	kid := "kid of the header: absent"
	if e.token.KeyID != "" {
		kid = printf("kid of the header: %s", quote(e.token.KeyID))
	}
	e.add(Finding{Token: printf("%s, alg: %s", kid, quote(e.token.Algorithm))})
	if e.Keys == nil {
		e.note("--fetch-keys, beside --config, lists the keys that the issuer publishes")
		return
	}
	signer := false
	for _, p := range e.Keys.Published[:min(len(e.Keys.Published), 4*longestList)] {
		signed := p.Unused == "" && jwks.Verify(e.token.Algorithm, p.Key, e.token.Signed, e.token.Signature) == nil
		signer = signer || signed
		e.add(Finding{Key: e.keyText(p), Note: e.keyNote(p, signed)})
	}
	if more := len(e.Keys.Published) - 4*longestList; more > 0 {
		e.note("and %d more keys", more)
	}
	e.verdict(signer)
}

func (e *explanation) keyText(p jwks.Published) string {
	id := "without a kid"
	if p.ID != "" {
		id = quote(p.ID)
	}
	switch {
	case p.Unused != "":
		return id
	case p.Algorithm != "":
		return printf("%s (%s, for %s)", id, jwks.Kind(p.Public), p.Algorithm)
	}
	return printf("%s (%s)", id, jwks.Kind(p.Public))
}

func (e *explanation) keyNote(p jwks.Published, signed bool) string {
	switch {
	case p.Unused != "":
		return printf("not used: %s", p.Unused)
	case !p.Fits(e.token.Algorithm):
		return "for another alg"
	case signed && (e.token.KeyID == "" || p.ID == e.token.KeyID):
		return "made the signature"
	case signed:
		return "made the signature, and has another kid than the token names"
	case e.token.KeyID != "" && p.ID != e.token.KeyID:
		return "has another kid"
	}
	return "did not make the signature"
}

// verdict returns the conclusion about the reason from the keys at hand.
func (e *explanation) verdict(signer bool) {
	named := slices.ContainsFunc(e.Keys.Published, func(p jwks.Published) bool { return p.Unused == "" && p.ID == e.token.KeyID })
	switch {
	case len(e.Keys.Published) == 0:
		e.note("%s holds no key", e.Keys.Source)
	case e.Reason == authz.AmbiguousKey:
		e.note("a token without a kid is tried against at most four keys that fit its alg; the issuer must name the key")
	case e.Reason == authz.BadSignature && signer:
		e.note("%s holds the key that made the signature, and the replica does not yet: the issuer has changed a key and kept its kid", e.Keys.Source)
	case e.Reason == authz.BadSignature:
		e.note("no key of %s made the signature: the token was changed, or comes from somebody else", e.Keys.Source)
	case signer && e.token.KeyID != "":
		e.note("the key that made the signature has another kid in %s, so the replica does not try it; the issuer must name the key as it publishes it", e.Keys.Source)
	case named:
		e.note("%s holds the key now, and the replica does not yet: its log says why the last refresh of the keys failed", e.Keys.Source)
	default:
		e.note("%s holds no key of this kid: the issuer has removed it, or the token comes from another issuer of the same name", e.Keys.Source)
	}
}
