package envoytest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Grant is an answer of the issuer's token endpoint.
type Grant struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// LoginWithRefresh begins a session of subject that [Stack.Refresh] can continue.
func (s *Stack) LoginWithRefresh(ctx context.Context, subject string) (Grant, error) {
	return s.grant(ctx, url.Values{"grant_type": {"password"}, "username": {subject}})
}

// Refresh continues the session of a refresh token. A refresh token works once.
func (s *Stack) Refresh(ctx context.Context, refresh string) (Grant, error) {
	return s.grant(ctx, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
}

func (s *Stack) grant(ctx context.Context, form url.Values) (g Grant, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Issuer.URL()+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return g, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := s.do(req)
	if err != nil {
		return g, err
	}
	if err := json.Unmarshal(a.Body, &g); err != nil || g.Access == "" || g.Refresh == "" {
		return Grant{}, fmt.Errorf("the issuer answered %s with %d, and no tokens", form.Get("grant_type"), a.Status)
	}
	return g, nil
}
