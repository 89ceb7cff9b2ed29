package revocation

import "strings"

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

// Shape is the shape that t is looked up under for issuer.
func (t *Target) Shape(issuer string) Shape {
	names := make([]string, len(t.Claims))
	for i, c := range t.Claims {
		names[i] = c.Name
	}
	return Shape{issuer, t.Kind, strings.Join(names, "\x00")}
}
