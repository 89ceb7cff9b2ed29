package authz

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// flaw is why the guard refused a token. It is a fixed text: it says nothing
// of what the token contains.
type flaw string

func (f flaw) Error() string { return string(f) }

const (
	flawSegments  flaw = "it is not three segments of base64url with a dot between them"
	flawBase64    flaw = "a segment is not canonical base64url without padding"
	flawHeader    flaw = "the header is not a JSON object in UTF-8 without duplicate members"
	flawPayload   flaw = "the payload is not a JSON object in UTF-8 without duplicate members"
	flawDepth     flaw = "it is nested too deep"
	flawLookalike flaw = "a member differs from a registered one in case alone"
	flawExtension flaw = "the header has crit, b64, zip or enc"
	flawAlgorithm flaw = "alg is not a string"
	flawKeyID     flaw = "kid is not a string of 1 to 256 characters"
	flawType      flaw = "typ is not a media type"
	flawIssuer    flaw = "iss is not a string"
	flawDate      flaw = "exp, iat or nbf is not a number from 0 to 2^40"
)

const (
	maxDepth = 32
	maxKeyID = 256
)

// parse reads a token and refuses every one that two readers could take for
// different things, whoever signed it. It comes before anything else looks at
// the token, and its reading is the only one: no other decoder sees the bytes.
// Errors are flaws.
func parse(raw string) (*token, error) {
	if !isSegments(raw) {
		return nil, flawSegments
	}
	last := strings.LastIndexByte(raw, '.')
	head, body, _ := strings.Cut(raw[:last], ".")
	t := &token{signed: raw[:last]}
	header, err := decodeObject(head, flawHeader, headerNames)
	if err != nil {
		return nil, err
	}
	if err := t.readHeader(header); err != nil {
		return nil, err
	}
	if t.claims, err = decodeObject(body, flawPayload, claimNames); err != nil {
		return nil, err
	}
	if err := t.readPayload(); err != nil {
		return nil, err
	}
	if t.signature, err = base64url.DecodeString(raw[last+1:]); err != nil {
		return nil, flawBase64
	}
	return t, nil
}

// base64url refuses padding bits that are not zero. It passes over CR and LF,
// which isSegments has refused. So what it decodes encodes to the same text.
var base64url = base64.RawURLEncoding.Strict()

// isSegments says whether raw is three segments, none empty, of the alphabet
// of base64url.
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

func (t *token) readHeader(header map[string]any) error {
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := header[name]; ok {
			return flawExtension
		}
	}
	var ok bool
	if t.algorithm, ok = header["alg"].(string); !ok {
		return flawAlgorithm
	}
	if v, present := header["kid"]; present {
		t.keyID, _ = v.(string)
		if n := utf8.RuneCountInString(t.keyID); n < 1 || n > maxKeyID {
			return flawKeyID
		}
	}
	if v, present := header["typ"]; present {
		typ, _ := v.(string)
		if t.typ = mediaType(typ); t.typ == "" {
			return flawType
		}
	}
	return nil
}

// mediaType is a typ as RFC 7515 compares it: in lower case, and without the
// "application/" that may be left out.
func mediaType(typ string) string {
	return strings.TrimPrefix(strings.ToLower(typ), "application/")
}

func (t *token) readPayload() error {
	if v, present := t.claims["iss"]; present {
		var ok bool
		if t.issuer, ok = v.(string); !ok {
			return flawIssuer
		}
	}
	for _, d := range []struct {
		claim string
		date  *date
	}{{"exp", &t.expires}, {"iat", &t.issuedAt}, {"nbf", &t.notBefore}} {
		v, present := t.claims[d.claim]
		if !present {
			continue
		}
		n, ok := v.(json.Number)
		if !ok {
			return flawDate
		}
		if d.date.at, d.date.set = micros(n); !d.date.set {
			return flawDate
		}
	}
	return nil
}

// Names that no other name may be taken for. A reader that folds case, as
// encoding/json does into structs, would.
var (
	headerNames = nameSet("alg", "kid", "typ", "crit", "b64", "zip", "enc")
	claimNames  = nameSet("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "events", "scope", "client_id", "azp", "sid")
)

func nameSet(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// lookalike says whether name is another name than those of set, and a reader
// that folds case would take it for one of them.
func lookalike(name string, set map[string]bool) bool {
	for i := range len(name) {
		if b := name[i]; 'A' <= b && b <= 'Z' || b >= utf8.RuneSelf {
			// Upper case first: that is what joins ſ with s.
			return set[strings.ToLower(strings.ToUpper(name))]
		}
	}
	return false
}

// decodeObject reads a segment as exactly one JSON object. jsontext refuses
// invalid UTF-8, lone surrogates and duplicate names at every depth. Numbers
// stay text.
func decodeObject(segment string, otherwise flaw, names map[string]bool) (map[string]any, error) {
	text, err := base64url.DecodeString(segment)
	if err != nil {
		return nil, flawBase64
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	v, err := decodeValue(d)
	if errors.Is(err, flawDepth) {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, otherwise
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, otherwise
	}
	for name := range object {
		if lookalike(name, names) {
			return nil, flawLookalike
		}
	}
	return object, nil
}

// decodeValue reads the next value: nil, a bool, a string, a [json.Number], a
// []any or a map[string]any.
func decodeValue(d *jsontext.Decoder) (any, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	if d.StackDepth() > maxDepth {
		return nil, flawDepth
	}
	switch tok.Kind() {
	case jsontext.KindBeginObject:
		return decodeMembers(d)
	case jsontext.KindBeginArray:
		return decodeElements(d)
	case jsontext.KindString:
		return tok.String(), nil
	case jsontext.KindNumber:
		return json.Number(tok.String()), nil
	case jsontext.KindTrue, jsontext.KindFalse:
		return tok.Bool(), nil
	default:
		return nil, nil
	}
}

func decodeMembers(d *jsontext.Decoder) (map[string]any, error) {
	object := make(map[string]any)
	for d.PeekKind() != jsontext.KindEndObject {
		tok, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := tok.String()
		if object[name], err = decodeValue(d); err != nil {
			return nil, err
		}
	}
	_, err := d.ReadToken()
	return object, err
}

func decodeElements(d *jsontext.Decoder) ([]any, error) {
	array := []any{}
	for d.PeekKind() != jsontext.KindEndArray {
		v, err := decodeValue(d)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := d.ReadToken()
	return array, err
}
