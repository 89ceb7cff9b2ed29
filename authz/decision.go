package authz

import (
	"net/http"
	"sync/atomic"
	"time"

	"rescind/revocation"
)

// Reason says why a request was allowed or denied. It has no other values than
// these, so it can be a label of a metric.
type Reason string

const (
	OK             Reason = "ok"
	NoTokenAllowed Reason = "no_token_allowed"

	NoToken    Reason = "no_token"
	BadRequest Reason = "bad_request" // a token in two places, a comma, not UTF-8, too large

	Malformed            Reason = "malformed"
	WrongType            Reason = "wrong_type"
	UntrustedIssuer      Reason = "untrusted_issuer"
	UnsupportedAlgorithm Reason = "unsupported_algorithm"
	UnknownKey           Reason = "unknown_key"
	AmbiguousKey         Reason = "ambiguous_key" // no kid, and more keys fit than are tried
	BadSignature         Reason = "bad_signature"
	Expired              Reason = "expired"
	NotYetValid          Reason = "not_yet_valid"
	LifetimeTooLong      Reason = "lifetime_too_long"
	TooOld               Reason = "too_old"
	WrongAudience        Reason = "wrong_audience"
	MissingClaim         Reason = "missing_claim"
	Unproven             Reason = "unproven" // bound to a key that the request did not prove
	Revoked              Reason = "revoked"
	StatusRefused        Reason = "status_refused" // the token's claim status names no place that can be checked

	InsufficientScope Reason = "insufficient_scope"
	ClaimRefused      Reason = "claim_refused"
	StepUp            Reason = "step_up" // the policy's condition on acr does not hold
	UnknownPolicy     Reason = "unknown_policy"

	KeysUnavailable   Reason = "keys_unavailable"
	StatusUnavailable Reason = "status_unavailable" // there is no usable list with the token's status
	NotReady          Reason = "not_ready"
	Stale             Reason = "stale"
	Internal          Reason = "internal"
)

// Decision is the outcome of one request. Its zero value denies.
type Decision struct {
	Allow  bool
	Reason Reason
	ID     string // random, names this decision in logs
	Policy string // the name that the request asked for, or "default"
	Detail string // for the operator's log; quotes nothing of the request

	Issuer  string // the configured issuer that the token names; empty if it names another
	Subject string // empty before the signature has been verified
	TokenID string // empty before the signature has been verified

	// Facts are further claims of the token. They are nil before the signature
	// has been verified.
	Facts *Facts

	Revision     uint64        // of the revocations that the decision was made with; 0 if there were none yet
	RevocationID revocation.ID // on Revoked; zero if Detail is ByStatusList
	RevokedBy    revocation.Kind
	Stale        bool // the revocations are older than max_staleness, or than 30s where that is 0

	// Unverified is the token's own word. It is for logs alone, to understand a
	// denial that came before the signature was verified.
	Unverified Unverified

	Challenge Challenge // of a denial

	// WouldDeny is the reason for which a policy that observes would have
	// denied the request. Only a decision that allows has it.
	WouldDeny Reason

	// ByGateway says that the gateway answered by itself, for a token that this replica
	// had allowed before. Nothing but the token is known about the request then.
	ByGateway bool
	GatewayID GatewayID // of such a decision, in the place of ID

	// Set and Remove change the headers of a request that is allowed. A name is
	// never in both.
	Set    []Header
	Remove []string
	// RemoveQuery are parameters that the upstream must not see, named as the
	// request writes them.
	RemoveQuery []string
	// Encoded is the answer as Options.Cache.Encode wrote it for this token. It is
	// nil if the answer must be written from the other fields.
	Encoded []byte
	// LeftOut are the managed names whose claim cannot be the value of a
	// header. They are in Remove too.
	LeftOut []string
}

// Unverified holds parts of a token that anybody may have written.
type Unverified struct {
	Issuer string
	KeyID  string // at most 256 characters
}

// Challenge holds parameters of WWW-Authenticate. All are of the configuration.
type Challenge struct {
	Realm            string // empty: DefaultRealm
	ResourceMetadata string // a URL; empty: none
	Scope            string // on InsufficientScope: the scopes that the policy demands
	ACRValues        string // on StepUp: the values of acr that the policy accepts
}

// DefaultRealm is the realm of a policy that names none.
const DefaultRealm = "rescind"

func (p *Policy) challenge() Challenge {
	return Challenge{Realm: p.Realm, ResourceMetadata: p.ResourceMetadata}
}

// Facts are claims of a verified token. They are the issuer's word.
type Facts struct {
	KeyID    string // of the key that verified the signature, also where the token names none
	Session  string // sid
	Clients  Clients
	IssuedAt revocation.Micros // 0: it has no iat
	Expires  revocation.Micros // 0: it has no exp
	Hash     [32]byte          // SHA-256 of header.payload; identifies a token without jti
	Claims   map[string]any    // all of them; nobody changes or keeps them

	// Layout is a number that an observer computes from the names of the claims. The
	// observer keeps it here, because a token that is remembered comes again and again. 0:
	// nothing was kept.
	Layout atomic.Uint64
}

