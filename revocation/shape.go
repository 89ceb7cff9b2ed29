package revocation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

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

// Compare orders shapes, so that entries of one lie together.
func (s Shape) Compare(o Shape) int {
	return cmp.Or(strings.Compare(s.Issuer, o.Issuer), cmp.Compare(s.Kind, o.Kind), strings.Compare(s.names, o.names))
}
