package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Key is a public key that may verify tokens of one issuer.
type Key struct {
	ID        string // kid; empty if the JWK has none
	Algorithm string // alg of the JWK, which binds; empty if it has none
	Public    crypto.PublicKey

	prepared *prepared // of Public, if the key is in use by [Keys] and RSA; else nil
}

func (k Key) fits(alg string) bool {
	return (k.Algorithm == "" || canonical(k.Algorithm) == canonical(alg)) && Fits(alg, k.Public)
}

func (k Key) equal(other Key) bool {
	pub, ok := k.Public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.ID == other.ID && k.Algorithm == other.Algorithm && pub.Equal(other.Public)
}

// fault says why a JWK is not used. It is a label of a metric, so it has no other
// values than these.
type fault string

const (
	usable           fault = ""
	faultMalformed   fault = "malformed"   // not a JSON object, a member of the wrong type, a duplicate member, or too long a kid
	faultType        fault = "type"        // a kty or crv without an algorithm here, as encryption keys have
	faultSymmetric   fault = "symmetric"   // oct
	faultPrivate     fault = "private"     // a published private key is no secret
	faultUse         fault = "use"         // use or key_ops exclude verifying
	faultPoint       fault = "point"       // not a point of the curve, or one under which anybody can sign
	faultSize        fault = "size"        // RSA below 2048 or above 8192 bits
	faultExponent    fault = "exponent"    // RSA with an even, small or huge exponent
	faultWeak        fault = "weak"        // RSA by a generator known to be broken
	faultCertificate fault = "certificate" // x5c holds another key
	faultAlgorithm   fault = "algorithm"   // alg contradicts the key, or is not in the issuer's list
	faultSurplus     fault = "surplus"     // beyond maxKeys
)

// why returns the reason for the log. m is nil where no member was read.
func (f fault) why(m *member) string {
	switch f {
	case faultType:
		if m.Curve != "" {
			return fmt.Sprintf("kty %q with crv %q is not supported", printable.Clean(m.Type, 20), printable.Clean(m.Curve, 20))
		}
		return fmt.Sprintf("kty %q is not supported", printable.Clean(m.Type, 20))
	case faultUse:
		return fmt.Sprintf("use %q or key_ops is not for verifying; see key_uses", printable.Clean(m.Use, 20))
	case faultAlgorithm:
		return fmt.Sprintf("alg %q does not fit the key, or is not in algorithms", printable.Clean(m.Algorithm, 20))
	default:
		return reasons[f]
	}
}

var reasons = map[fault]string{
	faultMalformed:   "the JWK is malformed",
	faultSymmetric:   "the key is a shared secret",
	faultPrivate:     "the key is private, and published, so it proves nothing",
	faultPoint:       "the key is no sound point of its curve",
	faultSize:        "the RSA key has less than 2048 or more than 8192 bits",
	faultExponent:    "the RSA exponent is even, below 3 or above 2^31",
	faultWeak:        "the RSA key was made by a generator known to be broken (ROCA)",
	faultCertificate: "x5c holds another key",
	faultSurplus:     "the set has more than 100 keys",
}

// member has the members of a JWK, RFC 7517 and 7518. Unknown members are
// ignored, as the RFC demands. null counts as absent, because serializers write
// it.
type member struct {
	Type         string         `json:"kty"`
	ID           string         `json:"kid"`
	Use          string         `json:"use"`
	Operations   []string       `json:"key_ops"`
	Algorithm    string         `json:"alg"`
	Certificates jsontext.Value `json:"x5c"`

	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
	N     string `json:"n"`
	E     string `json:"e"`

	// Only a secret has these.
	D   jsontext.Value `json:"d"`
	P   jsontext.Value `json:"p"`
	Q   jsontext.Value `json:"q"`
	DP  jsontext.Value `json:"dp"`
	DQ  jsontext.Value `json:"dq"`
	QI  jsontext.Value `json:"qi"`
	OTH jsontext.Value `json:"oth"`
	K   jsontext.Value `json:"k"`
}

