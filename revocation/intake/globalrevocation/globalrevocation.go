// Package globalrevocation takes Global Token Revocation requests
// (draft-parecki-oauth-global-token-revocation-06) in the shape that Okta sends
// for Universal Logout: everything that a user holds is to end now.
//
// # Effect
//
// The request names a user by email, or by issuer and subject. Every token of the
// user that was issued until the receipt of the request is denied. The endpoint
// does not know users, so an unknown one is answered with 204 as well.
//
// # Trust
//
// The request carries a signed JWT as its credential. The keys of the identity
// provider also sign ID tokens, so the credential must have the typ of its kind,
// and this endpoint as its only audience. It does not cover the body. So one
// credential stands for one user: it may be sent again for the same user, which
// then changes nothing, and is refused for another user. Each node remembers the
// credentials that it has seen until they expire.
package globalrevocation

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/oauth"
)

const (
	credentialType = "global-token-revocation+jwt"
	eventType      = "global_token_revocation"

	// leeway is the difference of clocks that a credential may have.
	leeway = 30 * time.Second
	// longest is the time for which a credential may still be valid.
	longest = time.Hour
)

// Endpoint serves the requests of one identity provider.
type Endpoint struct {
	Signer   *intake.Signer // of the credentials
	Audience string         // URL of this endpoint, as senders know it
	Clients  []string       // accepted sub of the credentials
	Issuers  []string       // issuers of the tokens of a user that is named by email
	Map      intake.Map     // of email and sub
	Door     oauth.Door

	once once
}

// ServeHTTP answers 204 once the effect of a request is durable.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, who, fault := e.read(w, r)
	acts := e.acts(who, time.Now())
	if fault == nil && len(acts) == 0 {
		fault = &oauth.Fault{Status: http.StatusUnprocessableEntity, Code: oauth.InvalidRequest, Description: "the map of this endpoint names no claim that carries an email"}
	}
	if fault != nil {
		oauth.Refuse(w, r, e.Door, fault)
		return
	}
	earlier, state := e.once.begin(c, who, time.Now())
	switch state {
	case repeated:
		oauth.Answer(w, earlier, statuses)
		return
	case reused:
		oauth.Refuse(w, r, e.Door, unauthorized("the credential has been used for another user; make one for each request"))
		return
	case busy:
		oauth.NotNow("the same request is being carried out, or there are too many; send it again").Write(w)
		return
	}
	out, err := oauth.Take(w, r, e.Door, &intake.Event{ID: c.id, Type: eventType, Acts: acts}, statuses)
	e.once.end(c, out, err)
}

var statuses = oauth.Statuses{Done: http.StatusNoContent, Refused: http.StatusForbidden}

// read authenticates the sender before it reads the body.
func (e *Endpoint) read(w http.ResponseWriter, r *http.Request) (c credential, who user, fault *oauth.Fault) {
	if fault = oauth.NotPost(r); fault != nil {
		return c, who, fault
	}
	if c, fault = e.authenticate(r); fault != nil {
		return c, who, fault
	}
	body, fault := oauth.ReadBody(w, r, "application/json")
	if fault != nil {
		return c, who, fault
	}
	who, err := parseUser(body)
	if err != nil {
		return c, who, oauth.Invalid(err.Error())
	}
	return c, who, nil
}

// credential is the verified JWT of a sender.
type credential struct {
	id      string // jti
	expires time.Time
}

func unauthorized(description string) *oauth.Fault {
	return &oauth.Fault{
		Status: http.StatusUnauthorized, Code: "invalid_token", Description: description,
		Challenge: `Bearer realm="rescind", error="invalid_token"`,
	}
}

func (e *Endpoint) authenticate(r *http.Request) (c credential, fault *oauth.Fault) {
	header := r.Header.Values("Authorization")
	if len(header) != 1 {
		return c, &oauth.Fault{Status: http.StatusUnauthorized, Code: "invalid_token", Description: "one credential is needed: Authorization: Bearer JWT", Challenge: `Bearer realm="rescind"`}
	}
	scheme, raw, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || len(raw) > revocation.MaxToken {
		return c, unauthorized("the credential must be a signed JWT: Authorization: Bearer JWT")
	}
	t, err := e.Signer.Verify(r.Context(), strings.TrimLeft(raw, " "))
	switch {
	case errors.Is(err, intake.ErrNoKeys):
		return c, oauth.NotNow("the keys of the issuer are not available now; send the request again")
	case err != nil:
		return c, unauthorized(err.Error())
	}
	if err := e.check(t, time.Now()); err != nil {
		return c, unauthorized(err.Error())
	}
	if client, _ := t.Claims["sub"].(string); !slices.Contains(e.Clients, client) {
		return c, &oauth.Fault{Status: http.StatusForbidden, Code: "access_denied", Description: "the sub of the credential is no client of this endpoint"}
	}
	return credential{t.Claims["jti"].(string), time.UnixMicro(t.Expires.Micros)}, nil
}

// Errors of a credential.
var (
	errType     = errors.New("the typ of the credential must be " + credentialType)
	errAudience = errors.New("the aud of the credential must be the URL of this endpoint alone")
	errTimes    = errors.New("the credential must have iat and exp")
	errExpired  = errors.New("the credential has expired")
	errEarly    = errors.New("the iat or nbf of the credential is in the future; compare the clocks")
	errLong     = errors.New("the credential is valid for more than an hour; let it expire after five minutes")
	errID       = errors.New("the jti of the credential must be a string of 1 to 1024 bytes")
)

// check returns the first rule that a verified credential breaks.
func (e *Endpoint) check(t *jwt.Token, now time.Time) error {
	id, _ := t.Claims["jti"].(string)
	early := now.Add(leeway).UnixMicro()
	switch {
	case t.Type != credentialType:
		return errType
	case !isSole(t.Claims["aud"], e.Audience):
		return errAudience
	case !t.IssuedAt.Set || !t.Expires.Set:
		return errTimes
	case t.Expires.Micros <= now.Add(-leeway).UnixMicro():
		return errExpired
	case t.IssuedAt.Micros > early || t.NotBefore.Set && t.NotBefore.Micros > early:
		return errEarly
	case t.Expires.Micros > now.Add(longest+leeway).UnixMicro():
		return errLong
	case id == "" || len(id) > revocation.MaxValue:
		return errID
	}
	return nil
}

// isSole reports whether aud names this audience and no other one.
func isSole(aud any, want string) bool {
	if list, ok := aud.([]any); ok && len(list) == 1 {
		aud = list[0]
	}
	return aud == want
}

// acts returns the effects that deny every token of the user until now. There are
// none if no claim carries the name of the user.
func (e *Endpoint) acts(who user, now time.Time) (acts []intake.Act) {
	kind, names, issuers := intake.NameSub, []string{who.subject}, []string{who.issuer}
	if who.email != "" {
		kind, names, issuers = intake.NameEmail, spellings(who.email), e.Issuers
	}
	for _, name := range names {
		claim, ok := e.Map.Claim(kind, name)
		if !ok {
			return nil
		}
		for _, issuer := range issuers {
			acts = append(acts, intake.Act{Power: intake.Subject, Issuer: issuer, Claims: []revocation.Claim{claim}, Cutoff: now})
		}
	}
	return acts
}
