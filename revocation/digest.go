package revocation

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strings"
)

// Digest identifies a target among the targets of all issuers. It is the first
// 128 bits of a SHA-256 over the shape and the values. Each part has its length
// before it, so no two targets have the same input. Two targets with one digest
// are a collision of SHA-256/128, even if a user chooses their own claims.
type Digest [16]byte

// appendShape appends the beginning of the input of a digest under s. A value
// follows for each name, in the order of the names.
func appendShape(b []byte, s *Shape) []byte {
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
	b := appendShape(make([]byte, 0, 256), &s)
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

// LookupBudget is how much work the arrays of one token may cause in one
// look-up, in blocks of SHA-256. A combination of values takes two blocks or
// three. BenchmarkCombinations took 1.5 ms for short values and 1.8 ms for long
// ones on one core of an Intel Xeon.
const LookupBudget = 1 << 14

// ErrTooManyCombinations reports a token whose claims are long arrays, several
// of which one revocation names together. Such a token cannot be looked up in
// bounded time, so it is denied.
var ErrTooManyCombinations = errors.New("the token's arrays have too many combinations to look up")

// Digests yields the digests under s by which t can be revoked, until yield
// returns false. The first digest is free; the others take from budget. If
// budget is not enough, Digests yields nothing and returns
// [ErrTooManyCombinations].
func (t *Token) Digests(s *Shape, budget *int, yield func(Digest) (more bool)) error {
	var buffer [512]byte
	switch s.Kind {
	case KindAll:
		yield(sum(appendShape(buffer[:0], s)))
	case KindKeyID:
		if t.KeyID != "" {
			yield(sum(appendString(appendShape(buffer[:0], s), t.KeyID)))
		}
	case KindToken:
		yield(sum(append(appendShape(buffer[:0], s), t.Hash[:]...)))
	case KindClaims:
		return t.claimDigests(s, buffer[:0], budget, yield)
	}
	return nil
}

// claimDigests yields the digests of all combinations of the values of the
// claims of s.
func (t *Token) claimDigests(s *Shape, buffer []byte, budget *int, yield func(Digest) bool) error {
	if strings.IndexByte(s.names, 0) < 0 && s.names != "scope" { // one name; mostly it has one text
		if text, ok := t.Claims[s.names].(string); ok {
			if len(text) <= MaxValue {
				yield(sum(appendValue(appendShape(buffer, s), Value{'s', text})))
			}
			return nil
		}
	}
	var values [MaxClaims][]Value
	var single [MaxClaims]Value // of the claims that are no arrays, so that they cost no memory
	n := 0
	for name := range strings.SplitSeq(s.names, "\x00") {
		claim, ok := t.Claims[name]
		if !ok {
			return nil
		}
		if text, ok := claim.(string); ok && name != "scope" && len(text) <= MaxValue {
			single[n] = Value{'s', text}
			values[n] = single[n : n+1]
		} else if values[n] = candidates(name, claim); len(values[n]) == 0 {
			return nil
		}
		n++
	}
	prefix := appendShape(buffer, s)
	if err := pay(budget, len(prefix), values[:n]); err != nil {
		return err
	}
	var at [MaxClaims]int // counts through the combinations, as an odometer does
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

// pay takes the cost of all combinations but one from budget, or returns
// [ErrTooManyCombinations] and takes nothing.
func pay(budget *int, prefix int, values [][]Value) error {
	combinations, longest := 1, prefix
	for _, v := range values {
		if combinations *= len(v); combinations > *budget+1 {
			return ErrTooManyCombinations
		}
		most := 0
		for i := range v {
			most = max(most, len(v[i].text))
		}
		longest += most + 5 // the kind and the length before a value
	}
	const block, padding = 64, 9
	cost := (combinations - 1) * ((longest + padding + block - 1) / block)
	if cost > *budget {
		return ErrTooManyCombinations
	}
	*budget -= cost
	return nil
}

// candidates returns the values that an equality with this claim can name: each
// element of an array, each word of a scope. It leaves out values that are too
// long for any revocation.
func candidates(name string, claim any) []Value {
	var one [1]any
	elements, ok := claim.([]any)
	if !ok {
		one[0] = claim
		elements = one[:]
	}
	out := make([]Value, 0, len(elements))
	for _, e := range elements {
		if text, ok := e.(string); ok && name == "scope" {
			for word := range strings.FieldsSeq(text) {
				if len(word) <= MaxValue {
					out = append(out, Value{'s', word})
				}
			}
			continue
		}
		if v, ok := ValueOf(e); ok && len(v.text) <= MaxValue {
			out = append(out, v)
		}
	}
	return out
}
