package revocation

import (
	"slices"
	"strings"
)

// Kind is the part of a token that a target is compared with.
type Kind uint8

const (
	KindClaims Kind = 1 + iota // claim equalities, all must hold
	KindKeyID                  // the kid of the key that verified the token
	KindToken                  // SHA-256 of the token's "header.payload"
	KindAll                    // every token of the issuer
)

// Target describes the tokens of a revocation. Kind says which one of the other
// fields is set.
type Target struct {
	Kind   Kind
	Claims []Claim  // KindClaims: in the order of their wire names, which are distinct; at least one
	KeyID  string   // KindKeyID
	Token  [32]byte // KindToken: SHA-256 of "header.payload"
}

// Claim is one equality.
type Claim struct {
	// Name is the name as [jwt.ClaimName.String] writes it: a nested claim is a
	// JSON Pointer, and so is a member whose name begins with a slash. So a claim
	// has one name, for every spelling in a request.
	Name  string
	Value Value
}

// sortClaims puts claims in the order of a [Target].
func sortClaims(claims []Claim) {
	slices.SortFunc(claims, func(x, y Claim) int { return strings.Compare(wireName(x.Name), wireName(y.Name)) })
}

// Shape returns the shape under which issuer's tokens are compared with t.
func (t *Target) Shape(issuer string) Shape {
	names := make([]string, len(t.Claims))
	for i, c := range t.Claims {
		names[i] = wireName(c.Name)
	}
	return Shape{issuer, t.Kind, strings.Join(names, "\x00")}
}
