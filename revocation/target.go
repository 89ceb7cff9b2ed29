package revocation

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a target is compared with.
type Kind uint8

const (
	KindClaims Kind = 1 + iota // claim equalities, all must hold
	KindKeyID                  // the kid in the token's header
	KindToken                  // SHA-256 of the token's "header.payload"
	KindAll                    // every token of the issuer
)

// Target is what a revocation is about. Exactly one form is set, by Kind.
type Target struct {
	Kind   Kind
	Claims []Claim  // KindClaims: sorted by name, names distinct, at least one
	KeyID  string   // KindKeyID
	Token  [32]byte // KindToken: SHA-256 of "header.payload"
}

// Claim is one equality.
type Claim struct {
	Name  string
	Value Value
}

// Value is a string, a number or a boolean of JSON in canonical form:
// comparable, and equal exactly when the JSON values are equal (1, 1.0 and
// 10e-1 are one number; "1" is another value).
type Value struct {
	kind byte   // 's', 'n', 'b'
	text string // the string; the canonical number; "true" or "false"
}

// ValueOf takes a decoded JSON value: a string, bool or [json.Number]. For
// anything else ok is false.
func ValueOf(v any) (_ Value, ok bool) {
	switch v := v.(type) {
	case string:
		return Value{'s', v}, true
	case bool:
		return Value{'b', strconv.FormatBool(v)}, true
	case json.Number:
		text, ok := canonicalNumber(string(v))
		return Value{'n', text}, ok
	}
	return Value{}, false
}

// JSON is v as a JSON text writes it.
func (v Value) JSON() any {
	switch v.kind {
	case 's':
		return v.text
	case 'b':
		return v.text == "true"
	case 'n':
		return json.Number(v.text)
	}
	return nil
}

// String is the value without quotes, for people.
func (v Value) String() string { return v.text }

// Shape is the set of claim names (or the other kind of target) under which an
// issuer's entries are looked up. It is comparable. A check costs one look-up
// for each shape in use.
type Shape struct {
	Issuer string
	Kind   Kind
	names  string // KindClaims: the sorted names, joined by NUL, which no name contains
}

// ShapeOf makes a shape from its parts, as they come off a wire. names matter
// for KindClaims only.
func ShapeOf(issuer string, kind Kind, names []string) (Shape, error) {
	switch kind {
	case KindKeyID, KindToken, KindAll:
		if len(names) != 0 {
			return Shape{}, fmt.Errorf("a shape of kind %d has no claim names", kind)
		}
	case KindClaims:
		if len(names) == 0 || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			return Shape{}, fmt.Errorf("claim names of a shape must be sorted and distinct, at least one: %q", names)
		}
		for _, n := range names {
			if n == "" || strings.ContainsRune(n, 0) {
				return Shape{}, fmt.Errorf("%q cannot be a claim name", n)
			}
		}
	default:
		return Shape{}, fmt.Errorf("unknown kind of target %d", kind)
	}
	if issuer == "" {
		return Shape{}, fmt.Errorf("a shape needs an issuer")
	}
	return Shape{issuer, kind, strings.Join(names, "\x00")}, nil
}

// Names are the claim names, sorted; nil unless Kind is KindClaims.
func (s Shape) Names() []string {
	if s.Kind != KindClaims {
		return nil
	}
	return strings.Split(s.names, "\x00")
}

// compare orders shapes, so that entries of one lie together.
func (s Shape) compare(o Shape) int {
	return cmp.Or(strings.Compare(s.Issuer, o.Issuer), cmp.Compare(s.Kind, o.Kind), strings.Compare(s.names, o.names))
}

// Shape is the shape that t is looked up under for issuer.
func (t *Target) Shape(issuer string) Shape {
	names := make([]string, len(t.Claims))
	for i, c := range t.Claims {
		names[i] = c.Name
	}
	return Shape{issuer, t.Kind, strings.Join(names, "\x00")}
}

// Digest identifies a target within all issuers: the first 128 bits of a
// SHA-256 over the shape and the values, each length-prefixed, so that no two
// targets have one input. Finding two targets with one digest, even for
// somebody who chooses their own claims, is finding a collision of SHA-256/128.
type Digest [16]byte

// appendShape begins the input of a digest under s; a value is appended for
// each name, in the order of the names.
func appendShape(b []byte, s Shape) []byte {
	b = append(b, "rescind digest 1\x00"...)
	b = append(b, byte(s.Kind))
	b = appendString(b, s.Issuer)
	return appendString(b, s.names)
}

func appendValue(b []byte, v Value) []byte {
	return appendString(append(b, v.kind), v.text)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func sum(b []byte) (d Digest) {
	h := sha256.Sum256(b)
	copy(d[:], h[:])
	return d
}

func (t *Target) digest(s Shape) Digest {
	b := appendShape(make([]byte, 0, 256), s)
	switch t.Kind {
	case KindClaims:
		for _, c := range t.Claims {
			b = appendValue(b, c.Value)
		}
	case KindKeyID:
		b = appendString(b, t.KeyID)
	case KindToken:
		b = append(b, t.Token[:]...)
	}
	return sum(b)
}

// canonicalNumber writes a JSON number as digits without leading or trailing
// zeros and a decimal exponent, so that equal numbers have equal texts however
// large they are. It works on the text: no precision is lost, and an exponent
// of a billion costs nothing.
func canonicalNumber(s string) (string, bool) {
	neg := strings.HasPrefix(s, "-")
	mantissa, exp := strings.TrimPrefix(s, "-"), 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		e, err := strconv.ParseInt(mantissa[i+1:], 10, 32)
		if err != nil {
			return "", false
		}
		mantissa, exp = mantissa[:i], int(e)
	}
	whole, frac, _ := strings.Cut(mantissa, ".")
	digits := whole + frac
	exp -= len(frac)
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	trimmed := strings.TrimRight(digits, "0")
	exp += len(digits) - len(trimmed)
	trimmed = strings.TrimLeft(trimmed, "0")
	if trimmed == "" {
		return "0", true
	}
	switch { // what people write without an exponent stays readable
	case exp > 0 && exp <= 20:
		trimmed, exp = trimmed+strings.Repeat("0", exp), 0
	case exp < 0 && exp >= -20:
		if pad := 1 - exp - len(trimmed); pad > 0 {
			trimmed = strings.Repeat("0", pad) + trimmed
		}
		point := len(trimmed) + exp
		trimmed, exp = trimmed[:point]+"."+trimmed[point:], 0
	}
	if neg {
		trimmed = "-" + trimmed
	}
	if exp != 0 {
		trimmed += "e" + strconv.Itoa(exp)
	}
	return trimmed, true
}
