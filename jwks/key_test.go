package jwks

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"rescind/test/testcert"
)

// modulus returns an odd number of this many bits, whose factors are unknown.
func modulus(bits int) string {
	n := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits))))
	n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
	return b64.EncodeToString(n.Bytes())
}

// infineon is a modulus as the library with CVE-2017-15361 makes them: a power
// of 65537 modulo the product of the small primes.
func infineon() string {
	product := big.NewInt(2)
	for _, p := range rocaPrimes {
		product.Mul(product, big.NewInt(p))
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(4711), product)
	lead := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.Add(n, lead.Sub(lead, new(big.Int).Mod(lead, product)).Add(lead, product))
	return b64.EncodeToString(n.Bytes())
}

// certificate returns an x5c element: a certificate that holds this key.
func certificate(t *testing.T, pub crypto.PublicKey) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString(testcert.NewAuthority(t, "idp").Certify(t, "idp", pub).Raw)
}

// negativeSerial returns an x5c element of edKey that crypto/x509 cannot parse.
func negativeSerial(t *testing.T) string {
	t.Helper()
	der := must(base64.StdEncoding.DecodeString(certificate(t, edKey().Public())))
	version := []byte{0xa0, 3, 2, 1, 2} // the serial number follows: its tag, its length and its bytes
	der[bytes.Index(der, version)+len(version)+2] |= 0x80
	if _, err := x509.ParseCertificate(der); err == nil || !strings.Contains(err.Error(), "negative serial") {
		t.Fatalf("got error %v, want that of a negative serial number", err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// Each rule stands beside a key that just meets it.
func TestKeyRules(t *testing.T) {
	rsa, ec, ed := jwk(rsaKey().Public(), nil), jwk(p256().Public(), nil), jwk(edKey().Public(), nil)
	otherX := jwk(p384().Public(), nil)["x"]
	for _, c := range []struct {
		name    string
		base    map[string]any
		changes map[string]any
		fault   fault
	}{
		{"RSA", rsa, nil, usable},
		{"EC P-256", ec, nil, usable},
		{"EC P-384", jwk(p384().Public(), nil), nil, usable},
		{"EC P-521", jwk(p521().Public(), nil), nil, usable},
		{"Ed25519", ed, nil, usable},
		{"with everything that is usual", rsa, map[string]any{"kid": "1", "alg": "RS256", "use": "sig", "key_ops": []string{"verify"}, "x5t": "x", "iat": 1, "vendor": map[string]any{"a": []int{1}}}, usable},
		{"padded base64url", ed, map[string]any{"x": ed["x"].(string) + "="}, usable},
		{"null for absent", rsa, map[string]any{"use": json.RawMessage("null"), "d": json.RawMessage("null"), "alg": json.RawMessage("null"), "key_ops": json.RawMessage("null")}, usable},

		{"a kid of 256 characters", ed, map[string]any{"kid": strings.Repeat("é", 256)}, usable},
		{"a kid of 257 characters, which could not be revoked", ed, map[string]any{"kid": strings.Repeat("é", 257)}, faultMalformed},
		{"kid is a number", ed, map[string]any{"kid": 1}, faultMalformed},
		{"key_ops is a string", ed, map[string]any{"key_ops": "verify"}, faultMalformed},
		{"x is missing", ed, map[string]any{"x": nil}, faultMalformed},
		{"x is standard base64", ed, map[string]any{"x": strings.Repeat("+", 43)}, faultMalformed},
		{"n is missing", rsa, map[string]any{"n": nil}, faultMalformed},
		{"e is empty", rsa, map[string]any{"e": ""}, faultMalformed},
		{"y is missing", ec, map[string]any{"y": nil}, faultMalformed},

		{"no kty", ed, map[string]any{"kty": nil}, faultType},
		{"kty in lower case", rsa, map[string]any{"kty": "rsa"}, faultType},
		{"an AKP key of RFC 9964", ed, map[string]any{"kty": "AKP"}, faultType},
		{"X25519, for encryption", ed, map[string]any{"crv": "X25519"}, faultType},
		{"Ed448", ed, map[string]any{"crv": "Ed448"}, faultType},
		{"secp256k1", ec, map[string]any{"crv": "secp256k1"}, faultType},
		{"no crv", ec, map[string]any{"crv": nil}, faultType},

		{"oct", map[string]any{"kty": "oct", "k": "c2VjcmV0"}, nil, faultSymmetric},
		{"d", ed, map[string]any{"d": "AAAA"}, faultPrivate},
		{"d is not even a string", rsa, map[string]any{"d": 0}, faultPrivate},
		{"p", rsa, map[string]any{"p": "AAAA"}, faultPrivate},
		{"q", rsa, map[string]any{"q": "AAAA"}, faultPrivate},
		{"dp", rsa, map[string]any{"dp": "AAAA"}, faultPrivate},
		{"dq", rsa, map[string]any{"dq": "AAAA"}, faultPrivate},
		{"qi", rsa, map[string]any{"qi": "AAAA"}, faultPrivate},
		{"oth", rsa, map[string]any{"oth": []any{}}, faultPrivate},
		{"k beside a public key", rsa, map[string]any{"k": "AAAA"}, faultPrivate},

		{"use: enc", rsa, map[string]any{"use": "enc"}, faultUse},
		{"a use of its own", rsa, map[string]any{"use": "tls"}, faultUse},
		{"use in upper case", rsa, map[string]any{"use": "SIG"}, faultUse},
		{"key_ops without verify", rsa, map[string]any{"key_ops": []string{"sign", "wrapKey"}}, faultUse},
		{"key_ops empty", rsa, map[string]any{"key_ops": []string{}}, faultUse},
		{"key_ops with verify among others", rsa, map[string]any{"key_ops": []string{"sign", "verify"}}, usable},

		{"RSA 1024", rsa, map[string]any{"n": modulus(1024)}, faultSize},
		{"RSA 2047", rsa, map[string]any{"n": modulus(2047)}, faultSize},
		{"RSA 2048", rsa, map[string]any{"n": modulus(2048)}, usable},
		{"RSA 8192", rsa, map[string]any{"n": modulus(8192)}, usable},
		{"RSA 8193", rsa, map[string]any{"n": modulus(8193)}, faultSize},
		{"RSA, even", rsa, map[string]any{"n": b64.EncodeToString(new(big.Int).Lsh(big.NewInt(3), 2046).Bytes())}, faultSize},
		{"RSA by CVE-2017-15361", rsa, map[string]any{"n": infineon()}, faultWeak},
		{"e = 1", rsa, map[string]any{"e": "AQ"}, faultExponent},
		{"e = 2", rsa, map[string]any{"e": "Ag"}, faultExponent},
		{"e = 3", rsa, map[string]any{"e": "Aw"}, usable},
		{"e = 65536", rsa, map[string]any{"e": "AQAA"}, faultExponent},
		{"e = 2^31+1", rsa, map[string]any{"e": "gAAAAQ"}, faultExponent},
		{"e = 2^64+1", rsa, map[string]any{"e": "AQAAAAAAAAAB"}, faultExponent},

		{"off the curve", ec, map[string]any{"x": ec["y"]}, faultPoint},
		{"the point at infinity", ec, map[string]any{"x": b64.EncodeToString(make([]byte, 32)), "y": b64.EncodeToString(make([]byte, 32))}, faultPoint},
		{"a coordinate too long", ec, map[string]any{"x": otherX}, faultPoint},
		{"Ed25519, too short", ed, map[string]any{"x": "AAAA"}, faultPoint},
		{"Ed25519, of small order", ed, map[string]any{"x": b64.EncodeToString(make([]byte, 32))}, faultPoint},

		{"x5c of this key", ed, map[string]any{"x5c": []string{certificate(t, edKey().Public())}}, usable},
		{"x5c with a chain", ec, map[string]any{"x5c": []string{certificate(t, p256().Public()), certificate(t, edKey().Public())}}, usable},
		{"x5c of another key", ec, map[string]any{"x5c": []string{certificate(t, edKey().Public())}}, faultCertificate},
		{"x5c with a negative serial number", ed, map[string]any{"x5c": []string{negativeSerial(t)}}, usable},
		{"x5c is a bare public key", ed, map[string]any{"x5c": []string{base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(edKey().Public())))}}, usable},
		{"x5c is no certificate", ed, map[string]any{"x5c": []string{"AAAA"}}, usable},
		{"x5c is not base64", ed, map[string]any{"x5c": []string{"-"}}, usable},
		{"x5c is empty", ed, map[string]any{"x5c": []string{}}, usable},
		{"x5c is a text", ed, map[string]any{"x5c": certificate(t, p256().Public())}, usable},
		{"x5c broken further up", ed, map[string]any{"x5c": []string{certificate(t, edKey().Public()), "AAAA"}}, usable},
		{"x5c of another key, broken further up", ed, map[string]any{"x5c": []string{certificate(t, p256().Public()), "AAAA"}}, faultCertificate},

		{"alg of another type", ec, map[string]any{"alg": "RS256"}, faultAlgorithm},
		{"alg of another curve", ec, map[string]any{"alg": "ES512"}, faultAlgorithm},
		{"alg of encryption", rsa, map[string]any{"alg": "RSA-OAEP"}, faultAlgorithm},
		{"alg: none", rsa, map[string]any{"alg": "none"}, faultAlgorithm},
		{"alg: HS256", rsa, map[string]any{"alg": "HS256"}, faultAlgorithm},
		{"alg: Ed25519, as in RFC 9864", ed, map[string]any{"alg": "Ed25519"}, usable},
		{"alg: EdDSA", ed, map[string]any{"alg": "EdDSA"}, usable},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, f, _ := parseKey(must(json.Marshal(with(c.base, c.changes))), DefaultAlgorithms, DefaultKeyUses)
			if f != c.fault {
				t.Fatalf("got fault %q, want %q", f, c.fault)
			}
			if (f == usable) != (key.Public != nil) {
				t.Errorf("got a key of %T and fault %q, want one of them", key.Public, f)
			}
		})
	}
}

