// Package tokenrevocation is a revocation endpoint of RFC 7009, at which OAuth
// clients give back their own access tokens.
//
// # Effect
//
// A token that verifies, has not expired and was issued to the client is revoked,
// by its jti or its hash. A token that does not verify, or has expired, is
// answered with 200 and changes nothing: it is denied already, and a client
// could not do anything about an error (RFC 7009, section 2.2). So no client can
// make entries that are not about its own tokens.
//
// # The client of a token
//
// Issuers write the client into client_id, azp, cid or appid. The first of these
// that the token has must be the client. A token that names no client belongs to
// nobody. A token of another client is refused, and stays accepted.
//
// # Trust
//
// Clients authenticate with a secret, of which the configuration holds the
// SHA-256. Failed logins are slowed down for all callers alike. A caller with the
// right secret does not notice.
package tokenrevocation

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/oauth"
)

const (
	// eventType begins the names of the events of this endpoint. The client
	// follows, so that the audit has it.
	eventType = "token_revocation:"
	// grace is the longest time after its exp for which a replica accepts a
	// token.
	grace = time.Minute

	unsupportedTokenType = "unsupported_token_type"
)

// Endpoint serves the clients of one issuer.
type Endpoint struct {
	signer   *intake.Signer
	clients  []Client
	door     oauth.Door
	failures *rate.Limiter // of credentials: beyond, 429
}

// New returns the endpoint for the access tokens of the signer.
func New(signer *intake.Signer, clients []Client, door oauth.Door) *Endpoint {
	return &Endpoint{signer: signer, clients: clients, door: door, failures: rate.NewLimiter(10, 50)}
}

// ServeHTTP answers 200 once the revocation of a token is durable, and for a
// token that no replica accepts.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, raw, fault := e.read(w, r)
	if fault != nil {
		oauth.Refuse(w, r, e.door, fault)
		return
	}
	t, err := e.verify(r.Context(), raw, time.Now())
	switch {
	case errors.Is(err, intake.ErrNoKeys):
		oauth.NotNow("the keys of the issuer are not available now; the token is still valid: send it again").Write(w)
		return
	case err != nil: // no replica accepts it
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusOK)
		return
	}
	if fault := check(t, client); fault != nil {
		oauth.Refuse(w, r, e.door, fault)
		return
	}
	_, _ = oauth.Take(w, r, e.door, &intake.Event{
		ID: idOf(t), Type: eventType + client,
		Acts: []intake.Act{{Power: intake.Token, Issuer: t.Issuer, Token: raw}},
	}, oauth.Statuses{Done: http.StatusOK, Refused: http.StatusBadRequest})
}

// idOf returns the ID of the revocation of a token. It is the same for each
// request with this token, so that a client cannot revoke a token twice.
func idOf(t *jwt.Token) string {
	if id, _ := t.Claims["jti"].(string); id != "" {
		return id
	}
	sum := t.Hash()
	return hex.EncodeToString(sum[:])
}

// read returns the client and the token of a request. Everything that decides
// stands in the body and in the Authorization header, never in the URL, which
// logs would show.
func (e *Endpoint) read(w http.ResponseWriter, r *http.Request) (client, raw string, fault *oauth.Fault) {
	form, fault := oauth.ReadForm(w, r)
	if fault == nil {
		fault = form.Once()
	}
	if fault != nil {
		return "", "", fault
	}
	if client, fault = e.authenticate(r, form); fault != nil {
		return "", "", fault
	}
	if raw, _ = form.Value("token"); raw == "" {
		return "", "", oauth.Invalid("the parameter token is missing")
	}
	return client, raw, nil
}

// errNone says that no replica accepts the token.
var errNone = errors.New("the token is not valid")

// verify returns a token that replicas may accept. The error is errNone if none
// does, and intake.ErrNoKeys if that cannot be said now.
func (e *Endpoint) verify(ctx context.Context, raw string, now time.Time) (*jwt.Token, error) {
	t, err := e.signer.Verify(ctx, raw)
	switch {
	case errors.Is(err, intake.ErrNoKeys):
		return nil, err
	case err != nil, !now.Before(time.UnixMicro(t.Expires.Micros).Add(grace)): // without exp it is of 1970
		return nil, errNone
	}
	return t, nil
}

// check returns why a verified token cannot be revoked here by the client.
func check(t *jwt.Token, client string) *oauth.Fault {
	switch {
	case !isAccess(t):
		return &oauth.Fault{Status: http.StatusBadRequest, Code: unsupportedTokenType,
			Description: "the token is not an access token; send the access token, because a gateway accepts no other"}
	case !belongs(t, client):
		return oauth.Invalid("the token was not issued to this client")
	}
	return nil
}

// isAccess reports whether t may be an access token. A refresh token or an ID
// token is accepted by no gateway, so its revocation would end nothing. Keycloak
// tells its tokens apart by the claim typ alone. Only ID tokens have the hash of
// another token.
func isAccess(t *jwt.Token) bool {
	if !slices.Contains([]string{"", "jwt", "at+jwt"}, t.Type) {
		return false
	}
	for _, name := range []string{"at_hash", "c_hash", "events"} {
		if _, ok := t.Claims[name]; ok {
			return false
		}
	}
	kind, _ := t.Claims["typ"].(string)
	return !slices.Contains([]string{"id", "refresh", "offline", "logout"}, strings.ToLower(kind))
}

// belongs reports whether the first claim of t that names a client names this
// one.
func belongs(t *jwt.Token, client string) bool {
	for _, name := range revocation.ClientNames {
		if v, ok := t.Claims[name]; ok {
			return revocation.Shown(v) == client
		}
	}
	return false
}
