package revocation

// Token is what a look-up needs of a token whose signature has been verified.
type Token struct {
	Issuer      string
	KeyID       string         // kid of the header; empty if it has none
	Claims      map[string]any // decoded with numbers as json.Number
	Hash        [32]byte       // SHA-256 of "header.payload"
	IssuedAt    Micros         // rounded down
	HasIssuedAt bool
}
