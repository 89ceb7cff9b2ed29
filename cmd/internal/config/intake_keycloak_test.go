package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKeycloakIntake(t *testing.T) {
	dir := folderOf(t)
	if err := os.WriteFile(filepath.Join(dir, "kc.secret"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "kc.secret")
	for _, c := range []struct {
		keys string
		want KeycloakRealm
	}{
		{"issuers: [https://idp.example.com/realms/shop]", KeycloakRealm{Server: "https://idp.example.com", Realm: "shop", Every: time.Second, UserEvents: true}},
		{"issuers: [https://idp.example.com/auth/realms/a%20shop]", KeycloakRealm{Server: "https://idp.example.com/auth", Realm: "a shop", Every: time.Second, UserEvents: true}},
		{
			"issuers: [https://idp.example.com/realms/shop], server: 'http://keycloak.internal:8080/', allow_http: true, every: 5s, user_events: false",
			KeycloakRealm{Server: "http://keycloak.internal:8080", Realm: "shop", Every: 5 * time.Second, AllowHTTP: true},
		},
		{"issuers: ['urn:shop'], server: 'http://127.0.0.1:8080', realm: shop", KeycloakRealm{Server: "http://127.0.0.1:8080", Realm: "shop", Every: time.Second, UserEvents: true}},
	} {
		got := mustControl(t, filepath.Join(dir, "control.yaml"), controlForIntakes+"intake: [{name: a, kind: keycloak, client_id: rescind, client_secret_file: kc.secret, "+c.keys+"}]\n")
		c.want.ClientID, c.want.ClientSecretFile = "rescind", secret
		equal(t, *got.Intakes[0].Settings.(*KeycloakRealm), c.want)
	}
}

func TestKeycloakIntakeFaults(t *testing.T) {
	dir := folderOf(t)
	if err := os.WriteFile(filepath.Join(dir, "kc.secret"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const issuer = "issuers: [https://idp.example.com/realms/shop], "
	const client = "client_id: rescind, client_secret_file: kc.secret, "
	for _, c := range []struct{ keys, want string }{
		{issuer + "client_secret_file: kc.secret", "intake[0].client_id: is missing: a client of the realm with a service account"},
		{issuer + "client_id: rescind", "intake[0].client_secret_file: is missing: the file with the secret"},
		{issuer + "client_id: rescind, client_secret_file: none", "intake[0].client_secret_file: "},
		{client + "issuers: [https://idp.example.com/]", `intake[0].issuers: "https://idp.example.com/" does not end in /realms/NAME, so server and realm are needed`},
		{client + "issuers: [https://idp.example.com/realms/a/b]", "does not end in /realms/NAME"},
		{client + "issuers: ['urn:shop'], server: https://idp.example.com", "does not end in /realms/NAME"},
		{client + "issuers: [https://idp.example.com/realms/a, https://idp.example.com/realms/b]", "intake[0].issuers: must be one issuer, because a realm has one"},
		{client + "issuers: [http://idp.example.com/realms/a]", "intake[0].issuers: the secret of the client would be sent over http"},
		{client + issuer + "server: http://keycloak:8080", "intake[0].server: the secret of the client would be sent over http"},
		{client + issuer + "server: keycloak:8080", "intake[0].server: "},
		{client + issuer + "every: 10ms", "intake[0].every: 10ms is too short; the least is 100ms"},
		{client + issuer + "every: 1h", "intake[0].every: 1h is too long; the most is 1m"},
		{client + issuer + "user_events: perhaps", `intake[0].user_events: "perhaps" is not true or false`},
		{client + issuer + "client_secret: secret", "intake[0].client_secret: there is no such key; the keys here are allow_http, ca_file, client_id, client_secret_file"},
		{client + issuer + "discovery: true", "intake[0].discovery: there is no such key"},
	} {
		got := faults(t, "control", filepath.Join(dir, "faulty.yaml"), controlForIntakes+"intake: [{name: a, kind: keycloak, "+c.keys+"}]\n")
		if !strings.Contains(got.Error(), c.want) {
			t.Errorf("keys %s\ngot the faults\n%v\nwant one with %q", c.keys, got, c.want)
		}
	}
}
