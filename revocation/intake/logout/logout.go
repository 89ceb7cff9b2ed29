// Package logout takes the logout tokens of OpenID Connect Back-Channel Logout
// 1.0, errata 1. An identity provider posts one for each session that ends.
//
// # Effect
//
// A logout token with a sid ends that session. A logout token without a sid ends
// every session of its subject until its iat. Some issuers write no sid into
// access tokens, so a revocation of the session would deny nothing. Without
// session IDs in tokens, the subject is revoked in both cases. A logout token that
// then names a session alone cannot be carried out, and is answered as failed.
//
// # A replay is harmless
//
// A session ends once. A subject's cut-off is the iat of the logout token, so a
// token that is sent again denies no token of a later login.
//
// # Trust
//
// Everybody can post. Only the keys of the issuer make a logout token, and the
// same keys make its ID tokens and access tokens. So the token must say that it is
// a logout token, in events, and must not have a nonce, which ID tokens have.
//
// The VerifyLogout of coreos/go-oidc does a part of this and is not used. It takes
// an event whose value is no object, does not look at typ and iat, refuses every
// token without exp, and brings a second reader of tokens that folds case and
// takes duplicate members, and a second follower of keys.
package logout

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/intake"
	"rescind/revocation/intake/oauth"
)

const (
	// event is the member of events that makes a token a logout token. It begins
	// with http, and other members beside it do not matter.
	event = "http://schemas.openid.net/event/backchannel-logout"

	// leeway is the difference of clocks that a logout token may have.
	leeway = 30 * time.Second
	// maxAge bounds the age of a logout token without exp.
	maxAge = 5 * time.Minute
)

// Endpoint serves the logout tokens of one issuer.
type Endpoint struct {
	Signer  *intake.Signer
	Clients []string // client IDs; aud must contain one of them
	// ExpiryOptional takes tokens without exp, which issuers of older drafts
	// send, for five minutes after their iat.
	ExpiryOptional bool
	// NoSessionIDs says that the access tokens of the issuer have no sid.
	NoSessionIDs bool
	Map          intake.Map // of sub and sid
	Door         oauth.Door
}

// ServeHTTP answers 200 once the effect of a logout token is durable.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ev, fault := e.read(w, r)
	if fault != nil {
		oauth.Refuse(w, r, e.Door, fault)
		return
	}
	_, _ = oauth.Take(w, r, e.Door, ev, statuses)
}

// A logout that is not carried out is a failed one, which is 400 (section 2.8).
var statuses = oauth.Statuses{Done: http.StatusOK, Refused: http.StatusBadRequest}

func (e *Endpoint) read(w http.ResponseWriter, r *http.Request) (*intake.Event, *oauth.Fault) {
	form, fault := oauth.ReadForm(w, r)
	if fault != nil {
		return nil, fault
	}
	raw, fault := form.Value("logout_token")
	switch {
	case fault != nil:
		return nil, fault
	case raw == "":
		return nil, oauth.Invalid("the parameter logout_token is missing")
	}
	t, err := e.Signer.Verify(r.Context(), raw)
	switch {
	case errors.Is(err, intake.ErrNoKeys):
		return nil, oauth.NotNow("the keys of the issuer are not available now; send the logout token again")
	case err != nil:
		return nil, oauth.Invalid(err.Error())
	}
	if err := e.check(t, time.Now()); err != nil {
		return nil, oauth.Invalid(err.Error())
	}
	ev := e.event(t)
	if ev == nil {
		return nil, oauth.Invalid(errNoEffect.Error())
	}
	return ev, nil
}

