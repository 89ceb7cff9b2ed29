package issuers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The realm and its clients. Each secret stands in the realm and in the product's
// configuration, and protects nothing.
const (
	realmName    = "acme"
	webClient    = "web" // with back-channel logout
	pollerClient = "rescind-poller"
	signalClient = "rescind-signals"
	secret       = "no-secret-at-all"
)

type object = map[string]any

// token is a bearer token and its end.
type token struct {
	text string
	ends time.Time
}

func (k *keycloak) issuer() string { return k.url + "/realms/" + realmName }

// makeRealm makes the realm: a client of users with back-channel logout to logout,
// the client of the poller, and the client of a receiver of signals that may have
// them pushed below push.
func (k *keycloak) makeRealm(logout, push string) {
	k.t.Helper()
	err := k.call(http.MethodPost, "/admin/realms", object{
		"realm": realmName, "enabled": true, "accessTokenLifespan": 600, "sslRequired": "none",
		"adminEventsEnabled": true, "adminEventsDetailsEnabled": true, "eventsEnabled": true,
		"passwordPolicy": "hashAlgorithm(pbkdf2-sha256) and hashIterations(1)", // the hash is not under test
		"attributes":     object{"ssf.transmitterEnabled": "true"},
		"clients": []object{
			userClient(webClient, object{"backchannel.logout.url": logout, "backchannel.logout.session.required": "true"}),
			{"clientId": pollerClient, "secret": secret, "publicClient": false, "serviceAccountsEnabled": true, "standardFlowEnabled": false},
			{"clientId": signalClient, "secret": secret, "publicClient": false, "serviceAccountsEnabled": true, "standardFlowEnabled": false,
				"attributes": object{"ssf.enabled": "true", "ssf.defaultSubjects": "ALL", "ssf.validPushUrls": push}},
		},
		"users": []object{{"username": "service-account-" + pollerClient, "enabled": true, "serviceAccountClientId": pollerClient,
			"clientRoles": object{"realm-management": pollerRoles}}},
	}, nil)
	must(k.t, err)
	var realm struct{ ID string }
	must(k.t, k.realm(http.MethodGet, "", nil, &realm))
	k.realmID = realm.ID
	var scopes []struct{ ID, Name string }
	must(k.t, k.realm(http.MethodGet, "/client-scopes", nil, &scopes))
	for _, scope := range scopes {
		if scope.Name == "ssf.read" || scope.Name == "ssf.manage" {
			must(k.t, k.onClient(http.MethodPut, signalClient, "/default-client-scopes/"+scope.ID, nil))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pollerRoles are the roles of the client realm-management that the poller needs.
var pollerRoles = []string{"view-events", "view-users", "view-clients", "view-realm"}

// userClient is a client that users log in to. Its tokens are for the audience
// api.
func userClient(id string, attributes object) object {
	return object{
		"clientId": id, "secret": secret, "publicClient": false, "directAccessGrantsEnabled": true, "serviceAccountsEnabled": true,
		"redirectUris": []string{"http://127.0.0.1/*"}, "attributes": attributes,
		"protocolMappers": []object{{"name": "api", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
			"config": object{"included.custom.audience": "api", "access.token.claim": "true", "id.token.claim": "false"}}},
	}
}

// user is a user of the realm with one session.
type user struct {
	id, name string
	granted  tokens
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Session string `json:"session_state"` // the sid
	Expires int    `json:"expires_in"`
}

// newUser makes a user and logs the user in at a client.
func (k *keycloak) newUser(name, client, scope string) (*user, error) {
	err := k.realm(http.MethodPost, "/users", object{
		"username": name, "enabled": true, "email": name + "@example.test", "emailVerified": true, "firstName": name, "lastName": "Example",
		"credentials": []object{{"type": "password", "value": name, "temporary": false}},
	}, nil)
	if err != nil {
		return nil, err
	}
	id, err := k.only("/users?exact=true&username=" + url.QueryEscape(name))
	if err != nil {
		return nil, err
	}
	u := &user{id: id, name: name}
	u.granted, err = k.login(u, client, scope)
	return u, err
}

// login opens a session of the user.
func (k *keycloak) login(u *user, client, scope string) (tokens, error) {
	form := url.Values{"grant_type": {"password"}, "username": {u.name}, "password": {u.name}, "client_id": {client}, "client_secret": {secret}}
	if scope != "" {
		form.Set("scope", scope)
	}
	return k.grant(realmName, form)
}

// serviceToken returns an access token that a client gets for itself.
func (k *keycloak) serviceToken(client string) (string, error) {
	granted, err := k.grant(realmName, url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}})
	return granted.Access, err
}

// grant asks the token endpoint of a realm.
func (k *keycloak) grant(realm string, form url.Values) (granted tokens, err error) {
	res, err := http.PostForm(k.url+"/realms/"+realm+"/protocol/openid-connect/token", form)
	if err != nil {
		return granted, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return granted, err
	}
	if res.StatusCode != http.StatusOK {
		return granted, fmt.Errorf("the token endpoint of the realm %s answers a grant of %s with %s %s", realm, form.Get("grant_type"), res.Status, body)
	}
	return granted, json.Unmarshal(body, &granted)
}

// newKey gives the realm a new signing key, which signs from now on, and returns
// the ID of its component.
func (k *keycloak) newKey() (string, error) {
	k.keys++
	key := k.rsaKey("", true)
	if err := k.realm(http.MethodPost, "/components", key, nil); err != nil {
		return "", err
	}
	return k.only("/components?name=" + key["name"].(string))
}

// rsaKey is the component of the newest key. A key that is not enabled leaves the
// key set.
func (k *keycloak) rsaKey(id string, enabled bool) object {
	key := object{
		"name": fmt.Sprintf("rsa-%d", k.keys), "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider", "parentId": k.realmID,
		"config": object{"priority": []string{fmt.Sprint(1000 + k.keys)}, "enabled": []string{fmt.Sprint(enabled)}, "active": []string{fmt.Sprint(enabled)},
			"algorithm": []string{"RS256"}, "keySize": []string{"2048"}},
	}
	if id != "" {
		key["id"] = id
	}
	return key
}

// onClient calls the admin API below a client.
func (k *keycloak) onClient(method, client, path string, body any) error {
	id, err := k.only("/clients?clientId=" + url.QueryEscape(client))
	if err != nil {
		return err
	}
	return k.realm(method, "/clients/"+id+path, body, nil)
}

// only returns the ID of the single element of a list.
func (k *keycloak) only(path string) (string, error) {
	var found []struct{ ID string }
	if err := k.realm(http.MethodGet, path, nil, &found); err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s: got %d elements, want 1", path, len(found))
	}
	return found[0].ID, nil
}

// realm calls the admin API below the realm.
func (k *keycloak) realm(method, path string, body, into any) error {
	return k.call(method, "/admin/realms/"+realmName+path, body, into)
}

// call calls the admin API as the administrator.
func (k *keycloak) call(method, path string, body, into any) error {
	if time.Now().After(k.admin.ends) {
		granted, err := k.grant("master", url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}})
		if err != nil {
			return err
		}
		k.admin = token{granted.Access, time.Now().Add(time.Duration(granted.Expires)*time.Second - 20*time.Second)}
	}
	return exchange(k.admin.text, method, k.url+path, body, into)
}

// exchange sends JSON and reads JSON. It fails unless the answer is 2xx.
func exchange(bearer, method, url string, body, into any) error {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, url, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: got %s %s, want 2xx", method, url, res.Status, strings.TrimSpace(string(text)))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}
