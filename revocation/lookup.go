package revocation

import (
	"errors"
	"strings"
	"sync/atomic"
)

// positives count the look-ups that a filter did not answer.
type positives struct{ held, none atomic.Uint64 }

// maxCombinations bounds what a token can make a look-up cost whose claims are
// long arrays, several of which are revoked by together. Beyond it there is no
// answer, and without an answer no access.
const maxCombinations = 1 << 18

// ErrTooManyCombinations says that a token cannot be looked up, and that it is
// the token's fault.
var ErrTooManyCombinations = errors.New("the token's arrays have too many combinations to look up")

// lookup finds an entry in force that denies t. clock is the instant until
// which nothing has expired yet.
func (s *set) lookup(t *Token, clock Micros, counts *positives) (by ID, kind Kind, denied bool, err error) {
	v := s.view.Load()
	for _, shape := range v.shapes[t.Issuer] {
		var failed error
		err := t.digests(shape, func(d Digest) bool {
			by, denied, failed = s.denies(v, &d, t, clock, counts)
			return !denied && failed == nil
		})
		if err = errors.Join(failed, err); denied || err != nil {
			return by, shape.Kind, denied, err
		}
	}
	return ID{}, 0, false, nil
}

// denies asks about one digest.
func (s *set) denies(v *view, d *Digest, t *Token, clock Micros, counts *positives) (by ID, denied bool, err error) {
	k := slotOf(d)
	if !v.filter.has(uint64(k)) {
		return ID{}, false, nil
	}
	held, key := false, k.String()
	for _, b := range *s.shelves[k.shelf()].buckets.Load() {
		err = b.find(k, key, func(r *record) bool {
			if r.rest != [8]byte(d[8:]) {
				return true
			}
			held = true
			if denied = r.expires > clock && r.reaches(t); denied {
				by = r.id
			}
			return !denied
		})
		if denied || err != nil {
			break
		}
	}
	if held {
		counts.held.Add(1)
	} else {
		counts.none.Add(1)
	}
	return by, denied, err
}

// reaches says whether a token that matches is denied: by its iat, or because
// it has none.
func (r *record) reaches(t *Token) bool {
	return r.before == 0 || !t.HasIssuedAt || t.IssuedAt < r.before
}

// digests yields those under which t may have been revoked, for one shape,
// until it is told to stop.
func (t *Token) digests(s Shape, yield func(Digest) (more bool)) error {
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
