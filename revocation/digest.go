package revocation

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
)

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

// maxCombinations bounds what a token can make a look-up cost whose claims are
// long arrays, several of which are revoked by together. Beyond it there is no
// answer, and without an answer no access.
const maxCombinations = 1 << 18

// ErrTooManyCombinations says that a token cannot be looked up, and that it is
// the token's fault.
var ErrTooManyCombinations = errors.New("the token's arrays have too many combinations to look up")

// Digests yields those under which t may have been revoked, for one shape,
// until it is told to stop.
func (t *Token) Digests(s Shape, yield func(Digest) (more bool)) error {
	var buffer [512]byte
	input := appendShape(buffer[:0], s)
	switch s.Kind {
	case KindAll:
		yield(sum(input))
	case KindKeyID:
		if t.KeyID != "" {
			yield(sum(appendString(input, t.KeyID)))
		}
	case KindToken:
		yield(sum(append(input, t.Hash[:]...)))
	case KindClaims:
		return t.claimDigests(s, input, yield)
	}
	return nil
}

// claimDigests goes through the combinations of the values that the claims of
// s have, as an odometer does.
func (t *Token) claimDigests(s Shape, prefix []byte, yield func(Digest) bool) error {
	var values [MaxClaims][]Value
	n, combinations := 0, 1
	for name := range strings.SplitSeq(s.names, "\x00") {
		values[n] = candidates(name, t.Claims[name])
		if combinations *= len(values[n]); combinations == 0 {
			return nil
		} else if combinations > maxCombinations {
			return ErrTooManyCombinations
		}
		n++
	}
	var at [MaxClaims]int
	for {
		input := prefix
		for i := range n {
			input = appendValue(input, values[i][at[i]])
		}
		if !yield(sum(input)) {
			return nil
		}
		i := n - 1
		for ; i >= 0; i-- {
			if at[i]++; at[i] < len(values[i]) {
				break
			}
			at[i] = 0
		}
		if i < 0 {
			return nil
		}
	}
}

// candidates are the values that an equality with this claim may name: each
// element of an array, each word of a scope.
func candidates(name string, claim any) []Value {
	elements, ok := claim.([]any)
	if !ok {
		elements = []any{claim}
	}
	out := make([]Value, 0, len(elements))
	for _, e := range elements {
		if text, ok := e.(string); ok && name == "scope" {
			for word := range strings.FieldsSeq(text) {
				out = append(out, Value{'s', word})
			}
			continue
		}
		if v, ok := ValueOf(e); ok {
			out = append(out, v)
		}
	}
	return out
}
