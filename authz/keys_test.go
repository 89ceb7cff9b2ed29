package authz

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Each algorithm verifies with its key, and with no other kind of key.
func TestAlgorithms(t *testing.T) {
	ec := func(curve elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p256, p384, p521 := ec(elliptic.P256()), ec(elliptic.P384()), ec(elliptic.P521())
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ed := edKey().private
	for _, c := range []struct {
		name   string
		signer signer
		alg    string // in the header, if it is another
		want   Reason
	}{
		{"RS256", signer{"RS256", "k", rsaKey().private}, "", OK},
		{"RS384", signer{"RS384", "k", rsaKey().private}, "", OK},
		{"RS512", signer{"RS512", "k", rsaKey().private}, "", OK},
		{"PS256", signer{"PS256", "k", rsaKey().private}, "", OK},
		{"PS384", signer{"PS384", "k", rsaKey().private}, "", OK},
		{"PS512", signer{"PS512", "k", rsaKey().private}, "", OK},
		{"ES256", signer{"ES256", "k", p256}, "", OK},
		{"ES384", signer{"ES384", "k", p384}, "", OK},
		{"ES512", signer{"ES512", "k", p521}, "", OK},
		{"EdDSA", signer{"EdDSA", "k", ed}, "", OK},
		{"Ed25519, its name in RFC 9864", signer{"Ed25519", "k", ed}, "", OK},
		{"RSA of 1024 bits", signer{"RS256", "k", small}, "", UnknownKey},
		{"RS256 that says PS256", signer{"RS256", "k", rsaKey().private}, "PS256", BadSignature},
		{"RS256 that says RS384", signer{"RS256", "k", rsaKey().private}, "RS384", BadSignature},
		{"a P-256 key that says ES512", signer{"ES256", "k", p256}, "ES512", UnknownKey},
		{"an RSA key that says ES256", signer{"RS256", "k", rsaKey().private}, "ES256", UnknownKey},
		{"none", signer{"EdDSA", "k", ed}, "none", UnsupportedAlgorithm},
		{"NoNe", signer{"EdDSA", "k", ed}, "NoNe", UnsupportedAlgorithm},
		{"HS256", signer{"EdDSA", "k", ed}, "HS256", UnsupportedAlgorithm},
		{"rs256", signer{"RS256", "k", rsaKey().private}, "rs256", UnsupportedAlgorithm},
		{"RSA-OAEP", signer{"RS256", "k", rsaKey().private}, "RSA-OAEP", UnsupportedAlgorithm},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := map[string]any{}
			if c.alg != "" {
				header["alg"] = c.alg
			}
			a := authorizer(t, options(t, c.signer))
			wantReason(t, c.name, a.Authorize(t.Context(), carrying(c.signer.typed(header, nil))), c.want)
		})
	}
	t.Run("HS256 with the public key as the secret", func(t *testing.T) {
		public := edKey().private.Public().(ed25519.PublicKey)
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": idp, "aud": "api", "exp": time.Now().Unix() + 60})
		token.Header["kid"] = edKey().kid
		raw, err := token.SignedString([]byte(public))
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, "HS256 by the public key", authorizer(t, options(t)).Authorize(t.Context(), carrying(raw)), UnsupportedAlgorithm)
	})
	t.Run("a PSS salt of another length", func(t *testing.T) {
		for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
			key := signer{alg, "k", rsaKey().private}
			raw := key.token(nil)
			signed := raw[:strings.LastIndexByte(raw, '.')]
			digest := hash.New()
			digest.Write([]byte(signed))
			for salt, want := range map[int]Reason{rsa.PSSSaltLengthEqualsHash: OK, hash.Size() - 1: BadSignature, 0: BadSignature} {
				o := &rsa.PSSOptions{SaltLength: salt}
				if salt == 0 {
					o.SaltLength = rsa.PSSSaltLengthAuto // as long as may be
				}
				signature, err := rsa.SignPSS(rand.Reader, rsaKey().private.(*rsa.PrivateKey), hash, digest.Sum(nil), o)
				if err != nil {
					t.Fatal(err)
				}
				wantReason(t, fmt.Sprintf("%s, salt of %d", alg, salt), authorizer(t, options(t, key)).Authorize(t.Context(), carrying(signed+"."+b64.EncodeToString(signature))), want)
			}
		}
	})
}

// A token that cannot be accepted causes no fetch of keys.
func TestKeysAreAskedForLast(t *testing.T) {
	key := edKey()
	o := options(t, key)
	keys := ringOf(key)
	o.Issuers[0].Keys = keys
	o.Issuers[0].Algorithms = []string{"ES256"}
	a := authorizer(t, o)
	for _, token := range []string{key.token(nil), key.typed(map[string]any{"alg": "HS512", "kid": "hidden"}, nil), key.typed(map[string]any{"alg": "none"}, nil), "x.y.z", key.token(map[string]any{"iss": "x"})} {
		if d := a.Authorize(t.Context(), carrying(token)); d.Allow {
			t.Errorf("%s: got %+v, want a denial", token, d)
		}
	}
	if len(keys.asked) > 0 {
		t.Errorf("keys asked for %q, want no question", keys.asked)
	}
	wantReason(t, "an accepted algorithm", a.Authorize(t.Context(), carrying(ecKey().token(nil))), UnknownKey)
	if want := []string{"ec1/ES256"}; !slices.Equal(keys.asked, want) {
		t.Errorf("keys asked for %q, want %q", keys.asked, want)
	}
}

// A key of one issuer verifies no token of another, also under the same kid.
func TestIssuersDoNotShareKeys(t *testing.T) {
	mine, theirs := newEd25519("k"), newEd25519("k")
	o := options(t, mine)
	o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(theirs), Audiences: []string{"api"}, MaxLifetime: time.Hour})
	a := authorizer(t, o)
	for _, c := range []struct {
		name  string
		token string
		want  Reason
	}{
		{"mine", mine.token(nil), OK},
		{"theirs", theirs.token(map[string]any{"iss": other}), OK},
		{"mine that says theirs", mine.token(map[string]any{"iss": other}), BadSignature},
		{"theirs that says mine", theirs.token(nil), BadSignature},
	} {
		wantReason(t, c.name, a.Authorize(t.Context(), carrying(c.token)), c.want)
	}
}

func TestTwoKeysUnderOneKid(t *testing.T) {
	one, two := newEd25519("k"), newEd25519("k")
	a := authorizer(t, options(t, one, two))
	for i, s := range []signer{one, two} {
		wantReason(t, fmt.Sprintf("key %d of the kid", i), a.Authorize(t.Context(), carrying(s.token(nil))), OK)
	}
	wantReason(t, "a stranger's key", a.Authorize(t.Context(), carrying(newEd25519("k").token(nil))), BadSignature)
}

// A token without a kid is tried against four keys, and not against five.
func TestTokensWithoutAKid(t *testing.T) {
	signers := []signer{newEd25519("a"), newEd25519("b"), newEd25519("c"), newEd25519("d"), newEd25519("e")}
	for n, want := range map[int]Reason{1: OK, 4: OK, 5: AmbiguousKey} {
		a := authorizer(t, options(t, signers[:n]...))
		for _, s := range signers[:n] {
			input := fmt.Sprintf("%d keys, signed by %s", n, s.kid)
			wantReason(t, input, a.Authorize(t.Context(), carrying(s.typed(map[string]any{"kid": nil}, nil))), want)
			wantReason(t, input+", with its kid", a.Authorize(t.Context(), carrying(s.token(nil))), OK)
		}
	}
}
