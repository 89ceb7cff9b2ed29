package keycloak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"rescind/jwks/fetch"
)

// Bounds of an answer, in bytes. An event that stands alone may be larger: a
// client or a user with large attributes must not end the polling.
const (
	maxAnswer = 8 << 20
	maxAlone  = 64 << 20 // of one event
)

// ask reads the answer of Keycloak to a GET of a path below the realm's admin
// API. role is the role that the client needs for it.
func (p *Poller) ask(ctx context.Context, path string, query url.Values, role string, limit int64, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	text, err := p.get(ctx, path, query, limit)
	if status := (fetch.StatusError{}); errors.As(err, &status) && status.Code == http.StatusUnauthorized {
		p.token = nil // Keycloak has forgotten it, or has new keys
		text, err = p.get(ctx, path, query, limit)
	}
	if err != nil {
		return explain(err, p.ClientID, role)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of keycloak to %q cannot be read: %w", path, err)
	}
	return nil
}

func (p *Poller) get(ctx context.Context, path string, query url.Values, limit int64) ([]byte, error) {
	if p.http == nil {
		client, err := p.Fetch.Client()
		if err != nil {
			return nil, err
		}
		p.http = client
	}
	if err := p.login(ctx); err != nil {
		return nil, err
	}
	uri := p.Server + "/admin/realms/" + url.PathEscape(p.Realm) + path
	if len(query) > 0 {
		uri += "?" + query.Encode()
	}
	return fetch.Get(ctx, p.http, uri, "application/json", limit, p.token.SetAuthHeader)
}

// login gets a token for the client of the poller, unless the last one is good.
func (p *Poller) login(ctx context.Context) error {
	if p.token.Valid() {
		return nil
	}
	secret, err := p.ClientSecret()
	if err != nil {
		return err
	}
	config := clientcredentials.Config{
		ClientID: p.ClientID, ClientSecret: secret, AuthStyle: oauth2.AuthStyleInParams,
		TokenURL: p.Server + "/realms/" + url.PathEscape(p.Realm) + "/protocol/openid-connect/token",
	}
	p.token, err = config.Token(context.WithValue(ctx, oauth2.HTTPClient, p.http))
	return err
}

// explain adds the next step of the operator to an error of Keycloak.
func explain(err error, client, role string) error {
	status, login := fetch.StatusError{}, &oauth2.RetrieveError{}
	switch {
	case errors.As(err, &login) && login.Response != nil && login.Response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("keycloak does not know the realm; check server and realm of the intake: %w", err)
	case errors.As(err, &login) && login.ErrorCode != "":
		return fmt.Errorf("keycloak refuses the client %q (%s); check its ID and its secret, and switch on its client authentication and its service account roles",
			client, strings.Join([]string{login.ErrorCode, login.ErrorDescription}, ": "))
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		return fmt.Errorf("the service account of the client %q lacks the role %q of the client realm-management; assign it in Keycloak: %w", client, role, err)
	}
	return err
}

// gone reports whether Keycloak has answered that an object does not exist.
func gone(err error) bool {
	status := fetch.StatusError{}
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
