package node

import (
	"rescind/cmd/internal/config"
	"rescind/jwks/fetch"
	"rescind/revocation/intake"
	"rescind/revocation/intake/keycloak"
)

func keycloakPart(_ *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	r := c.Settings.(*config.KeycloakRealm)
	p := keycloak.New(keycloak.Options{
		Issuer: c.Issuers[0], Server: r.Server, Realm: r.Realm, ClientID: r.ClientID, ClientSecret: config.SecretFrom(r.ClientSecretFile),
		Every: r.Every, UserEvents: r.UserEvents, Fetch: fetch.Options{CAFile: r.CAFile, AllowHTTP: r.AllowHTTP},
	}, door)
	return intakePart{pull: p.Run}, nil
}
