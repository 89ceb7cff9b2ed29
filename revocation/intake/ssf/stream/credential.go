package stream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"rescind/revocation/printable"
)

// Credential is a credential of this receiver at a transmitter: a bearer token,
// or client credentials at an authorization server. The zero credential is none.
type Credential struct {
	Token func() (string, error) // nil: none; asked for each request

	TokenURL string // of the authorization server; empty: no client credentials
	ClientID string
	Secret   func() (string, error)
	Scopes   []string
}

// tokens yields the bearer tokens of a credential.
type tokens struct {
	c    Credential
	http *http.Client

	mu   sync.Mutex // also held while an access token is fetched
	kept *oauth2.Token
}

func newTokens(c Credential, h *http.Client) (*tokens, error) {
	if c.Token != nil && c.TokenURL != "" {
		return nil, errors.New("a transmitter has one credential: a token, or a client at a token_url")
	}
	return &tokens{c: c, http: h}, nil
}

// now returns a bearer token, or "" if the credential is none.
func (t *tokens) now(ctx context.Context) (string, error) {
	switch {
	case t.c.Token != nil:
		return t.c.Token()
	case t.c.TokenURL == "":
		return "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kept.Valid() {
		return t.kept.AccessToken, nil
	}
	secret, err := t.c.Secret()
	if err != nil {
		return "", err
	}
	config := clientcredentials.Config{ClientID: t.c.ClientID, ClientSecret: secret, TokenURL: t.c.TokenURL, Scopes: t.c.Scopes}
	if t.kept, err = config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.http)); err != nil {
		return "", t.refused(err)
	}
	return t.kept.AccessToken, nil
}

// refused returns the error of the authorization server without its body.
func (t *tokens) refused(err error) error {
	var e *oauth2.RetrieveError
	if !errors.As(err, &e) {
		return unwrapped(t.c.TokenURL, err)
	}
	return fmt.Errorf("%s answered %s %s", t.c.TokenURL, e.Response.Status, printable.Clean(e.ErrorCode+" "+e.ErrorDescription, 200))
}

// forget drops the access token that is kept, so that the next request fetches
// another. It reports whether there was one.
func (t *tokens) forget() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.kept != nil
	t.kept = nil
	return kept
}
