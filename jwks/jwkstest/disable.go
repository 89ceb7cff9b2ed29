package jwkstest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// logoutTime bounds the sending of a logout token.
const logoutTime = 10 * time.Second

// SendLogouts makes the issuer post a logout token of OpenID Connect Back-Channel
// Logout 1.0 to this address when a user is disabled. As with most issuers there
// is one post, and none after a failure.
func (i *Issuer) SendLogouts(uri string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.logoutURI = uri
}

// Disable ends all sessions of a user, refuses new ones, and sends a logout token
// without sid. It returns the status of the answer, and 0 if logouts are not
// sent. Access tokens stay valid until they expire.
func (i *Issuer) Disable(ctx context.Context, username string) (status int, err error) {
	i.mu.Lock()
	uri := i.logoutURI
	i.disabled[username] = true
	for id, s := range i.sessions {
		if s.subject == username {
			delete(i.sessions, id)
		}
	}
	i.mu.Unlock()
	if uri == "" {
		return 0, nil
	}
	token, err := i.LogoutToken(map[string]any{"sub": username})
	if err != nil {
		return 0, err
	}
	return postForm(ctx, uri, url.Values{"logout_token": {token}})
}

// LogoutToken returns a logout token. The given claims are added, and replace its
// own. nil removes a claim.
func (i *Issuer) LogoutToken(claims map[string]any) (string, error) {
	k, now := i.signing(), time.Now()
	return k.sign(
		map[string]any{"typ": "logout+jwt", "kid": k.id, "alg": i.o.Algorithm},
		changed(map[string]any{
			"iss":    i.url,
			"aud":    defaultClient,
			"jti":    rand.Text(),
			"iat":    now.Unix(),
			"exp":    now.Add(2 * time.Minute).Unix(),
			"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
		}, claims))
}

// postForm sends a form, and returns the status of the answer.
func postForm(ctx context.Context, uri string, form url.Values) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("test issuer: the logout token was not taken: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

// disable serves the act of an administrator. Its answer has the status with which
// the logout token was taken.
func (i *Issuer) disable(w http.ResponseWriter, r *http.Request) {
	status, err := i.Disable(r.Context(), r.PostFormValue("username"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	answer(w, http.StatusOK, map[string]int{"logout": status})
}
