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

// freeDigests is how many digests of one shape take nothing from the budget: two
// claims without arrays have so many, if both look like numbers.
const freeDigests = 4

// ErrTooManyCombinations reports a token whose claims are long arrays, several
// of which one revocation names together. Such a token cannot be looked up in
// bounded time, so it is denied.
var ErrTooManyCombinations = errors.New("the token's arrays have too many combinations to look up")

// Digests yields the digests under s by which t can be revoked, until yield
// returns false. A few digests are free; the others take from budget. If
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
	if strings.IndexByte(s.names, 0) < 0 { // one name; mostly it has one text
		if text, ok := t.text(s.names); ok {
			yield(sum(appendValue(appendShape(buffer, s), Value{'s', text})))
			return nil
		}
	}
	var values [MaxClaims][]Value
	var single [MaxClaims]Value // of the claims that have one value, so that they cost no memory
	n := 0
	for name := range strings.SplitSeq(s.names, "\x00") {
		if text, ok := t.text(name); ok {
			single[n] = Value{'s', text}
			values[n] = single[n : n+1]
		} else if values[n] = t.values(name); len(values[n]) == 0 {
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

// pay takes the cost of all combinations but the free ones from budget, or
// returns [ErrTooManyCombinations] and takes nothing.
func pay(budget *int, prefix int, values [][]Value) error {
	combinations, longest := 1, prefix
	for _, v := range values {
		if combinations *= len(v); combinations > *budget+freeDigests {
			return ErrTooManyCombinations
		}
		most := 0
		for i := range v {
			most = max(most, len(v[i].text))
		}
		longest += most + 5 // the kind and the length before a value
	}
	const block, padding = 64, 9
	cost := max(0, combinations-freeDigests) * ((longest + padding + block - 1) / block)
	if cost > *budget {
		return ErrTooManyCombinations
	}
	*budget -= cost
	return nil
}