// Clients are the claims in which issuers write the client of a token, in the
// order of [revocation.ClientNames]. Mostly one of them is not empty.
type Clients [len(revocation.ClientNames)]string

// First returns the client for people: client_id, or else azp, cid or appid.
func (c *Clients) First() string {
	for _, text := range c {
		if text != "" {
			return text
		}
	}
	return ""
}

// identify writes the identity of a verified token to d.
func (d *Decision) identify(k *known) {
	d.Issuer, d.Unverified = k.issuer.Name, k.unverified
	d.Subject, d.TokenID, d.Facts = k.subject, k.tokenID, k.facts
}

func (d Decision) deny(r Reason) Decision {
	d.Allow, d.Reason, d.WouldDeny = false, r, ""
	return d
}

// Answer is the form of a denial that the caller sees. Nothing in it comes from
// the request.
type Answer struct {
	Code        int32  // gRPC, never 0
	HTTP        int    // never a success
	Error       string // of RFC 6750 or RFC 9470; empty if they have none for the reason
	Description string
	RetryAfter  time.Duration // 0: the answer does not say
}

// codes of gRPC
const (
	codeInvalidArgument  = 3
	codePermissionDenied = 7
	codeUnavailable      = 14
	codeUnauthenticated  = 16
)

var answers = map[Reason]Answer{
	NoToken:    {Code: codeUnauthenticated, HTTP: http.StatusUnauthorized, Description: "a bearer token is required"},
	BadRequest: {Code: codeInvalidArgument, HTTP: http.StatusBadRequest, Error: "invalid_request", Description: "the request must carry one token, in one place, and not larger than is accepted here"},

	Malformed:            invalidToken("the token is not a well-formed signed JWT, or its arrays are too long"),
	WrongType:            invalidToken("the token is of a type that is not accepted here"),
	UntrustedIssuer:      invalidToken("the token's issuer is not trusted here"),
	UnsupportedAlgorithm: invalidToken("the token is signed with an algorithm that is not accepted here"),
	UnknownKey:           invalidToken("none of the keys that are known of the token's issuer can have signed it"),
	AmbiguousKey:         invalidToken("the token names no key, and more than four keys of its issuer can have signed it"),
	BadSignature:         invalidToken("the token's signature is not valid"),
	Expired:              invalidToken("the token has expired"),
	NotYetValid:          invalidToken("the token is not valid yet"),
	LifetimeTooLong:      invalidToken("the token is valid for longer than is accepted here"),
	TooOld:               invalidToken("the token was issued too long ago"),
	WrongAudience:        invalidToken("the token is for another audience"),
	MissingClaim:         invalidToken("the token lacks a claim that is required here"),
	Unproven:             invalidToken("the token is bound to a key that the request did not prove"),
	Revoked:              invalidToken("the token has been revoked"),
	StatusRefused:        invalidToken("the token names no status that can be checked here"),

	InsufficientScope: forbidden("insufficient_scope", "the token's scope does not suffice"),
	ClaimRefused:      forbidden("insufficient_scope", "the token's claims do not permit this"),
	StepUp:            {Code: codeUnauthenticated, HTTP: http.StatusUnauthorized, Error: "insufficient_user_authentication", Description: "the token comes from a login that is not strong enough for this"},
	UnknownPolicy:     forbidden("", "the policy named for this route does not exist"),

	KeysUnavailable:   unavailable(5*time.Second, "the issuer's keys are not available"),
	StatusUnavailable: unavailable(time.Second, "the issuer's list with the token's status is not available"),
	NotReady:          unavailable(time.Second, "the revocations are not complete yet"),
	Stale:             unavailable(5*time.Second, "the revocations are too old to decide with"),
	Internal:          unavailable(time.Second, "the decision could not be made"),
}

func invalidToken(description string) Answer {
	return Answer{Code: codeUnauthenticated, HTTP: http.StatusUnauthorized, Error: "invalid_token", Description: description}
}

func forbidden(code, description string) Answer {
	return Answer{Code: codePermissionDenied, HTTP: http.StatusForbidden, Error: code, Description: description}
}

func unavailable(retry time.Duration, description string) Answer {
	return Answer{Code: codeUnavailable, HTTP: http.StatusServiceUnavailable, RetryAfter: retry, Description: description}
}

// Answer returns the form of the denial d. A decision without a known reason is
// answered as internal.
func (d *Decision) Answer() Answer {
	if a, ok := answers[d.Reason]; ok {
		return a
	}
	return answers[Internal]
}
