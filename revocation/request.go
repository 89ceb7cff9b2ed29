package revocation

import (
	stdjson "encoding/json"
	"time"

	"rescind/revocation/printable"
)

// Limits of a request. They bound what one revocation costs in the log and in
// memory, and are far above what an issuer puts into a token.
const (
	MaxIssuer = 1024 // bytes
	MaxClaims = 16
	MaxName   = 256  // bytes of a claim's name, and of a kid
	MaxValue  = 1024 // bytes of a claim's value
	MaxToken  = 16 << 10
	MaxReason = 1024
)

// tokenGrace is how long a revoked token's entry outlives the token, for the
// leeway that replicas give an exp.
const tokenGrace = time.Minute

// Request asks for a revocation. The zero value of a member is its absence.
// Exactly one of Claims, KeyID, Token and All says what is revoked.
type Request struct {
	Issuer       string
	Claims       []Claim
	KeyID        string
	Token        string // a raw JWT; it never gets beyond [Request.Accept]
	All          bool
	IssuedBefore time.Time
	Block        bool
	ExpiresAt    time.Time
	Reason       string
}

// Fault is what is wrong with one member of a request.
type Fault struct {
	Member  string // "claims.sub"; empty for the request as a whole
	Message string
}

func (f Fault) String() string {
	if f.Member == "" {
		return f.Message
	}
	return f.Member + ": " + f.Message
}

// MarshalJSON writes the form that [ParseRequest] reads.
func (r Request) MarshalJSON() ([]byte, error) {
	var claims map[string]any
	for _, c := range r.Claims {
		if claims == nil {
			claims = make(map[string]any, len(r.Claims))
		}
		claims[c.Name] = c.Value.JSON()
	}
	return stdjson.Marshal(struct {
		Issuer       string         `json:"issuer,omitempty"`
		Claims       map[string]any `json:"claims,omitempty"`
		KeyID        string         `json:"kid,omitempty"`
		Token        string         `json:"token,omitempty"`
		All          bool           `json:"all,omitempty"`
		IssuedBefore time.Time      `json:"issued_before,omitzero"`
		Block        bool           `json:"block,omitempty"`
		ExpiresAt    time.Time      `json:"expires_at,omitzero"`
		Reason       string         `json:"reason,omitempty"`
	}{r.Issuer, claims, r.KeyID, r.Token, r.All, r.IssuedBefore, r.Block, r.ExpiresAt, r.Reason})
}

// clip cuts a name that a caller wrote, for a fault that names it.
func clip(s string) string { return printable.Clean(s, MaxName) }
