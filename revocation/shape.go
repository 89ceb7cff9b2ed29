package revocation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rescind/jwks/jwt"
)

// Shape is the set of claim names, or the other kind of target, under which an
// issuer's entries are looked up. Shapes are comparable. A token is looked up
// once for each shape in use.
type Shape struct {
	Issuer string
	Kind   Kind
	names  string // KindClaims: the sorted wire names, joined by NUL, which no name contains
}

// nestedMark begins the wire name of a nested claim. No UTF-8 text has this byte,
// so no member of a token has such a name, and a replica of the first edition
// finds no claim under it.
const nestedMark = "\xff"

// wireName returns the name that a claim has in shapes and digests, in the feed
// and on disk. The wire name of a payload's member is the member's name, as in the
// first edition, also where that begins with a slash. The wire name of a nested
// claim is its JSON Pointer behind [nestedMark].
func wireName(claim string) string {
	if !strings.HasPrefix(claim, "/") {
		return claim
	}
	n, err := jwt.ParseClaimName(claim)
	if err == nil && !n.Nested() {
		return n.Member()
	}
	return nestedMark + claim
}

// ClaimName returns the name, as [Claim] has it, of the claim that text names: the
// name of a payload's member, or a JSON Pointer. It fails if text is neither.
func ClaimName(text string) (string, error) {
	n, err := jwt.ParseClaimName(text)
	return n.String(), err
}

// claimName returns the name of the claim that has this wire name.
func claimName(wire string) string {
	if pointer, nested := strings.CutPrefix(wire, nestedMark); nested {
		return pointer
	}
	return jwt.MemberName(wire).String()
}

// checkWireName returns an error unless a claim has this wire name.
func checkWireName(wire string) error {
	pointer, nested := strings.CutPrefix(wire, nestedMark)
	if !nested && wire != "" && !strings.ContainsRune(wire, 0) {
		return nil
	}
	if n, err := jwt.ParseClaimName(pointer); nested && err == nil && n.Nested() {
		return nil
	}
	return fmt.Errorf("%q cannot be a claim name of a shape: a name is not empty and has no NUL, and a nested one is a JSON Pointer", wire)
}

// ShapeOf returns the shape that has these parts, as they come off a wire. It
// fails if no target has that shape. The wire names must be sorted; they are for
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
			if err := checkWireName(n); err != nil {
				return Shape{}, err
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

// Names returns the names of the claims, as [Claim] has them; nil unless Kind is
// KindClaims.
func (s Shape) Names() []string {
	names := s.wireNames()
	for i, wire := range names {
		names[i] = claimName(wire)
	}
	return names
}

// SoleName returns the name of the claim if s has exactly one.
func (s Shape) SoleName() (name string, ok bool) {
	if s.Kind != KindClaims || strings.IndexByte(s.names, 0) >= 0 {
		return "", false
	}
	return claimName(s.names), true
}

// wireNames returns the wire names, sorted; nil unless Kind is KindClaims.
func (s Shape) wireNames() []string {
	if s.Kind != KindClaims {
		return nil
	}
	return strings.Split(s.names, "\x00")
}

// Members returns for each claim the members of a payload that can hold it. A
// token with none of them does not have the claim. Members is nil unless Kind is
// KindClaims.
func (s Shape) Members() [][]string {
	if s.Kind != KindClaims {
		return nil
	}
	wires := s.wireNames()
	out := make([][]string, len(wires))
	for i, wire := range wires {
		switch pointer, nested := strings.CutPrefix(wire, nestedMark); {
		case nested:
			n, _ := jwt.ParseClaimName(pointer) // it was parsed when the shape was made
			out[i] = []string{n.Member()}
		case wire == ClientNames[0]:
			out[i] = ClientNames[:]
		default:
			out[i] = []string{wire}
		}
	}
	return out
}

// Compare orders shapes, so that entries of one shape can be put together.
func (s Shape) Compare(o Shape) int {
	return cmp.Or(strings.Compare(s.Issuer, o.Issuer), cmp.Compare(s.Kind, o.Kind), strings.Compare(s.names, o.names))
}