func TestKeyText(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"null", "null"},
		{"an array", "[]"},
		{"a member twice", `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a","kid":"b"}`},
		{"invalid UTF-8", "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"kid\":\"\xff\"}"},
	} {
		if _, f, _ := parseKey([]byte(c.text), DefaultAlgorithms, DefaultKeyUses); f != faultMalformed {
			t.Errorf("%s: got fault %q, want %q", c.name, f, faultMalformed)
		}
	}
	// The names of members are exact: KTY and D are unknown members.
	key, f, _ := parseKey([]byte(`{"KTY":"oct","D":1,"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`), DefaultAlgorithms, DefaultKeyUses)
	if f != usable || key.ID != "" {
		t.Errorf("names in another case: got fault %q, want %q", f, usable)
	}
}

func TestKeyMustFitTheIssuersList(t *testing.T) {
	for _, c := range []struct {
		name string
		key  map[string]any
		list []string
		want fault
	}{
		{"a type that no algorithm has", jwk(p256().Public(), nil), []string{"RS256"}, faultAlgorithm},
		{"an alg that is not listed", jwk(rsaKey().Public(), map[string]any{"alg": "PS256"}), []string{"RS256"}, faultAlgorithm},
		{"one that is", jwk(rsaKey().Public(), map[string]any{"alg": "PS256"}), []string{"RS256", "PS256"}, usable},
		{"by its other name", jwk(edKey().Public(), map[string]any{"alg": "Ed25519"}), []string{"EdDSA"}, usable},
		{"by its other name, the other way", jwk(edKey().Public(), map[string]any{"alg": "EdDSA"}), []string{"Ed25519"}, usable},
	} {
		if _, f, _ := parseKey(must(json.Marshal(c.key)), c.list, DefaultKeyUses); f != c.want {
			t.Errorf("%s: got fault %q, want %q", c.name, f, c.want)
		}
	}
}

