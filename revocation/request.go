package revocation

import (
	stdjson "encoding/json"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation/printable"
)

// Limits of a request. They bound the cost of one revocation in the log and in
// memory. Tokens of real issuers stay far below them.
const (
	MaxIssuer = 1024 // bytes
	MaxClaims = 16
	MaxName   = 256 // bytes of a claim's name
	MaxKeyID  = jwt.MaxKeyID
	MaxValue  = 1024 // bytes of a claim's value
	MaxToken  = 64 << 10
	MaxReason = 1024
)

// tokenGrace is how long the revocation of a token outlasts the token: replicas
// accept a token for the time of their leeway after its exp.
const tokenGrace = time.Minute

// Request asks for a revocation. A field that is zero is absent. Exactly one of
// Claims, KeyID, Token and All must be set.
type Request struct {
	Issuer       string
	Claims       []Claim
	KeyID        string
	Token        string // a raw JWT; [Request.Accept] reads it, and nothing keeps it
	All          bool
	IssuedBefore time.Time
	Block        bool
	ExpiresAt    time.Time
	Reason       string
}

// Fault is a fault of one member of a request. With the member's name before it,
// the message is a sentence.
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

// clip returns a name that a caller wrote in the form that a fault can show.
func clip(s string) string { return printable.Clean(s, MaxName) }
