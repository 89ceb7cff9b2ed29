package revocation

import "slices"

// AcceptedIssuer is one issuer whose tokens a replica accepts, as the replica
// reports it to the control endpoint. The control endpoint uses it to refuse a
// revocation for an issuer that no replica accepts, and to recognize a target
// that matches every token of an issuer.
type AcceptedIssuer struct {
	Issuer      string // compared with iss, byte for byte
	Audiences   []string
	AnyAudience bool
	// Claims are the conditions of the issuer's configuration: by claim name,
	// the accepted values as the text that rescind shows for them.
	Claims map[string][]string
}

// KnownIssuers is the control endpoint's knowledge of the issuers that its
// replicas accept: replicas that follow now, at any control node, and those
// seen within the retention. It is never changed once it is made. The zero
// value knows no replica.
type KnownIssuers struct {
	// Settled is false for the first seconds after a start of the control
	// endpoint, while its replicas connect again.
	Settled bool
	// AnyReplica is false if no replica was ever seen.
	AnyReplica bool
	// Every says that one of the replicas does not report its issuers, as a
	// replica of the first edition does not. It counts as accepting every issuer.
	Every bool
	// Issuers has an item for each distinct configuration of an issuer, so an
	// issuer may be there several times. The items of one issuer are neighbours.
	Issuers []AcceptedIssuer
}

// Of returns the distinct configurations of the issuer, none if no replica
// reports it.
func (k KnownIssuers) Of(issuer string) []AcceptedIssuer {
	from := slices.IndexFunc(k.Issuers, func(a AcceptedIssuer) bool { return a.Issuer == issuer })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(k.Issuers) && k.Issuers[to].Issuer == issuer {
		to++
	}
	return k.Issuers[from:to:to]
}

// Unknown reports whether it is certain that no replica accepts the issuer. It
// is not certain before the knowledge is settled, where no replica was ever
// seen, and where one counts as accepting every issuer.
func (k KnownIssuers) Unknown(issuer string) bool {
	return k.Settled && k.AnyReplica && !k.Every && len(k.Of(issuer)) == 0
}