// parseKey reads one JWK. A key without a fault is public, made for verifying,
// sound, and fit for one of the algorithms in list. Of a key with a fault only the
// ID is returned, with the reason for the log.
func parseKey(raw jsontext.Value, list, uses []string) (_ Key, _ fault, why string) {
	var m member
	switch {
	case raw.Kind() != '{' || json.Unmarshal(raw, &m) != nil:
		return Key{ID: m.ID}, faultMalformed, faultMalformed.why(&m)
	case utf8.RuneCountInString(m.ID) > jwt.MaxKeyID:
		return Key{ID: m.ID}, faultMalformed, fmt.Sprintf("the kid has more than %d characters", jwt.MaxKeyID)
	}
	key, f := m.key(list, uses)
	if f != usable {
		return Key{ID: m.ID}, f, f.why(&m)
	}
	return key, usable, ""
}

func (m *member) key(list, uses []string) (Key, fault) {
	if f := m.purpose(uses); f != usable {
		return Key{}, f
	}
	pub, f := m.public()
	if f != usable {
		return Key{}, f
	}
	key := Key{ID: m.ID, Algorithm: m.Algorithm, Public: pub}
	if !m.certified(pub) {
		return Key{}, faultCertificate
	}
	if m.Algorithm != "" && !listed(list, m.Algorithm) || !slices.ContainsFunc(list, key.fits) {
		return Key{}, faultAlgorithm
	}
	return key, usable
}

// purpose returns the fault of a key that is secret or not made for verifying.
func (m *member) purpose(uses []string) fault {
	if m.Type == "oct" {
		return faultSymmetric
	}
	for _, secret := range []jsontext.Value{m.D, m.P, m.Q, m.DP, m.DQ, m.QI, m.OTH, m.K} {
		if len(secret) > 0 && secret.Kind() != 'n' {
			return faultPrivate
		}
	}
	if m.Use != "" && !slices.Contains(uses, m.Use) || m.Operations != nil && !slices.Contains(m.Operations, "verify") {
		return faultUse
	}
	return usable
}

func (m *member) public() (crypto.PublicKey, fault) {
	switch m.Type {
	case "RSA":
		return m.rsa()
	case "EC":
		return m.ec()
	case "OKP":
		return m.okp()
	default:
		return nil, faultType
	}
}

func (m *member) rsa() (crypto.PublicKey, fault) {
	n, okN := integer(m.N)
	e, okE := integer(m.E)
	switch {
	case !okN || !okE:
		return nil, faultMalformed
	case n.BitLen() < minRSABits || n.BitLen() > maxRSABits || n.Bit(0) == 0:
		return nil, faultSize
	case !e.IsInt64() || e.Int64() > math.MaxInt32 || e.Int64() < 3 || e.Bit(0) == 0:
		return nil, faultExponent
	case madeByROCA(n):
		return nil, faultWeak
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, usable
}

func (m *member) ec() (crypto.PublicKey, fault) {
	var curve elliptic.Curve
	switch m.Curve {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, faultType
	}
	x, okX := integer(m.X)
	y, okY := integer(m.Y)
	size := (curve.Params().BitSize + 7) / 8
	switch {
	case !okX || !okY:
		return nil, faultMalformed
	case x.BitLen() > 8*size || y.BitLen() > 8*size:
		return nil, faultPoint
	}
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed
	x.FillBytes(point[1 : 1+size])
	y.FillBytes(point[1+size:])
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, faultPoint
	}
	return pub, usable
}

func (m *member) okp() (crypto.PublicKey, fault) {
	if m.Curve != "Ed25519" {
		return nil, faultType
	}
	x, ok := octets(m.X)
	if !ok {
		return nil, faultMalformed
	}
	if !soundEd25519(x) {
		return nil, faultPoint
	}
	return ed25519.PublicKey(x), usable
}

// certified reports whether the first certificate of x5c does not hold another
// key. A key is trusted for the place where it was read, so the chain is not
// verified. An x5c that cannot be parsed says nothing: some issuers publish a
// certificate with a negative serial number there, or a bare public key.
func (m *member) certified(pub crypto.PublicKey) bool {
	var chain []string
	if json.Unmarshal(m.Certificates, &chain) != nil || len(chain) == 0 {
		return true
	}
	der, err := base64.StdEncoding.DecodeString(chain[0])
	if err != nil {
		return true
	}
	certificate, err := x509.ParseCertificate(der)
	return err != nil || (Key{Public: pub}).equal(Key{Public: certificate.PublicKey})
}

// octets reads base64url, also with the padding that some issuers add.
func octets(text string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return b, err == nil && len(b) > 0
}

func integer(text string) (*big.Int, bool) {
	b, ok := octets(text)
	return new(big.Int).SetBytes(b), ok
}