// The points are those whose order divides 8, in every form that Ed25519 reads.
func TestEd25519KeysOfSmallOrder(t *testing.T) {
	for _, text := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // y = p+1
		"0200000000000000000000000000000000000000000000000000000000000000", // no point
	} {
		if soundEd25519(must(hex.DecodeString(text))) {
			t.Errorf("soundEd25519(%s): got true, want false", text)
		}
	}
	for range 200 {
		if pub := newEd25519().Public().(ed25519.PublicKey); !soundEd25519(pub) {
			t.Errorf("soundEd25519(%x): got false, want true", pub)
		}
	}
}

func TestHonestModuliAreNotTakenForROCA(t *testing.T) {
	for range 500 {
		if n, _ := integer(modulus(2048)); madeByROCA(n) {
			t.Errorf("madeByROCA(%x): got true, want false", n)
		}
	}
}

// The log names every key that is not used, and why.
func TestSkippedKeysAreNamed(t *testing.T) {
	o := originOf(document(kid("good"),
		with(kid("ed448"), map[string]any{"crv": "Ed448"}),
		with(kid("enc-1"), map[string]any{"use": "enc"}),
		jwk(p256().Public(), map[string]any{"kid": "other", "x5c": []string{certificate(t, edKey().Public())}}),
		with(kid("line\nbreak"), map[string]any{"kty": "oct"}),
	))
	var log bytes.Buffer
	opts := o.options()
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		for _, part := range []string{
			`\"ed448\" (kty \"OKP\" with crv \"Ed448\" is not supported)`,
			`\"enc-1\" (use \"enc\" or key_ops is not for verifying; see key_uses)`,
			`\"other\" (x5c holds another key)`, "(the key is a shared secret)",
		} {
			text := strings.ReplaceAll(part, `\"`, `"`)
			if got := k.current.Load().skipped.String(); !strings.Contains(got, text) {
				t.Errorf("got skipped keys %s, want them to have %s", got, text)
			}
		}
		_, err := k.Find(background, "ed448", "EdDSA")
		if !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), `"Ed448" is not supported`) {
			t.Errorf("Find of the Ed448 key: got error %v, want one that says it is not supported", err)
		}
	})
	if !strings.Contains(log.String(), "ed448") || strings.Contains(log.String(), "line\nbreak") {
		t.Errorf("got log %s, want the skipped kids in it and no line break of the issuer", log.String())
	}
}

