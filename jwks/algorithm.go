package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// DefaultAlgorithms are the algorithms of an issuer that names none.
var DefaultAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// ErrSignature reports that a signature was not made by this key with this
// algorithm, or that the key does not fit the algorithm.
var ErrSignature = errors.New("the signature was not made by this key")

// algorithms has every algorithm that may be configured. All are asymmetric.
var algorithms = map[string]algorithm{
	"RS256":   {jwt.SigningMethodRS256, fitsRSA},
	"RS384":   {jwt.SigningMethodRS384, fitsRSA},
	"RS512":   {jwt.SigningMethodRS512, fitsRSA},
	"PS256":   {saltAsLongAsHash(jwt.SigningMethodPS256), fitsRSA},
	"PS384":   {saltAsLongAsHash(jwt.SigningMethodPS384), fitsRSA},
	"PS512":   {saltAsLongAsHash(jwt.SigningMethodPS512), fitsRSA},
	"ES256":   {jwt.SigningMethodES256, fitsCurve(elliptic.P256())},
	"ES384":   {jwt.SigningMethodES384, fitsCurve(elliptic.P384())},
	"ES512":   {jwt.SigningMethodES512, fitsCurve(elliptic.P521())},
	"EdDSA":   {jwt.SigningMethodEdDSA, fitsEd25519},
	"Ed25519": {fullySpecified{jwt.SigningMethodEdDSA}, fitsEd25519},
}

type algorithm struct {
	method jwt.SigningMethod
	fits   func(crypto.PublicKey) bool
}

// golang-jwt finds methods by name in a table of its own. The table's methods
// accept any PSS salt, where RFC 7518, section 3.5, demands one as long as the
// hash, and do not know RFC 9864. With these methods its parser agrees with
// Verify.
func init() {
	for name, a := range algorithms {
		jwt.RegisterSigningMethod(name, func() jwt.SigningMethod { return a.method })
	}
}

func saltAsLongAsHash(lax *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: lax.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// fullySpecified is EdDSA under the name that RFC 9864 gives it on this curve.
type fullySpecified struct{ *jwt.SigningMethodEd25519 }

func (fullySpecified) Alg() string { return "Ed25519" }

// Supported reports whether alg may be configured.
func Supported(alg string) bool {
	_, ok := algorithms[alg]
	return ok
}

// Fits reports whether a key of this type, curve and size may verify signatures
// of alg.
func Fits(alg string, pub crypto.PublicKey) bool {
	a, ok := algorithms[alg]
	return ok && a.fits(pub)
}

// Verify returns ErrSignature unless key made the signature over signingInput,
// which is the token up to its last dot. It does not rely on Find: the key must
// fit alg, and the alg that its JWK names.
func Verify(alg string, key Key, signingInput string, signature []byte) error {
	if !key.fits(alg) {
		return fmt.Errorf("%w: the key does not fit %s", ErrSignature, alg)
	}
	if hash, ok := pkcs1[alg]; ok && key.prepared != nil {
		if !key.prepared.verify(hash, signingInput, signature) {
			return ErrSignature
		}
		return nil
	}
	if err := algorithms[alg].method.Verify(signingInput, signature, key.Public); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// canonical returns one name for the algorithm that has two.
func canonical(alg string) string {
	if alg == "Ed25519" {
		return "EdDSA"
	}
	return alg
}

// listed reports whether list has alg, by either of its names.
func listed(list []string, alg string) bool {
	return slices.ContainsFunc(list, func(a string) bool { return canonical(a) == canonical(alg) })
}

const (
	minRSABits = 2048
	maxRSABits = 8192 // a larger key makes a verification too slow for a request
)

func fitsRSA(pub crypto.PublicKey) bool {
	key, ok := pub.(*rsa.PublicKey)
	if !ok || key == nil || key.N == nil {
		return false
	}
	bits := key.N.BitLen()
	return bits >= minRSABits && bits <= maxRSABits && key.E >= 3 && key.E%2 == 1
}

func fitsCurve(curve elliptic.Curve) func(crypto.PublicKey) bool {
	return func(pub crypto.PublicKey) bool {
		key, ok := pub.(*ecdsa.PublicKey)
		return ok && key != nil && key.Curve == curve
	}
}

func fitsEd25519(pub crypto.PublicKey) bool {
	key, ok := pub.(ed25519.PublicKey)
	return ok && len(key) == ed25519.PublicKeySize
}
