package ledger

import (
	"fmt"
	"slices"

	"github.com/agnivade/levenshtein"

	"rescind/revocation"
)

// matchesEveryToken reports whether a target matches every token of its issuer
// that some replica accepts. Such a target is all of its kind, or each of its
// equalities is on aud, or on a claim that the issuer's configuration demands,
// with a value that some replica accepts. While a replica does not report its
// configuration, any equality on aud alone counts. An element of aud counts as aud.
func matchesEveryToken(r *revocation.Revocation, known *revocation.KnownIssuers) bool {
	switch r.Target.Kind {
	case revocation.KindAll:
		return true
	case revocation.KindClaims:
	default:
		return false
	}
	if claims := r.Target.Claims; len(claims) == 1 && claims[0].Member() == "aud" && (known.Every || !known.AnyReplica || !known.Settled) {
		return true
	}
	configured := known.Of(r.Issuer)
	for _, c := range r.Target.Claims {
		if !slices.ContainsFunc(configured, func(a revocation.AcceptedIssuer) bool { return demands(&a, &c) }) {
			return false
		}
	}
	return true
}

// demands reports whether a replica accepts tokens of the issuer only with this
// claim, or with one of several values of which this is one. The claim may be an
// element of the one that the replica demands. demands is never true for jti and
// sid, because a made-up configuration must not make one token or session count
// as all.
func demands(a *revocation.AcceptedIssuer, c *revocation.Claim) bool {
	if c.Name == "jti" || c.Name == "sid" {
		return false
	}
	text := c.Value.String()
	if c.Member() == "aud" && (a.AnyAudience || slices.Contains(a.Audiences, text)) {
		return true
	}
	for name, values := range a.Claims {
		if slices.ContainsFunc(values, func(value string) bool { return c.FollowsFrom(name, value) }) {
			return true
		}
	}
	return false
}

// Bounds of the search for the nearest issuer.
const (
	maxNearest  = 10  // unknown issuers of one order that it is made for
	maxCompared = 256 // issuers that each is compared with
	maxName     = 256 // bytes of an issuer that is compared
)

// unknownIssuers returns the faults of the candidates whose issuer no replica
// accepts.
func unknownIssuers(candidates []Candidate, known *revocation.KnownIssuers, c *Caller) (faults []Fault) {
	found := map[string]string{} // the message for each issuer; empty if it is known
	unknown := 0
	for i := range candidates {
		issuer := candidates[i].Issuer
		message, looked := found[issuer]
		if !looked && known.Unknown(issuer) {
			message = unknownIssuer
			if unknown++; unknown <= maxNearest {
				message = suggest(issuer, known, c)
			}
		}
		found[issuer] = message
		if message != "" {
			faults = append(faults, Fault{candidates[i].Line, revocation.Fault{Member: "issuer", Message: message}})
		}
	}
	return faults
}

const unknownIssuer = "is accepted by no replica, so the revocation would deny nobody; correct it, or say unknown_issuer=true to revoke all the same"

// suggest returns the fault of an unknown issuer, with the nearest issuer that
// a replica accepts and the caller may see.
func suggest(issuer string, known *revocation.KnownIssuers, c *Caller) string {
	nearest, least := "", 0
	for i := range known.Issuers[:min(len(known.Issuers), maxCompared)] {
		name := known.Issuers[i].Issuer
		if !c.Covers(name) || len(name) > maxName || len(issuer) > maxName {
			continue
		}
		if d := levenshtein.ComputeDistance(issuer, name); nearest == "" || d < least {
			nearest, least = name, d
		}
	}
	if nearest == "" {
		return unknownIssuer
	}
	return fmt.Sprintf("%s (the nearest issuer that a replica accepts is %q)", unknownIssuer, nearest)
}
