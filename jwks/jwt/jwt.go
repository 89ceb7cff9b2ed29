// Package jwt is the one reader of signed JWTs. The decision about a request,
// the admin API and every intake of tokens read through it, so a token means
// the same to all of them.
//
// # Trust
//
// A reader gets tokens that anybody may have made. [Parse] refuses each token
// that two readers could understand differently, also a signed one: duplicate
// members, invalid UTF-8, names that differ in case alone, base64url that is
// not canonical. No other decoder sees the bytes. Nothing in a [Token] is to be
// believed before the caller has verified its signature. Until then Issuer,
// KeyID and Algorithm choose a key, and do nothing else.
//
// A raw token is no identity. Another signature of the same claims is the same
// token, so [Token.Hash] leaves the signature out.
//
// # Names of claims
//
// [ClaimName] is the one meaning of a claim's name, in the configuration, in a
// revocation and in a filter. It is parsed once, and then finds its claim among
// the claims of every token.
//
// # Left to the callers
//
// Parse does not know which issuers, algorithms, types and times are accepted,
// and does not bound the size of a token. It works in time proportional to the
// size. The package imports nothing of this product. It remembers a few headers,
// because the tokens of one key have the same one.
package jwt

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unsafe"
)

// Token is a signed token as it was read. Its signature is not verified.
type Token struct {
	Algorithm string
	KeyID     string // 1 to 256 characters; empty if the header has no kid
	Type      string // in the form of [MediaType]; empty if the header has no typ

	Issuer    string         // empty if the payload has no iss
	Claims    map[string]any // numbers are json.Number
	Expires   Date
	NotBefore Date
	IssuedAt  Date

	Signed    string // header.payload, which the signature covers
	Signature []byte
}

// Hash returns the SHA-256 of Signed. It identifies a token without jti.
func (t *Token) Hash() [sha256.Size]byte { return sha256.Sum256(bytesOf(t.Signed)) }

// bytesOf returns the bytes of s without a copy. Nobody may change or keep them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) } //nolint:gosec // see above

// Flaw says why [Parse] refused a token. It is one of the texts below and
// quotes nothing of the token.
type Flaw string

func (f Flaw) Error() string { return string(f) }

const (
	FlawSegments  Flaw = "the token is not three segments of base64url with a dot between them"
	FlawBase64    Flaw = "a segment of the token is not canonical base64url without padding"
	FlawHeader    Flaw = "the token's header is not one JSON object in UTF-8 without duplicate members"
	FlawPayload   Flaw = "the token's payload is not one JSON object in UTF-8 without duplicate members"
	FlawDepth     Flaw = "the token's JSON is nested more than 32 levels deep"
	FlawLookalike Flaw = "a member of the token differs from a registered name in case alone"
	FlawExtension Flaw = "the token's header has crit, b64, zip or enc, which are not supported"
	FlawAlgorithm Flaw = "the token's alg is not a string"
	FlawKeyID     Flaw = "the token's kid is not a string of 1 to 256 characters"
	FlawType      Flaw = "the token's typ is not a media type"
	FlawIssuer    Flaw = "the token's iss is not a string"
	FlawDate      Flaw = "the token's exp, iat or nbf is not a number from 0 to 2^40"
)

// MaxKeyID is the length of the longest kid, in characters. A key whose kid is
// longer can be neither named by a token nor revoked.
const MaxKeyID = 256

const maxDepth = 32

// Parse reads raw in the compact form of JWS. The error is a [Flaw].
func Parse(raw string) (*Token, error) {
	if !isSegments(raw) {
		return nil, FlawSegments
	}
	last := strings.LastIndexByte(raw, '.')
	head, body, _ := strings.Cut(raw[:last], ".")
	h, err := headerOf(head)
	if err != nil {
		return nil, err
	}
	t := &Token{Algorithm: h.algorithm, KeyID: h.keyID, Type: h.typ, Signed: raw[:last]}
	if t.Claims, err = decodeObject(body, FlawPayload, claimNames); err != nil {
		return nil, err
	}
	if err := t.readPayload(); err != nil {
		return nil, err
	}
	if t.Signature, err = base64url.AppendDecode(nil, bytesOf(raw[last+1:])); err != nil {
		return nil, FlawBase64
	}
	return t, nil
}

// base64url refuses padding bits that are not zero. It skips CR and LF, which
// isSegments has refused. So decoded bytes encode to the same text again.
var base64url = base64.RawURLEncoding.Strict()

// isSegments reports whether raw is three segments of the base64url alphabet,
// none of them empty.
func isSegments(raw string) bool {
	dots, previous := 0, byte('.')
	for i := range len(raw) {
		b := raw[i]
		switch {
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || b == '-' || b == '_':
		case b == '.' && previous != '.':
			dots++
		default:
			return false
		}
		previous = b
	}
	return dots == 2 && previous != '.'
}

// MediaType returns typ in the form in which RFC 7515 compares it: in lower
// case, and without the "application/" that may be left out.
func MediaType(typ string) string {
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}

func (t *Token) readPayload() error {
	if v, present := t.Claims["iss"]; present {
		var ok bool
		if t.Issuer, ok = v.(string); !ok {
			return FlawIssuer
		}
	}
	for _, d := range []struct {
		claim string
		date  *Date
	}{{"exp", &t.Expires}, {"iat", &t.IssuedAt}, {"nbf", &t.NotBefore}} {
		v, present := t.Claims[d.claim]
		if !present {
			continue
		}
		n, ok := v.(json.Number)
		if !ok {
			return FlawDate
		}
		if d.date.Micros, d.date.Set = micros(n); !d.date.Set {
			return FlawDate
		}
	}
	return nil
}