// Errors of a logout token.
var (
	errType     = errors.New("the typ of the logout token must be logout+jwt or JWT, or absent")
	errAudience = errors.New("the aud of the logout token names no client of this endpoint")
	errIssued   = errors.New("the logout token has no iat")
	errFuture   = errors.New("the iat of the logout token is in the future; compare the clocks")
	errNoExpiry = errors.New("the logout token has no exp; set exp: optional for an issuer that writes none")
	errOld      = errors.New("the logout token has no exp, and its iat is more than 5 minutes ago")
	errExpired  = errors.New("the logout token has expired")
	errID       = errors.New("the jti of the logout token must be a string that is not empty")
	errTarget   = errors.New("the logout token must have a sub or a sid, each a string of 1 to 1024 bytes")
	errEvents   = errors.New("the events of the logout token must be an object, with the logout event as a member whose value is an object")
	errNonce    = errors.New("the logout token has a nonce, so it is an ID token")
	errNoEffect = errors.New("the logout token names a session alone, and the access tokens of the issuer have no session IDs, so nothing can be revoked; make the issuer send sub")
)

// check returns the first rule that a verified token breaks, in the order of the
// specification, section 2.6.
func (e *Endpoint) check(t *jwt.Token, now time.Time) error {
	events, _ := t.Claims["events"].(map[string]any)
	_, logout := events[event].(map[string]any)
	_, nonce := t.Claims["nonce"]
	switch {
	case !slices.Contains([]string{"", "logout+jwt", "jwt"}, t.Type):
		return errType
	case !e.audience(t.Claims["aud"]):
		return errAudience
	}
	if err := e.times(t, now); err != nil {
		return err
	}
	switch {
	case !isText(t.Claims["jti"]):
		return errID
	case !e.names(t):
		return errTarget
	case !logout:
		return errEvents
	case nonce:
		return errNonce
	}
	return nil
}

func (e *Endpoint) audience(aud any) bool {
	list, ok := aud.([]any)
	if !ok {
		list = []any{aud}
	}
	return slices.ContainsFunc(list, func(a any) bool {
		client, ok := a.(string)
		return ok && slices.Contains(e.Clients, client)
	})
}

func (e *Endpoint) times(t *jwt.Token, now time.Time) error {
	issued := time.UnixMicro(t.IssuedAt.Micros)
	switch {
	case !t.IssuedAt.Set:
		return errIssued
	case issued.After(now.Add(leeway)):
		return errFuture
	case t.Expires.Set && !now.Before(time.UnixMicro(t.Expires.Micros).Add(leeway)):
		return errExpired
	case t.Expires.Set:
		return nil
	case !e.ExpiryOptional:
		return errNoExpiry
	case issued.Before(now.Add(-maxAge)):
		return errOld
	}
	return nil
}

// names reports whether t has a sub or a sid, and no other thing in their place.
func (e *Endpoint) names(t *jwt.Token) bool {
	found := false
	for _, name := range []string{"sub", "sid"} {
		if v, present := t.Claims[name]; present {
			if !isText(v) {
				return false
			}
			found = true
		}
	}
	return found
}

func isText(v any) bool {
	s, ok := v.(string)
	return ok && s != "" && len(s) <= revocation.MaxValue
}

// event returns the event of a token that breaks no rule, or nil if it can have no
// effect.
func (e *Endpoint) event(t *jwt.Token) *intake.Event {
	issued := time.UnixMicro(t.IssuedAt.Micros).UTC()
	id, _ := t.Claims["jti"].(string)
	sid, _ := t.Claims["sid"].(string)
	sub, _ := t.Claims["sub"].(string)
	act := intake.Act{Issuer: t.Issuer}
	if session, ok := e.Map.Claim(intake.NameSession, sid); ok && !e.NoSessionIDs {
		act.Power, act.Claims = intake.Session, []revocation.Claim{session}
	} else if subject, ok := e.Map.Claim(intake.NameSub, sub); ok {
		act.Power, act.Claims, act.Cutoff = intake.Subject, []revocation.Claim{subject}, issued
	} else {
		return nil
	}
	return &intake.Event{ID: id, Type: event, At: issued, Acts: []intake.Act{act}}
}
