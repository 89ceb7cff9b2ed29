package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Registered names. A reader that folds case, as encoding/json does for
// structs, takes another spelling for one of them.
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

// isLookalike reports whether name is not in set, but would be if case did not
// matter.
func isLookalike(name string, set map[string]bool) bool {
	for i := range len(name) {
		if b := name[i]; 'A' <= b && b <= 'Z' || b >= utf8.RuneSelf {
			// Upper case first, which joins ſ with s.
			return set[strings.ToLower(strings.ToUpper(name))]
		}
	}
	return false
}

// decodeObject reads a segment as exactly one JSON object. It returns otherwise
// for every fault of the JSON. jsontext refuses invalid UTF-8, lone surrogates
// and duplicate names at every depth.
func decodeObject(segment string, otherwise Flaw, registered map[string]bool) (map[string]any, error) {
	text, err := base64url.DecodeString(segment)
	if err != nil {
		return nil, FlawBase64
	}
	v, err := DecodeJSON(text)
	if errors.Is(err, FlawDepth) {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, otherwise
	}
	for name := range object {
		if isLookalike(name, registered) {
			return nil, FlawLookalike
		}
	}
	return object, nil
}

// DecodeJSON reads exactly one JSON value, which has at most 32 levels. It returns
// nil, a bool, a string, a [json.Number], a []any or a map[string]any. It refuses
// invalid UTF-8, lone surrogates and duplicate names at every depth.
func DecodeJSON(text []byte) (any, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(text))
	v, err := decodeValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

// decodeValue reads the next value and returns nil, a bool, a string, a
// [json.Number], a []any or a map[string]any.
func decodeValue(d *jsontext.Decoder) (any, error) {
	tok, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	if d.StackDepth() > maxDepth {
		return nil, FlawDepth
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
