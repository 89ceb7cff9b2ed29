package config

import "maps"

// LogoutIntake takes the logout tokens of OpenID Connect Back-Channel Logout, at
// /intake/NAME/logout.
type LogoutIntake struct {
	Signer  Signer   // the one issuer of the intake
	Clients []string // client IDs; the aud of a logout token has one of them
	// ExpiryOptional takes logout tokens without exp.
	ExpiryOptional bool
	// SIDInTokens says that access tokens have the session ID of logout tokens.
	SIDInTokens bool
}

func readLogoutIntake(v value, i *Intake) (keys, func()) {
	s := &LogoutIntake{SIDInTokens: true}
	i.Settings = s
	known := s.Signer.keys(v)
	maps.Copy(known, keys{
		"clients":       need(&s.Clients, "the client IDs for which the issuer sends logout tokens", some(text())),
		"exp":           into(&s.ExpiryOptional, choice(map[string]bool{"required": false, "optional": true})),
		"sid_in_tokens": into(&s.SIDInTokens, flag),
	})
	return known, func() { i.signs(v, &s.Signer) }
}

// signs demands one issuer, which is the signer of the tokens that the intake
// takes.
func (i *Intake) signs(v value, s *Signer) {
	switch len(i.Issuers) {
	case 0: // its fault is reported
	case 1:
		s.Issuer = i.Issuers[0]
		s.check(v, s.Issuer)
	default:
		v.at("issuers").fault("must be one issuer, whose keys the entry names; write an entry for each issuer")
	}
}
