package config

import (
	"crypto/sha256"
	"maps"
)

// RevocationEndpointIntake is a revocation endpoint of RFC 7009, at
// /intake/NAME/revoke.
type RevocationEndpointIntake struct {
	Signer  Signer // the one issuer of the intake
	Clients []OAuthClient
}

// OAuthClient is a client that authenticates with a secret, known by its hash.
type OAuthClient struct {
	ID     string
	SHA256 [sha256.Size]byte
}

func readRevocationEndpointIntake(v value, i *Intake) (keys, func()) {
	s := &RevocationEndpointIntake{}
	i.Settings = s
	known := s.Signer.keys(v)
	maps.Copy(known, keys{
		"clients": need(&s.Clients, "the clients that may revoke their tokens: [{client_id: …, sha256: …}]", some(oauthClient())),
	})
	return known, func() { i.signs(v, &s.Signer) }
}

// oauthClient reads one of a list of clients, whose hashes must differ. A client
// whose secret is being replaced is there twice.
func oauthClient() as[OAuthClient] {
	hash := distinct(parsed(digest))
	return func(v value, c *OAuthClient) {
		v.object(keys{
			"client_id": need(&c.ID, "the ID that stands in client_id, azp, cid or appid of its tokens", text()),
			"sha256":    need(&c.SHA256, "64 hex digits of its secret, as from printf %s SECRET | sha256sum", hash),
		})
	}
}
