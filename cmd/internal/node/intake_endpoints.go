package node

import (
	"net/http"

	"rescind/cmd/internal/config"
	"rescind/revocation/intake"
	"rescind/revocation/intake/globalrevocation"
	"rescind/revocation/intake/logout"
	"rescind/revocation/intake/tokenrevocation"
)

// at serves one path behind /intake/NAME. Every other path is 404.
func at(path string, h http.Handler) intakePart {
	mux := http.NewServeMux()
	mux.Handle(path, h)
	return intakePart{push: mux}
}

func logoutPart(n *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	s := c.Settings.(*config.LogoutIntake)
	signer, err := n.signer(&s.Signer)
	if err != nil {
		return intakePart{}, err
	}
	return at("/logout", &logout.Endpoint{
		Signer: signer, Clients: s.Clients, ExpiryOptional: s.ExpiryOptional, NoSessionIDs: !s.SIDInTokens, Map: c.Map, Door: door,
	}), nil
}

func revocationEndpointPart(n *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	s := c.Settings.(*config.RevocationEndpointIntake)
	signer, err := n.signer(&s.Signer)
	if err != nil {
		return intakePart{}, err
	}
	var clients []tokenrevocation.Client
	for _, c := range s.Clients {
		clients = append(clients, tokenrevocation.Client{ID: c.ID, SHA256: c.SHA256})
	}
	return at("/revoke", tokenrevocation.New(signer, clients, door)), nil
}

func globalTokenRevocationPart(n *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	s := c.Settings.(*config.GlobalTokenRevocationIntake)
	signer, err := n.signer(&s.Signer)
	if err != nil {
		return intakePart{}, err
	}
	return at("/global-token-revocation", &globalrevocation.Endpoint{
		Signer: signer, Audience: s.Endpoint, Clients: s.Clients, Issuers: c.Issuers, Map: c.Map, Door: door,
	}), nil
}
