package envoytest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Login returns a token for subject from the issuer's token endpoint, in a new
// session.
func (s *Stack) Login(ctx context.Context, subject string) (string, error) {
	form := url.Values{"grant_type": {"password"}, "username": {subject}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Issuer.URL()+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := s.do(req)
	if err != nil {
		return "", err
	}
	var granted struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(a.Body, &granted); err != nil || granted.Token == "" {
		return "", fmt.Errorf("the issuer answered the login of %q with %d, and no token", subject, a.Status)
	}
	return granted.Token, nil
}

// Mint returns a token of the issuer. The claims replace those of an ordinary
// access token, and nil removes a claim.
func (s *Stack) Mint(claims map[string]any) (string, error) { return s.Issuer.Mint(claims) }

// Disable ends the sessions of a user at the issuer, as an administrator does, and
// returns the status with which the intake took the logout.
func (s *Stack) Disable(ctx context.Context, subject string) (Answer, int, error) {
	form := url.Values{"username": {subject}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Issuer.URL()+"/disable", strings.NewReader(form.Encode()))
	if err != nil {
		return Answer{}, 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	a, err := s.do(req)
	if err != nil {
		return a, 0, err
	}
	var got struct{ Logout int }
	if err := json.Unmarshal(a.Body, &got); err != nil {
		return a, 0, fmt.Errorf("the issuer answered %d: %s", a.Status, a.Body)
	}
	return a, got.Logout, nil
}

// Rotate gives the issuer a new signing key, which is published at once.
func (s *Stack) Rotate() error { return s.Issuer.Rotate() }

// Claim returns a claim of a token, without verifying the token.
func Claim(token, name string) (any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("the token is not a signed JWT")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		return nil, err
	}
	value, ok := claims[name]
	if !ok {
		return nil, fmt.Errorf("the token has no claim %q", name)
	}
	return value, nil
}
