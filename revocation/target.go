package revocation

import "strings"

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
	Claims []Claim  // KindClaims: sorted by name, names distinct, at least one
	KeyID  string   // KindKeyID
	Token  [32]byte // KindToken: SHA-256 of "header.payload"
}

// Claim is one equality.
type Claim struct {
	Name  string
	Value Value
}

// Shape returns the shape under which issuer's tokens are compared with t.
func (t *Target) Shape(issuer string) Shape {
	names := make([]string, len(t.Claims))
	for i, c := range t.Claims {
		names[i] = c.Name
	}
	return Shape{issuer, t.Kind, strings.Join(names, "\x00")}
}
