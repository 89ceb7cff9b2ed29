package ledger

import (
	"encoding/hex"

	"rescind/revocation"
)

// Target is the target of a revocation as the API and the audit write it.
// Exactly one member is set.
type Target struct {
	Claims      map[string]any `json:"claims,omitempty" doc:"All of these equalities must hold"`
	KeyID       string         `json:"kid,omitempty" doc:"Every token signed by this key"`
	TokenSHA256 string         `json:"token_sha256,omitempty" doc:"Hex SHA-256 of the token's header.payload"`
	All         bool           `json:"all,omitempty" doc:"Every token of the issuer"`
}

// TargetOf returns the document of t.
func TargetOf(t *revocation.Target) *Target {
	var out Target
	switch t.Kind {
	case revocation.KindClaims:
		out.Claims = make(map[string]any, len(t.Claims))
		for _, c := range t.Claims {
			out.Claims[c.Name] = c.Value.JSON()
		}
	case revocation.KindKeyID:
		out.KeyID = t.KeyID
	case revocation.KindToken:
		out.TokenSHA256 = hex.EncodeToString(t.Token[:])
	case revocation.KindAll:
		out.All = true
	}
	return &out
}

// TargetOfRequest returns the document of the target that a request asks for. A
// request by a raw token has none.
func TargetOfRequest(r *revocation.Request) *Target {
	out := &Target{KeyID: r.KeyID, All: r.All}
	for _, c := range r.Claims {
		if out.Claims == nil {
			out.Claims = make(map[string]any, len(r.Claims))
		}
		out.Claims[c.Name] = c.Value.JSON()
	}
	return out
}