func TestKeyUses(t *testing.T) {
	svid := with(kid("a"), map[string]any{"use": "jwt-svid"})
	for _, c := range []struct {
		use  any
		uses []string
		want fault
	}{
		{"jwt-svid", []string{"sig"}, faultUse},
		{"jwt-svid", []string{"jwt-svid"}, usable},
		{"sig", []string{"jwt-svid"}, faultUse},
		{"sig", []string{"sig", "jwt-svid"}, usable},
		{"x509-svid", []string{"jwt-svid"}, faultUse},
		{nil, []string{"jwt-svid"}, usable},
	} {
		if _, f, _ := parseKey(must(json.Marshal(with(svid, map[string]any{"use": c.use}))), DefaultAlgorithms, c.uses); f != c.want {
			t.Errorf("use %v with key_uses %v: got fault %q, want %q", c.use, c.uses, f, c.want)
		}
	}
	for _, use := range []string{"", "enc", "x509-svid"} {
		if err := (Options{Issuer: idp, URI: idp, KeyUses: []string{use}}).Validate(); err == nil {
			t.Errorf("key_uses [%q]: got no error, want one", use)
		}
	}
}

// A SPIRE server publishes its trust bundle as a JWK Set: authorities for X.509
// without a kid, keys for JWTs with one, and two members of its own.
func TestSPIREBundleEndpoint(t *testing.T) {
	bundle := `{"spiffe_sequence":12,"spiffe_refresh_hint":300,"keys":[` +
		string(must(json.Marshal(jwk(p256().Public(), map[string]any{"use": "x509-svid", "x5c": []string{certificate(t, p256().Public())}})))) + "," +
		string(must(json.Marshal(jwk(p256().Public(), map[string]any{"use": "jwt-svid", "kid": "C6vs25welZOx6WksNYfbMfiw9l96pMnD"})))) + `]}`
	opts := originOf(bundle).options()
	opts.Issuer, opts.KeyUses = "spiffe://example.org", []string{"jwt-svid"}
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		wantFound(t, k, "C6vs25welZOx6WksNYfbMfiw9l96pMnD", "ES256", 1, nil)
		if st := k.Status(); st.Keys != 1 || st.LastError != "" {
			t.Errorf("got status %+v, want the key for JWTs alone and no error", st)
		}
	})
}
