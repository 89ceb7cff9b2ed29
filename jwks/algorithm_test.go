package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

const signingInput = "eyJhbGciOiJ4In0.e30"

func signed(t testing.TB, method jwt.SigningMethod, private any) []byte {
	t.Helper()
	signature, err := method.Sign(signingInput, private)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// Each algorithm accepts signatures of its own, and none of another algorithm, of
// another key or over another text.
func TestVerifyBindsTheAlgorithm(t *testing.T) {
	other := must(rsa.GenerateKey(rand.Reader, 2048))
	for alg, private := range map[string]crypto.Signer{
		"RS256": rsaKey(), "RS384": rsaKey(), "RS512": rsaKey(),
		"PS256": rsaKey(), "PS384": rsaKey(), "PS512": rsaKey(),
		"ES256": p256(), "ES384": p384(), "ES512": p521(),
		"EdDSA": edKey(), "Ed25519": edKey(),
	} {
		signature := signed(t, algorithms[alg].method, private)
		for name := range algorithms {
			err := Verify(name, Key{Public: private.Public()}, signingInput, signature)
			if want := canonical(name) == canonical(alg); (err == nil) != want {
				t.Errorf("a signature of %s verified as %s: got error %v, want acceptance %v", alg, name, err, want)
			}
			if err != nil && !errors.Is(err, ErrSignature) {
				t.Errorf("a signature of %s verified as %s: got error %v, want one that wraps ErrSignature", alg, name, err)
			}
		}
		if Verify(alg, Key{Public: other.Public()}, signingInput, signature) == nil {
			t.Errorf("%s by another key: accepted, want an error", alg)
		}
		if Verify(alg, Key{Public: private.Public()}, signingInput+"A", signature) == nil {
			t.Errorf("%s over another text: accepted, want an error", alg)
		}
		for _, bound := range []string{"RS256", "ES256", "EdDSA", "HS256", "none"} {
			err := Verify(alg, Key{Algorithm: bound, Public: private.Public()}, signingInput, signature)
			if want := canonical(bound) == canonical(alg); (err == nil) != want {
				t.Errorf("%s by a key whose JWK says %s: got error %v, want acceptance %v", alg, bound, err, want)
			}
		}
	}
}

func TestOnlyAsymmetricAlgorithmsAreSupported(t *testing.T) {
	for _, alg := range []string{"none", "None", "NONE", "", "HS256", "HS384", "HS512", "rs256", "RSA-OAEP", "dir", "ES256K", "Ed448"} {
		if Supported(alg) || Fits(alg, rsaKey().Public()) || Verify(alg, Key{Public: rsaKey().Public()}, signingInput, nil) == nil {
			t.Errorf("alg %q: supported, want not", alg)
		}
	}
	for _, alg := range append(DefaultAlgorithms, "Ed25519") {
		if !Supported(alg) {
			t.Errorf("alg %s: not supported, want it", alg)
		}
	}
}

// A public key is not a secret, so HMAC with it does not pass.
func TestHMACWithThePublicKey(t *testing.T) {
	secret := rsaKey().N.Bytes()
	signature := signed(t, jwt.SigningMethodHS256, secret)
	for _, alg := range []string{"HS256", "RS256"} {
		if Verify(alg, Key{Public: rsaKey().Public()}, signingInput, signature) == nil {
			t.Errorf("HMAC with the public key, verified as %s: accepted, want an error", alg)
		}
	}
}

// RFC 7518 section 3.5: the salt is as long as the hash.
func TestSaltOfPSS(t *testing.T) {
	for length, want := range map[int]bool{32: true, 1: false, 20: false, 31: false, 33: false, 64: false} {
		method := &jwt.SigningMethodRSAPSS{SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: length, Hash: crypto.SHA256}}
		err := Verify("PS256", Key{Public: rsaKey().Public()}, signingInput, signed(t, method, rsaKey()))
		if (err == nil) != want {
			t.Errorf("a salt of %d bytes: got error %v, want acceptance %v", length, err, want)
		}
	}
}

// golang-jwt's own parser is as strict, because the methods are registered there.
func TestParserUsesTheSameMethods(t *testing.T) {
	salted := &jwt.SigningMethodRSAPSS{SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA, Options: &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256}}
	for _, c := range []struct {
		name    string
		method  jwt.SigningMethod
		private crypto.Signer
		want    bool
	}{
		{"PS256", algorithms["PS256"].method, rsaKey(), true},
		{"PS256 with a short salt", salted, rsaKey(), false},
		{"Ed25519", algorithms["Ed25519"].method, edKey(), true},
		{"EdDSA", algorithms["EdDSA"].method, edKey(), true},
	} {
		token, err := jwt.New(c.method).SignedString(c.private)
		if err != nil {
			t.Fatal(err)
		}
		_, err = jwt.Parse(token, func(*jwt.Token) (any, error) { return c.private.Public(), nil })
		if (err == nil) != c.want {
			t.Errorf("%s: got error %v, want acceptance %v", c.name, err, c.want)
		}
	}
}

func TestFits(t *testing.T) {
	small := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	large := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 8192, 1), E: 65537}
	for _, c := range []struct {
		name string
		alg  string
		pub  crypto.PublicKey
		want bool
	}{
		{"RSA", "RS256", rsaKey().Public(), true},
		{"RSA 1024", "RS256", small, false},
		{"RSA 8193", "PS512", large, false},
		{"RSA, e = 1", "RS256", &rsa.PublicKey{N: rsaKey().N, E: 1}, false},
		{"RSA, e = 4", "RS256", &rsa.PublicKey{N: rsaKey().N, E: 4}, false},
		{"RSA without a modulus", "RS256", &rsa.PublicKey{}, false},
		{"nil of RSA", "RS256", (*rsa.PublicKey)(nil), false},
		{"P-256", "ES256", p256().Public(), true},
		{"P-256 with ES384", "ES384", p256().Public(), false},
		{"P-256 with ES512", "ES512", p256().Public(), false},
		{"P-521 with ES256", "ES256", p521().Public(), false},
		{"nil of ECDSA", "ES256", (*ecdsa.PublicKey)(nil), false},
		{"Ed25519", "EdDSA", edKey().Public(), true},
		{"Ed25519 too short", "EdDSA", ed25519.PublicKey{1}, false},
		{"a private key", "EdDSA", edKey(), false},
		{"no key", "EdDSA", nil, false},
		{"bytes", "HS256", []byte("secret"), false},
	} {
		if got := Fits(c.alg, c.pub); got != c.want {
			t.Errorf("Fits(%s) of %s: got %v, want %v", c.alg, c.name, got, c.want)
		}
	}
}
