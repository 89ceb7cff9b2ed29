package authz

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// Request has the parts of a request that a decision depends on.
type Request struct {
	Headers     []Header   // all of them, in any case; a repeated header is repeated
	Path        string     // with the query; empty if it is not known
	Host        string     // empty if it is not known
	Policy      *string    // the policy that the route names; nil: DefaultPolicy
	Source      netip.Addr // of the connection to Envoy; the zero Addr if it is not known
	Certificate string     // of the client, as PEM, URL-encoded; empty if there is none
}

// Authorize decides about r. It returns a denial for every error and every
// panic. It waits for at most 500 ms, and only for a key that is not there yet.
func (a *Authorizer) Authorize(ctx context.Context, r *Request) (d Decision) {
	d.ID = rand.Text()
	defer func() {
		if p := recover(); p != nil {
			d = d.deny(Internal)
			// The log has the type and the stack. The value may quote the request.
			a.panics.Log(slog.String("decision_id", d.ID), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	now := time.Now()
	_, d.Revision = a.revocations.Position()

	name, policy := a.policy(r)
	d.Policy = name
	if policy == nil {
		return d.deny(UnknownPolicy)
	}

	d.Challenge = policy.challenge()

	// bearer
	b, reason := findBearer(r, policy.TokensFrom, a.maxToken)
	if reason == NoToken && policy.TokenOptional {
		d.Allow, d.Reason = true, NoTokenAllowed
		a.headers.hide(&d, policy.TokensFrom, r.Headers, nil)
		a.headers.apply(&d, r.Headers, nil)
		return d
	}
	if reason != "" {
		return d.deny(reason)
	}

	// guard
	unverified, err := jwt.Parse(b.token)
	if err != nil {
		d.Detail = err.Error()
		return d.deny(Malformed)
	}

	d.Unverified = Unverified{unverified.Issuer, unverified.KeyID}

	// issuer
	issuer := a.issuerOf(unverified)
	if issuer == nil {
		return d.deny(UntrustedIssuer)
	}
	d.Issuer = issuer.Name
	if len(b.token) > issuer.MaxToken {
		d.Detail = "the token is larger than max_token_size of its issuer"
		return d.deny(BadRequest)
	}
	if !policy.admits(issuer.Name) {
		d.Detail = "the policy does not admit this issuer"
		return d.deny(UntrustedIssuer)
	}

	// key: the algorithm first, so that a token with another one causes no
	// fetch
	if !issuer.algorithms[unverified.Algorithm] {
		return d.deny(UnsupportedAlgorithm)
	}
	keys, err := issuer.Keys.Find(ctx, unverified.KeyID, unverified.Algorithm)
	switch {
	case errors.Is(err, jwks.ErrUnknownKey):
		d.Detail = err.Error()
		return d.deny(UnknownKey)
	case errors.Is(err, jwks.ErrAmbiguousKey):
		return d.deny(AmbiguousKey)
	case errors.Is(err, jwks.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		d.Detail = err.Error()
		return d.deny(KeysUnavailable)
	case err != nil:
		d.Detail = err.Error()
		return d.deny(Internal)
	}

	// signature
	t, ok := verify(unverified, keys)
	if !ok {
		return d.deny(BadSignature)
	}
	d.Subject, d.TokenID, d.Facts = t.text("sub"), t.text("jti"), t.facts()

	// times and audience
	if claim := issuer.missing(t); claim != "" {
		d.Detail = "the token has no " + claim
		return d.deny(MissingClaim)
	}
	if reason := issuer.invalid(t); reason != "" {
		return d.deny(reason)
	}
	if ahead := t.ahead(now); ahead > issuer.IatLeeway {
		a.warnAhead(issuer, ahead, now)
		d.Detail = ClockAhead
		return d.deny(NotYetValid)
	}
	if issuer.outlives(t, now) {
		return d.deny(LifetimeTooLong)
	}

	// type: an access token, sent by the client that it was issued to
	if !issuer.accepts(t) {
		return d.deny(WrongType)
	}
	if !t.proven(r, a.trustForwarded) {
		return d.deny(Unproven)
	}

	// policy
	if !issuer.Claims.Hold(t.Claims) {
		d.Detail = "the claims that the issuer's configuration demands"
		return d.deny(ClaimRefused)
	}
	if reason := policy.refuses(t, now, issuer.Leeway); reason != "" && policy.Observe {
		d.WouldDeny = reason
	} else if reason != "" {
		switch reason {
		case InsufficientScope:
			d.Challenge.Scope = strings.Join(policy.Scopes, " ")
		case StepUp:
			d.Challenge.ACRValues = policy.acrValues()
		}
		return d.deny(reason)
	}

	// revocation: on every request
	verdict, err := a.revocations.Lookup(t.revocable(), now)
	d.Revision, d.Stale = max(d.Revision, verdict.Revision), verdict.Stale
	switch {
	case errors.Is(err, replica.ErrNotReady):
		return d.deny(NotReady)
	case errors.Is(err, revocation.ErrTooManyCombinations):
		d.Detail = err.Error()
		return d.deny(Malformed)
	case err != nil:
		d.Detail = err.Error()
		return d.deny(Internal)
	case verdict.Revoked:
		d.RevocationID, d.RevokedBy = verdict.By, verdict.Kind
		return d.deny(Revoked)
	case verdict.Overdue && a.denyOverdue:
		return d.deny(Stale)
	}

	// status list: last, on every request
	if reason, detail := a.refusesStatus(issuer, t.Claims, now); reason != "" {
		d.Detail = detail
		return d.deny(reason)
	}

	// headers
	d.Allow, d.Reason = true, OK
	a.headers.hide(&d, policy.TokensFrom, r.Headers, &b)
	a.headers.apply(&d, r.Headers, t)
	return d
}
