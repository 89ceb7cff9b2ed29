package revocation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Shape is the set of claim names, or the other kind of target, under which an
// issuer's entries are looked up. Shapes are comparable. A token is looked up
// once for each shape in use.
type Shape struct {
	Issuer string
	Kind   Kind
	names  string // KindClaims: the sorted names, joined by NUL, which no name contains
}

// ShapeOf returns the shape that has these parts, as they come off a wire. It
// fails if no target has that shape. names must be sorted; they are for
// KindClaims only.
func ShapeOf(issuer string, kind Kind, names []string) (Shape, error) {
	switch kind {
	case KindKeyID, KindToken, KindAll:
		if len(names) != 0 {
			return Shape{}, fmt.Errorf("a shape of kind %d must have no claim names, and this one has %q", kind, names)
		}
	case KindClaims:
		if len(names) == 0 || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			return Shape{}, fmt.Errorf("the claim names of a shape must be at least one, sorted and distinct; they are %q", names)
		}
		for _, n := range names {
			if n == "" || strings.ContainsRune(n, 0) {
				return Shape{}, fmt.Errorf("%q cannot be a claim name of a shape: a name is not empty and has no NUL", n)
			}
		}
	default:
		return Shape{}, fmt.Errorf("kind of target %d is unknown", kind)
	}
	if issuer == "" {
		return Shape{}, errors.New("a shape must have an issuer")
	}
	return Shape{issuer, kind, strings.Join(names, "\x00")}, nil
}

// Names returns the claim names, sorted; nil unless Kind is KindClaims.
func (s Shape) Names() []string {
	if s.Kind != KindClaims {
		return nil
	}
	return strings.Split(s.names, "\x00")
}

// Compare orders shapes, so that entries of one shape can be put together.
func (s Shape) Compare(o Shape) int {
	return cmp.Or(strings.Compare(s.Issuer, o.Issuer), cmp.Compare(s.Kind, o.Kind), strings.Compare(s.names, o.names))
}
