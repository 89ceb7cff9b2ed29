package tokenrevocation

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"time"

	"rescind/revocation/intake/oauth"
)

// Client is an OAuth client that may revoke its tokens. A client whose secret is
// being replaced is there twice.
type Client struct {
	ID     string
	SHA256 [sha256.Size]byte // of the secret
}

// challenge names the way of authentication that has a header.
const challenge = `Basic realm="rescind", charset="UTF-8"`

func refused(description string) *oauth.Fault {
	return &oauth.Fault{Status: http.StatusUnauthorized, Code: oauth.InvalidClient, Description: description, Challenge: challenge}
}

// authenticate returns the client of a request: by HTTP Basic, or by client_id
// and client_secret in the body, and never by both (RFC 6749, section 2.3).
func (e *Endpoint) authenticate(r *http.Request, form oauth.Form) (string, *oauth.Fault) {
	id, _ := form.Value("client_id")
	secret, _ := form.Value("client_secret")
	if header := r.Header.Values("Authorization"); len(header) > 0 {
		if len(header) > 1 || secret != "" {
			return "", oauth.Invalid("the request has more than one credential; send one")
		}
		user, password, ok := basic(r)
		switch {
		case !ok:
			return "", e.fail("the Authorization header must be Basic, with the client ID and the secret each in the encoding of a form")
		case id != "" && id != user:
			return "", oauth.Invalid("client_id and the Authorization header name different clients")
		}
		id, secret = user, password
	}
	if !e.knows(id, secret) {
		return "", e.fail("the client is not known, or its secret is wrong")
	}
	return id, nil
}

// basic returns the credential of the Authorization header. The client ID and the
// secret are encoded as in a form before they are joined (RFC 6749, section
// 2.3.1).
func basic(r *http.Request) (id, secret string, ok bool) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return "", "", false
	}
	id, errID := url.QueryUnescape(user)
	secret, errSecret := url.QueryUnescape(password)
	return id, secret, errID == nil && errSecret == nil
}

// knows reports whether a client has this secret. The time of the answer does not
// depend on the place of the client, nor on the bytes of its secret.
func (e *Endpoint) knows(id, secret string) bool {
	name, sum := sha256.Sum256([]byte(id)), sha256.Sum256([]byte(secret))
	found := 0
	for i := range e.clients {
		c := &e.clients[i]
		its := sha256.Sum256([]byte(c.ID))
		found |= subtle.ConstantTimeCompare(its[:], name[:]) & subtle.ConstantTimeCompare(c.SHA256[:], sum[:])
	}
	return found == 1 && secret != ""
}

// fail returns the refusal of a failed login. Guessing is slowed down for all
// callers alike.
func (e *Endpoint) fail(description string) *oauth.Fault {
	if !e.failures.Allow() {
		return &oauth.Fault{Status: http.StatusTooManyRequests, Code: oauth.InvalidClient, Description: "too many failed logins; send again later", Again: time.Second}
	}
	return refused(description)
}
