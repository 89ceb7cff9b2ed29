package config

import (
	"errors"
	"net/url"
	"strings"
	"time"
)

// KeycloakRealm is a realm of Keycloak whose events are polled.
type KeycloakRealm struct {
	Server           string // the URL below which realms/ and admin/ lie; default: that of the issuer
	Realm            string // default: that of the issuer
	ClientID         string // of a client of the realm with a service account
	ClientSecretFile string
	Every            time.Duration // between two polls
	UserEvents       bool          // polls the user events too
	CAFile           string        // empty: the system's
	AllowHTTP        bool
}

func readKeycloakIntake(v value, i *Intake) (keys, func()) {
	r := &KeycloakRealm{Every: time.Second, UserEvents: true, AllowHTTP: v.has("allow_http")}
	i.Settings = r
	return keys{
		"server":             into(&r.Server, text(isURL, hasNoQuery)),
		"realm":              into(&r.Realm, text()),
		"client_id":          need(&r.ClientID, "a client of the realm with a service account, which has the roles view-events, view-realm and view-clients", text()),
		"client_secret_file": need(&r.ClientSecretFile, "the file with the secret of the client", file(aSecret)),
		"every":              into(&r.Every, duration(100*time.Millisecond, time.Minute)),
		"user_events":        into(&r.UserEvents, flag),
		"ca_file":            into(&r.CAFile, file(certificates)),
		"allow_http":         into(&r.AllowHTTP, flag),
	}, func() { r.check(v, i) }
}

// check demands one issuer, takes the defaults from it, and demands that nobody on
// the way can read the secret.
func (r *KeycloakRealm) check(v value, i *Intake) {
	if len(i.Issuers) > 1 {
		v.at("issuers").fault("must be one issuer, because a realm has one; write an entry for each realm")
	}
	if len(i.Issuers) != 1 {
		return
	}
	server, realm, ok := splitRealm(i.Issuers[0])
	if !ok && (!v.has("server") || !v.has("realm")) {
		v.at("issuers").fault("%.200q does not end in /realms/NAME, so server and realm are needed", i.Issuers[0])
		return
	}
	if !v.has("server") {
		r.Server = server
	}
	if !v.has("realm") {
		r.Realm = realm
	}
	r.Server = strings.TrimSuffix(r.Server, "/")
	if r.Server != "" && !r.AllowHTTP && inTheClear(r.Server) {
		at := v.at("server")
		if at.absent() {
			at = v.at("issuers")
		}
		at.fault("the secret of the client would be sent over http, where it can be read on the way; use https, or allow_http: true")
	}
}

func hasNoQuery(s string) error {
	if strings.Contains(s, "?") {
		return errors.New("has a query (?); remove it, because paths are added to it")
	}
	return nil
}

// splitRealm returns the server and the realm of the issuer of a realm.
func splitRealm(issuer string) (server, realm string, ok bool) {
	server, name, found := strings.Cut(issuer, "/realms/")
	realm, err := url.PathUnescape(name)
	return server, realm, found && err == nil && isURL(server) == nil && realm != "" && !strings.Contains(name, "/")
}
