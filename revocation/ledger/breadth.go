package ledger

import "rescind/revocation"

// breadth is how far a revocation can reach, as the guard sees it. A larger
// breadth asks for more.
type breadth int

const (
	narrow   breadth = iota // one token or one session: never weighed
	ordinary                // one subject, or a short batch
	broad                   // must be confirmed where its weight is not fully known
	whole                   // every token of an issuer: must always be confirmed
)

// maxOrdinary is the length of the longest batch that is not broad.
const maxOrdinary = 1000

// breadthOf returns the breadth of one revocation. A subject bounds everything
// that stands beside it. A claim that replicas do not remember, client_id, aud
// and scope do not: these are broad.
func breadthOf(r *revocation.Revocation, known *revocation.KnownIssuers) breadth {
	switch r.Target.Kind {
	case revocation.KindToken:
		return narrow
	case revocation.KindClaims:
		if matchesEveryToken(r, known) {
			return whole
		}
		return breadthOfClaims(r.Target.Claims)
	case revocation.KindKeyID:
		return broad
	}
	return whole
}

func breadthOfClaims(claims []revocation.Claim) breadth {
	found := broad
	for _, c := range claims {
		switch c.Name {
		case "jti", "sid":
			return narrow
		case "sub":
			found = ordinary
		}
	}
	return found
}

// breadthOfAll returns the breadth of a batch: that of its broadest line, and
// never narrow, since many narrow lines together reach far.
func breadthOfAll(candidates []Candidate, known *revocation.KnownIssuers) breadth {
	if len(candidates) == 1 {
		return breadthOf(&candidates[0].Revocation, known)
	}
	found := ordinary
	if len(candidates) > maxOrdinary {
		found = broad
	}
	for i := range candidates {
		found = max(found, breadthOf(&candidates[i].Revocation, known))
	}
	return found
}
