package config

import (
	"maps"
	"strings"

	"rescind/revocation"
)

// GlobalTokenRevocationIntake takes requests of Global Token Revocation, at
// /intake/NAME/global-token-revocation.
type GlobalTokenRevocationIntake struct {
	Signer   Signer   // the identity provider that sends; it need not be one of the issuers
	Endpoint string   // URL of this endpoint, as the sender knows it; the aud of its credentials
	Clients  []string // the sub of its credentials
}

func readGlobalTokenRevocationIntake(v value, i *Intake) (keys, func()) {
	s := &GlobalTokenRevocationIntake{}
	i.Settings = s
	known := s.Signer.keys(v)
	maps.Copy(known, keys{
		"sender":   need(&s.Signer.Issuer, "the iss of the credentials, such as https://example.okta.com", text(revocation.CheckIssuer)),
		"endpoint": need(&s.Endpoint, "the URL of this endpoint that the sender has, such as https://signals.example.com/intake/okta/global-token-revocation", text(isURL)),
		"clients":  need(&s.Clients, "the client IDs of this integration at the sender, which are the sub of the credentials", some(text())),
	})
	return known, func() {
		s.Signer.check(v, s.Signer.Issuer)
		if strings.Contains(s.Endpoint, "?") {
			v.at("endpoint").fault("has a query (?), which the aud of a credential never has; remove it")
		}
	}
}
