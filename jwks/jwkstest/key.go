package jwkstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"
)

type key struct {
	id      string
	method  jwt.SigningMethod
	private crypto.Signer
}

func newKey(alg string) (key, error) {
	k := key{id: rand.Text(), method: jwt.GetSigningMethod(alg)}
	var err error
	switch alg {
	case "RS256", "PS256":
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, k.private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("test issuer: algorithm %q is not supported; use RS256, PS256, ES256 or EdDSA", alg)
	}
	return k, err
}

var b64 = base64.RawURLEncoding

func (k key) sign(header, claims map[string]any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	c, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(c)
	signature, err := k.method.Sign(signed, k.private)
	if err != nil {
		return "", err
	}
	return signed + "." + b64.EncodeToString(signature), nil
}

// jwk returns the public half as a JWK, RFC 7517.
func (k key) jwk() map[string]string {
	m := map[string]string{"kid": k.id, "alg": k.method.Alg(), "use": "sig"}
	switch pub := k.private.Public().(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64.EncodeToString(pub.N.Bytes()), b64.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			panic(err) // impossible for a key that newKey made
		}
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", pub.Params().Name, b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64.EncodeToString(pub)
	}
	return m
}
