package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
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

// usualNames are names of members that most tokens have. Tokens share their texts.
var usualNames = func() map[string]string {
	shared := map[string]string{}
	for _, names := range []map[string]bool{headerNames, claimNames, nameSet(
		"acr", "amr", "auth_time", "nonce", "typ", "scp", "roles", "groups", "realm_access", "resource_access", "name", "email", "email_verified",
		"preferred_username", "given_name", "family_name", "allowed-origins", "session_state", "tid", "oid", "appid", "cid", "uid", "ver", "gty", "permissions", "status",
	)} {
		for name := range names {
			shared[name] = name
		}
	}
	return shared
}()

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
	d := decoders.Get().(*decoder)
	defer d.reuse()
	var err error
	if d.text, err = base64url.AppendDecode(d.text, bytesOf(segment)); err != nil {
		return nil, FlawBase64
	}
	d.registered = registered
	v, err := d.decode()
	if errors.Is(err, FlawDepth) {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, otherwise
	}
	if d.lookalike {
		return nil, FlawLookalike
	}
	return object, nil
}

// DecodeJSON reads exactly one JSON value, which has at most 32 levels. It returns
// nil, a bool, a string, a [json.Number], a []any or a map[string]any. It refuses
// invalid UTF-8, lone surrogates and duplicate names at every depth.
func DecodeJSON(text []byte) (any, error) {
	d := decoders.Get().(*decoder)
	defer d.reuse()
	d.text = append(d.text, text...)
	return d.decode()
}

// decoder reads JSON. Nothing that it returns refers to its memory.
type decoder struct {
	text       []byte // empty between two uses, as are the members below
	buffer     bytes.Buffer
	json       jsontext.Decoder
	registered map[string]bool // of the members of the outer object; nil: none
	lookalike  bool            // a member of the outer object is one
}

// mostReused is the size of the largest text whose memory is used again.
const mostReused = 8 << 10

var decoders = sync.Pool{New: func() any { return new(decoder) }}

func (d *decoder) reuse() {
	if cap(d.text) > mostReused {
		return
	}
	d.text, d.registered, d.lookalike = d.text[:0], nil, false
	decoders.Put(d)
}

// decode reads d.text as one JSON value.
func (d *decoder) decode() (any, error) {
	d.buffer = *bytes.NewBuffer(d.text)
	d.json.Reset(&d.buffer)
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

// value reads the next value.
func (d *decoder) value() (any, error) {
	switch d.json.PeekKind() {
	case jsontext.KindString:
		v, err := d.json.ReadValue()
		if err != nil {
			return nil, err
		}
		return text(v)
	case jsontext.KindNumber:
		v, err := d.json.ReadValue()
		return json.Number(v), err
	}
	tok, err := d.json.ReadToken()
	if err != nil {
		return nil, err
	}
	if d.json.StackDepth() > maxDepth {
		return nil, FlawDepth
	}
	switch tok.Kind() {
	case jsontext.KindBeginObject:
		return d.members()
	case jsontext.KindBeginArray:
		return d.elements()
	case jsontext.KindTrue, jsontext.KindFalse:
		return tok.Bool(), nil
	default:
		return nil, nil
	}
}

// text returns the string that v is.
func text(v jsontext.Value) (string, error) {
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 {
		if usual, ok := usualNames[string(inner)]; ok {
			return usual, nil
		}
		return string(inner), nil
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err
}

// usualMembers is about how many claims a token has.
const usualMembers = 14

func (d *decoder) members() (map[string]any, error) {
	outer := d.json.StackDepth() == 1
	size := 0 // of a small map
	if outer && len(d.text) > 200 {
		size = usualMembers
	}
	object := make(map[string]any, size)
	for d.json.PeekKind() != jsontext.KindEndObject {
		v, err := d.json.ReadValue()
		if err != nil {
			return nil, err
		}
		name, err := text(v)
		if err != nil {
			return nil, err
		}
		if outer && d.registered != nil && isLookalike(name, d.registered) {
			d.lookalike = true
		}
		if object[name], err = d.value(); err != nil {
			return nil, err
		}
	}
	_, err := d.json.ReadToken()
	return object, err
}

func (d *decoder) elements() ([]any, error) {
	array := []any{}
	for d.json.PeekKind() != jsontext.KindEndArray {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := d.json.ReadToken()
	return array, err
}
