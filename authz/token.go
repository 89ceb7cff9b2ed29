package authz

import (
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"strings"

	"rescind/jwks"
	"rescind/revocation"
)

// token is what the guard has read. Nothing in it is to be believed before a
// signature has been verified: until then issuer, keyID and algorithm choose
// the key, and that is all they do.
type token struct {
	algorithm string
	keyID     string // empty if the header has none
	typ       string // lower case, without "application/"; empty if the header has none

	issuer    string // empty if there is no iss
	claims    map[string]any
	expires   date
	notBefore date
	issuedAt  date
	signed    string   // header.payload
	hash      [32]byte // SHA-256 of signed; set once the signature is verified
	signature []byte
}

// date is a NumericDate that may be absent.
type date struct {
	at  revocation.Micros // rounded down
	set bool
}

// signedBy says whether one of keys made the signature.
func (t *token) signedBy(keys []jwks.Key) bool {
	for _, k := range keys {
		if jwks.Verify(t.algorithm, k, t.signed, t.signature) == nil {
			return true
		}
	}
	return false
}

// has says whether there is such a claim. null is nothing.
func (t *token) has(claim string) bool { return t.claims[claim] != nil }

// text is a claim that is a string, and empty otherwise.
func (t *token) text(claim string) string {
	s, _ := t.claims[claim].(string)
	return s
}

// facts are those of a token whose signature has been verified.
func (t *token) facts() *Facts {
	t.hash = sha256.Sum256([]byte(t.signed))
	client := t.text("client_id")
	if client == "" {
		client = t.text("azp")
	}
	return &Facts{KeyID: t.keyID, Session: t.text("sid"), Client: client, IssuedAt: t.issuedAt.at, Expires: t.expires.at, Hash: t.hash}
}

// revocable is t as it is looked up among the revocations. The hash is that of
// what was signed: a signature has several forms, and would not identify it.
func (t *token) revocable() *revocation.Token {
	return &revocation.Token{
		Issuer:      t.issuer,
		KeyID:       t.keyID,
		Claims:      t.claims,
		Hash:        t.hash,
		IssuedAt:    t.issuedAt.at,
		HasIssuedAt: t.issuedAt.set,
	}
}

// latest is the last NumericDate that we reckon with: 2^40 seconds, the year
// 36812.
const latest = revocation.Micros(1<<40) * 1_000_000

// micros reads a NumericDate from 0 to latest, exactly, rounded down to a
// microsecond. It works on the text, so no number is too long or too large to
// be refused at once.
func micros(n json.Number) (revocation.Micros, bool) {
	mantissa, exponent := string(n), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		e, err := strconv.ParseInt(mantissa[i+1:], 10, 32)
		if err != nil {
			return 0, false
		}
		mantissa, exponent = mantissa[:i], int(e)
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if strings.HasPrefix(digits, "-") {
		return 0, false
	}
	// The value in microseconds is digits times ten to the power of shift.
	shift := exponent - len(fraction) + 6
	switch {
	case digits == "" || len(digits)+shift <= 0:
		return 0, true
	case len(digits)+shift > 19:
		return 0, false
	case shift >= 0:
		digits += strings.Repeat("0", shift)
	default:
		digits = digits[:len(digits)+shift]
	}
	m, err := strconv.ParseInt(digits, 10, 64)
	return revocation.Micros(m), err == nil && revocation.Micros(m) <= latest
}
