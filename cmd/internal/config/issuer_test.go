package config

import (
	"fmt"
	"path/filepath"
	"testing"
)

// An issuer is any StringOrURI of RFC 7519, everywhere an issuer is named.
func TestIssuersThatAreNoURL(t *testing.T) {
	for _, issuer := range []string{
		"acme.com", "accounts.google.com", "robot@project.iam.gserviceaccount.com", "kubernetes/serviceaccount",
		"urn:example:sts", "did:web:example.com", "spiffe://example.org",
	} {
		dir := folderOf(t)
		a := mustAuthz(t, filepath.Join(dir, "authz.yaml"), fmt.Sprintf(`issuers: [{issuer: %q, jwks_uri: "https://a/jwks", audiences: [api]}]
policies: {default: {issuers: [%q]}}
revocation: {control: ["127.0.0.1:9391"], token_file: replica.token}
`, issuer, issuer))
		if a.Issuers[0].Issuer != issuer || a.Policies["default"].Issuers[0] != issuer {
			t.Errorf("authz.yaml with %q: got issuer %q and policy %q, want it in both", issuer, a.Issuers[0].Issuer, a.Policies["default"].Issuers[0])
		}
		c := mustControl(t, filepath.Join(dir, "control.yaml"), fmt.Sprintf(`feed: {tokens: [{name: a, sha256: %s}]}
admin: {tokens: [{name: b, sha256: %s, roles: [revoker], issuers: [%q]}]}
store: {dir: d}
issuers: [{issuer: %q, revocation_endpoint: "https://a/revoke"}]
`, hashA, hashB, issuer, issuer))
		if c.Admin.Tokens[0].Issuers[0] != issuer || c.Issuers[0].Issuer != issuer {
			t.Errorf("control.yaml with %q: got token of %q and endpoint of %q, want it in both", issuer, c.Admin.Tokens[0].Issuers[0], c.Issuers[0].Issuer)
		}
	}
}
