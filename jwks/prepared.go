package jwks

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"math"

	"filippo.io/bigmod"
)

// prepared is an RSA key that is ready to verify PKCS #1 v1.5. crypto/rsa prepares a
// key for each signature anew, which is two fifths of a verification. A prepared key is
// made once, when the issuer publishes the key, and never changes.
//
// bigmod is crypto/rsa's own arithmetic as a module, by the same author. This type
// adds the comparison of RFC 8017, section 8.2.2. A fuzz test compares it with crypto/rsa.
type prepared struct {
	n        *bigmod.Modulus
	exponent uint
}

// prepare returns a sound RSA key as prepared, or nil for every other key. It returns
// nil as well in FIPS 140 mode, where crypto/rsa has to make the computation.
func prepare(pub crypto.PublicKey) *prepared {
	if !fitsRSA(pub) || fips140.Enabled() {
		return nil
	}
	key := pub.(*rsa.PublicKey)
	if key.N.Bit(0) == 0 || key.E > math.MaxInt32 { // crypto/rsa refuses it
		return nil
	}
	n, err := bigmod.NewModulus(key.N.Bytes())
	if err != nil {
		return nil
	}
	return &prepared{n, uint(key.E)}
}

// pkcs1 has the hash of each algorithm of this kind.
var pkcs1 = map[string]crypto.Hash{"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512}

// prefixes have the DER of DigestInfo up to the digest, RFC 8017, section 9.2.
var prefixes = map[crypto.Hash]string{
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

// verify reports whether the key made the signature over signingInput with this hash.
func (k *prepared) verify(hash crypto.Hash, signingInput string, signature []byte) bool {
	if len(signature) != k.n.Size() {
		return false
	}
	s, err := bigmod.NewNat().SetBytes(signature, k.n)
	if err != nil { // the signature is not less than the modulus
		return false
	}
	var space [maxRSABits / 8]byte
	wanted := k.encoded(space[:0], hash, signingInput)
	return bytes.Equal(bigmod.NewNat().ExpShortVarTime(s, k.exponent, k.n).Bytes(k.n), wanted)
}

// encoded appends the text that a signature stands for: EMSA-PKCS1-v1_5.
func (k *prepared) encoded(to []byte, hash crypto.Hash, signingInput string) []byte {
	prefix := prefixes[hash]
	to = append(to, 0, 1)
	for range k.n.Size() - 3 - len(prefix) - hash.Size() {
		to = append(to, 0xff)
	}
	to = append(append(to, 0), prefix...)
	switch hash {
	case crypto.SHA256:
		digest := sha256.Sum256([]byte(signingInput))
		return append(to, digest[:]...)
	case crypto.SHA384:
		digest := sha512.Sum384([]byte(signingInput))
		return append(to, digest[:]...)
	case crypto.SHA512:
		digest := sha512.Sum512([]byte(signingInput))
		return append(to, digest[:]...)
	}
	return nil // equal to no signature
}
