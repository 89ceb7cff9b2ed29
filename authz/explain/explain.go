// Package explain names the causes of a denial, for an operator who looks for
// them.
//
// # Purpose
//
// The answer of a replica names a reason and nothing more, because the client
// reads it. An operator holds the token and the configuration, and needs both
// sides: the token's own claim, and the demand that it does not meet. [Denial]
// puts them beside each other.
//
// # Trust
//
// The replica has decided. Nothing is verified or decided here, and a token may
// be anybody's. So every text is printable and bounded, and none holds the token
// itself.
//
// # Limits
//
// The configuration at hand may differ from the one of the replica, and so may
// the clock. Where the token meets every demand of the configuration at hand,
// Denial says so.
package explain

import (
	"time"

	"rescind/authz"
	"rescind/jwks"
	"rescind/jwks/jwt"
)

// Question is a denial and everything that is known about it.
type Question struct {
	Reason  authz.Reason
	Detail  string   // of the answer; it tells the causes of Revoked apart
	Token   string   // as it was sent
	Policy  string   // the policy that was named; empty: [authz.DefaultPolicy]
	Demands *Demands // nil: no configuration is at hand
	Keys    *Keys    // nil: nobody has looked for the keys
	Now     time.Time
}

// Demands are the demands of a configuration.
type Demands struct {
	Source   string // the file, for the texts
	Issuers  []authz.Issuer
	Policies map[string]authz.Policy
}

// Keys are the keys that the token's issuer publishes.
type Keys struct {
	Source    string // the place of the keys, for the texts
	Published []jwks.Published
}

// Finding is one cause of a denial, or one key. Every text is for people, and
// printable.
type Finding struct {
	Token  string `json:"token,omitempty"`  // the token's own words, such as aud: "web"
	Wanted string `json:"wanted,omitempty"` // the demand that they do not meet
	Key    string `json:"key,omitempty"`    // one key of the issuer
	Note   string `json:"note,omitempty"`   // the consequence, or the remedy
}

// Denial returns the causes of a denial. Without a configuration it returns the
// token's own words on the reason.
func Denial(q Question) []Finding {
	e := &explanation{Question: q}
	e.token, e.flaw = jwt.Parse(q.Token)
	if e.Policy == "" {
		e.Policy = authz.DefaultPolicy
	}
	if text, ok := advice[q.Reason]; ok {
		return []Finding{{Note: text}}
	}
	e.resolve()
	if q.Reason == authz.Revoked && q.Detail != authz.ByStatusList {
		return nil // the revocation itself says more
	}
	find, known := causes[q.Reason]
	switch {
	case !known || e.token == nil && !tokenless[q.Reason]:
		return nil
	case e.absent != "" && needsIssuer[q.Reason]:
		return []Finding{{Token: e.issuerText(), Note: e.absent}}
	}
	find(e)
	switch {
	case q.Demands == nil && (needsIssuer[q.Reason] || q.Reason == authz.UntrustedIssuer || q.Reason == authz.UnknownPolicy):
		e.note("--config authz.yaml shows the demand")
	case q.Demands != nil && len(e.findings) == 0:
		e.note("by %s the token passes this step: the replica has another configuration in force, or its clock differs", q.Demands.Source)
	}
	return e.findings
}

// causes has every reason about which a token, a configuration or a key can say
// more than the replica's answer.
var causes = map[authz.Reason]func(*explanation){
	authz.NoToken:              (*explanation).noToken,
	authz.BadRequest:           (*explanation).badRequest,
	authz.Malformed:            (*explanation).malformed,
	authz.WrongType:            (*explanation).wrongType,
	authz.UntrustedIssuer:      (*explanation).untrustedIssuer,
	authz.UnsupportedAlgorithm: (*explanation).unsupportedAlgorithm,
	authz.UnknownKey:           (*explanation).keys,
	authz.AmbiguousKey:         (*explanation).keys,
	authz.BadSignature:         (*explanation).keys,
	authz.Expired:              (*explanation).expired,
	authz.NotYetValid:          (*explanation).notYetValid,
	authz.LifetimeTooLong:      (*explanation).lifetimeTooLong,
	authz.TooOld:               (*explanation).tooOld,
	authz.WrongAudience:        (*explanation).wrongAudience,
	authz.MissingClaim:         (*explanation).missingClaim,
	authz.Unproven:             (*explanation).unproven,
	authz.Revoked:              (*explanation).revoked,
	authz.StatusRefused:        (*explanation).statusRefused,
	authz.StatusUnavailable:    (*explanation).statusUnavailable,
	authz.InsufficientScope:    (*explanation).insufficientScope,
	authz.ClaimRefused:         (*explanation).claimRefused,
	authz.StepUp:               (*explanation).claimRefused,
	authz.UnknownPolicy:        (*explanation).unknownPolicy,
}

// advice is for the reasons that are not the token's fault.
var advice = map[authz.Reason]string{
	authz.KeysUnavailable: "the replica has no keys of this issuer; /readyz on its http address names the issuer, and its log says why the last refresh failed",
	authz.NotReady:        "/readyz on the replica's http address names the missing part",
	authz.Stale:           "the replica has heard nothing from the control endpoint for longer than max_staleness; rescind replicas shows which replicas follow",
	authz.Internal:        "the replica's log has the cause, under the decision_id",
}

// tokenless has the reasons that need no token that can be read.
var tokenless = map[authz.Reason]bool{authz.NoToken: true, authz.BadRequest: true, authz.Malformed: true, authz.UnknownPolicy: true}

// needsIssuer has the reasons that only the demands of the token's issuer, or of
// a policy after them, can explain.
var needsIssuer = map[authz.Reason]bool{
	authz.WrongType: true, authz.UnsupportedAlgorithm: true, authz.Expired: true, authz.NotYetValid: true,
	authz.LifetimeTooLong: true, authz.TooOld: true, authz.WrongAudience: true, authz.MissingClaim: true,
	authz.InsufficientScope: true, authz.ClaimRefused: true, authz.StepUp: true,
}

// explanation is the state of one call of Denial.
type explanation struct {
	Question
	token    *jwt.Token // nil if it cannot be read
	flaw     error      // why it cannot
	issuer   *authz.Issuer
	policy   *authz.Policy
	absent   string // the configuration at hand lacks the token's issuer or the policy; else empty
	findings []Finding
}

// resolve finds the issuer and the policy in the configuration at hand.
func (e *explanation) resolve() {
	if e.Demands == nil {
		return
	}
	if p, ok := e.Demands.Policies[e.Policy]; ok {
		e.policy = &p
	} else {
		e.absent = printf("%s has no policy %s, and the replica has: it runs another configuration", e.Demands.Source, quote(e.Policy))
	}
	name := e.issuerName()
	for n := range e.Demands.Issuers {
		if i := &e.Demands.Issuers[n]; i.Name == name {
			e.issuer = i
			return
		}
	}
	e.absent = printf("%s does not have this issuer, and the replica has: it runs another configuration", e.Demands.Source)
}

// issuerName returns the issuer that the token belongs to, or "".
func (e *explanation) issuerName() string {
	if e.token == nil {
		return ""
	}
	return e.token.IssuerName()
}

func (e *explanation) add(f Finding) { e.findings = append(e.findings, f) }

// want adds a claim of the token beside the demand that it does not meet.
func (e *explanation) want(token, format string, args ...any) {
	e.add(Finding{Token: token, Wanted: printf(format, args...)})
}

func (e *explanation) note(format string, args ...any) {
	e.add(Finding{Note: printf(format, args...)})
}
