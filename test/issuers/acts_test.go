package issuers

import (
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// act takes accepted tokens back at Keycloak.
type act struct {
	name    string
	scope   string // of the user's login
	own     bool   // the act is about a client of its own, not about the client web
	service bool   // the token is the client's own, not a user's
	newKey  bool   // the token is signed by a key of its own
	wide    bool   // the act reaches every token of the realm
	do      func(k *keycloak, s *subject) error
	event   string // the operation, the type and the end of the path of the admin event; empty: there is none
	logout  bool   // Keycloak sends a back-channel logout
	after   func(k *keycloak, s *subject) error
}

// subject is the party of one act: a user with a session, a client, or a key.
type subject struct {
	*user
	client string
	token  string // the access token that the act takes back
	key    string // the ID of the component of the key that signed the token
}

// acts are those of an administrator and of a user that the product has to hear
// of. The last two reach every token of the realm, so they come last.
var acts = []act{
	{name: "user logs out", logout: true, do: func(k *keycloak, s *subject) error {
		return k.clientPosts(s, "logout", "refresh_token", s.granted.Refresh)
	}},
	{name: "user logged out by an administrator", event: "ACTION USER /logout", logout: true, do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodPost, "/users/"+s.id+"/logout", nil, nil)
	}},
	{name: "session deleted", event: "DELETE USER_SESSION", logout: true, do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodDelete, "/sessions/"+s.granted.Session, nil, nil)
	}},
	{name: "access token revoked by its client", do: func(k *keycloak, s *subject) error {
		return k.clientPosts(s, "revoke", "token", s.granted.Access)
	}},
	{name: "refresh token revoked by its client", do: func(k *keycloak, s *subject) error {
		return k.clientPosts(s, "revoke", "token", s.granted.Refresh)
	}},
	{name: "user disabled", event: "UPDATE USER", do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodPut, "/users/"+s.id, object{"enabled": false}, nil)
	}, after: func(k *keycloak, s *subject) error { // a new login needs nothing but the user enabled
		return k.realm(http.MethodPut, "/users/"+s.id, object{"enabled": true}, nil)
	}},
	{name: "user deleted", event: "DELETE USER", do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodDelete, "/users/"+s.id, nil, nil)
	}},
	{name: "password reset", event: "ACTION USER /reset-password", do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodPut, "/users/"+s.id+"/reset-password", object{"type": "password", "value": s.name, "temporary": false}, nil)
	}},
	{name: "consent deleted, of an offline session", scope: "offline_access", event: "ACTION USER /consents/" + webClient, do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodDelete, "/users/"+s.id+"/consents/"+webClient, nil, nil)
	}},
	{name: "client disabled, token of a user", own: true, event: "UPDATE CLIENT", do: disableClient},
	{name: "client disabled, token of the client", own: true, service: true, event: "UPDATE CLIENT", do: disableClient},
	{name: "client secret regenerated", own: true, service: true, event: "ACTION CLIENT /client-secret", do: func(k *keycloak, s *subject) error {
		return k.onClient(http.MethodPost, s.client, "/client-secret", nil)
	}},
	{name: "key deleted", newKey: true, event: "DELETE COMPONENT", do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodDelete, "/components/"+s.key, nil, nil)
	}},
	{name: "key disabled", newKey: true, event: "UPDATE COMPONENT", do: func(k *keycloak, s *subject) error {
		return k.realm(http.MethodPut, "/components/"+s.key, k.rsaKey(s.key, false), nil)
	}},
	{name: "realm logged out", wide: true, event: "ACTION REALM logout-all", do: func(k *keycloak, _ *subject) error {
		return k.realm(http.MethodPost, "/logout-all", object{"realm": realmName}, nil)
	}},
	{name: "realm's not-before pushed", wide: true, event: "ACTION REALM push-revocation", do: func(k *keycloak, _ *subject) error {
		if err := k.realm(http.MethodPut, "", object{"realm": realmName, "notBefore": time.Now().Unix()}, nil); err != nil {
			return err
		}
		return k.realm(http.MethodPost, "/push-revocation", nil, nil)
	}},
}

// clientPosts sends a token of the subject to an endpoint of the realm, as the
// client of the token.
func (k *keycloak) clientPosts(s *subject, endpoint, parameter, token string) error {
	form := url.Values{"client_id": {s.client}, "client_secret": {secret}, parameter: {token}}
	res, err := http.PostForm(k.issuer()+"/protocol/openid-connect/"+endpoint, form)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s: got %s, want 2xx", endpoint, res.Status)
	}
	return nil
}

func disableClient(k *keycloak, s *subject) error {
	return k.onClient(http.MethodPut, s.client, "", object{"clientId": s.client, "enabled": false})
}

// prepare makes the party of an act.
func (k *keycloak) prepare(a act, name string) (*subject, error) {
	s := &subject{client: webClient, user: &user{}}
	if a.newKey {
		var err error
		if s.key, err = k.newKey(); err != nil {
			return nil, err
		}
	}
	if a.own {
		s.client = "client-of-" + name
		if err := k.realm(http.MethodPost, "/clients", userClient(s.client, nil), nil); err != nil {
			return nil, err
		}
	}
	var err error
	if a.service {
		s.token, err = k.serviceToken(s.client)
		return s, err
	}
	if s.user, err = k.newUser(name, s.client, a.scope); err != nil {
		return nil, err
	}
	s.token = s.granted.Access
	return s, nil
}
