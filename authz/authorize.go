package authz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"rescind/authz/tokencache"
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
	FromRoute   bool       // Policy is in the metadata of the route, where a gateway reads it too
	Source      netip.Addr // of the connection to Envoy; the zero Addr if it is not known
	Certificate string     // of the client, as PEM, URL-encoded; empty if there is none
}

// Authorize decides about r. It returns a denial for every error and every
// panic. It waits for at most 500 ms, and only for a key that is not there yet, and
// beside that for [tokencache.Patience] at most, and only for another request that
// verifies the same token.
func (a *Authorizer) Authorize(ctx context.Context, r *Request) (d Decision) {
	d.ID = newID()
	var flight *tokencache.Flight // of a token that is seen for the first time
	defer func() {
		flight.Land()
		if p := recover(); p != nil {
			d = d.deny(Internal)
			// The log has the type and the stack. The value may quote the request.
			a.panics.Log(slog.String("decision_id", d.ID), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	now := time.Now()
	mark := a.mark()
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

	// guard to policy: all that the token, the configuration and the time decide
	k, key := a.recall(policy, b.token, now)
	if k != nil {
		d.identify(k)
	}
	if a.known != nil {
		defer a.tellKnown(r, policy, key, k, &d, mark, now)
	}
	if k == nil {
		if k, reason = a.establish(ctx, &d, &flight, policy, b.token, key, now); reason != "" {
			return d.deny(reason)
		}
	}
	d.WouldDeny = k.wouldDeny

	// the rest is decided on every request, also for a token that was seen before

	// proof of the key that the token is bound to
	if !k.proven(r, a.trustForwarded) {
		return d.deny(Unproven)
	}

	// revocation
	verdict, err := a.lookup(k, now)
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
	if reason, detail := a.refusesStatus(k.issuer, k.Claims); reason != "" {
		d.Detail = detail
		return d.deny(reason)
	}

	// headers
	d.Allow, d.Reason = true, OK
	a.remember(policy, key, k, &d, now)
	if a.headers.fixed(policy, k, r.Headers) {
		d.Set, d.Remove, d.LeftOut, d.Encoded = k.answer.set, k.answer.remove, k.answer.leftOut, k.answer.encoded
		return d
	}
	a.headers.hide(&d, policy.TokensFrom, r.Headers, &b)
	a.headers.apply(&d, r.Headers, k.verified)
	return d
}

// establish decides as far as the token, the configuration and the time do. It
// returns the token, or the reason for a denial. It writes to d all that is known
// about the token so far. The caller lands the flight, if establish begins one.
func (a *Authorizer) establish(ctx context.Context, d *Decision, flight **tokencache.Flight, policy *policy, raw string, key tokencache.Key, now time.Time) (*known, Reason) {
	// guard
	unverified, err := jwt.Parse(raw)
	if err != nil {
		d.Detail = err.Error()
		return nil, Malformed
	}

	d.Unverified = Unverified{unverified.Issuer, unverified.KeyID}

	// issuer
	issuer := a.issuerOf(unverified)
	if issuer == nil {
		return nil, UntrustedIssuer
	}
	d.Issuer = issuer.Name
	if len(raw) > issuer.MaxToken {
		d.Detail = "the token is larger than max_token_size of its issuer"
		return nil, BadRequest
	}
	if !policy.admits(issuer.Name) {
		d.Detail = "the policy does not admit this issuer"
		return nil, UntrustedIssuer
	}

	// key: the algorithm first, so that a token with another one causes no
	// fetch
	if !issuer.algorithms[unverified.Algorithm] {
		return nil, UnsupportedAlgorithm
	}
	generation := issuer.Keys.Generation() // before the keys, so that it is never newer
	keys, err := issuer.Keys.Find(ctx, unverified.KeyID, unverified.Algorithm)
	switch {
	case errors.Is(err, jwks.ErrUnknownKey):
		d.Detail = err.Error()
		return nil, UnknownKey
	case errors.Is(err, jwks.ErrAmbiguousKey):
		return nil, AmbiguousKey
	case errors.Is(err, jwks.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		d.Detail = err.Error()
		return nil, KeysUnavailable
	case err != nil:
		d.Detail = err.Error()
		return nil, Internal
	}

	// signature: once for all requests that bring the token at the same time
	if a.cache != nil {
		*flight = a.cache.Begin(key)
		if k := a.find(key, time.Now()); k != nil { // another request was faster
			d.identify(k)
			return k, ""
		}
	}
	t, ok := verify(unverified, keys)
	if !ok {
		return nil, BadSignature
	}
	k := a.newKnown(t, issuer, d.Unverified, generation)
	d.identify(k)

	// times and audience
	if claim := issuer.missing(t); claim != "" {
		d.Detail = "the token has no " + claim
		return nil, MissingClaim
	}
	if reason := issuer.invalid(t); reason != "" {
		return nil, reason
	}
	if ahead := t.ahead(now); ahead > issuer.IatLeeway {
		a.warnAhead(issuer, ahead, now)
		d.Detail = ClockAhead
		return nil, NotYetValid
	}
	if issuer.outlives(t, now) {
		return nil, LifetimeTooLong
	}

	// type
	if !issuer.accepts(t) {
		return nil, WrongType
	}

	// policy
	if !issuer.Claims.Hold(t.Claims) {
		d.Detail = "the claims that the issuer's configuration demands"
		return nil, ClaimRefused
	}
	if reason := policy.refuses(t, now, issuer.Leeway); reason != "" && policy.Observe {
		k.wouldDeny = reason
	} else if reason != "" {
		switch reason {
		case InsufficientScope:
			d.Challenge.Scope = strings.Join(policy.Scopes, " ")
		case StepUp:
			d.Challenge.ACRValues = policy.acrValues()
		}
		return nil, reason
	}
	return k, ""
}
