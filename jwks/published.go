package jwks

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
)

// Published is a key of an issuer's document, for a look at the document by a
// person.
type Published struct {
	Key           // of a key that is not used, its ID alone
	Unused string // why the key is not used; empty if it is
}

// Fits reports whether the key may verify a token of this alg.
func (p Published) Fits(alg string) bool { return p.Unused == "" && p.fits(alg) }

// ReadPublished reads the document of an issuer once, within the bounds of a
// refresh, and returns its keys in the order of the document. It keeps nothing
// and replaces no key of a running [Keys]. It fails if there is no document, not
// if no key of the document is usable.
func ReadPublished(ctx context.Context, o Options) ([]Published, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	text, err := newSource(o).read(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := rawKeys(text)
	if err != nil {
		return nil, fmt.Errorf("the document is not a JWK Set: %w", err)
	}
	var all []Published
	for _, r := range raw[:min(len(raw), maxKeys)] {
		key, _, why := parseKey(r, o.Algorithms, o.KeyUses)
		all = append(all, Published{key, why})
	}
	return all, nil
}

// Kind returns the type and the size of a public key, for people.
func Kind(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC, " + pub.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown"
}
