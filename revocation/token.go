package revocation

// Token has the parts of a token that a look-up needs. Its signature has been
// verified.
type Token struct {
	Issuer      string
	KeyID       string         // kid of the key that verified it; empty if that key has none
	Claims      map[string]any // decoded with numbers as json.Number
	Hash        [32]byte       // SHA-256 of "header.payload"
	IssuedAt    Micros         // rounded down
	HasIssuedAt bool
}
