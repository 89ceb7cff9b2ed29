package revocation

// Rules is the version of the digests and of the rules by which an entry
// matches a token. The log, the feed, a replica's snapshot and its journal carry
// it. Where the version is absent it is 1.
//
//	1  The first edition.
//	2  A revocation of a kid also matches a token that names no kid, if the key
//	   that verified the token has that kid.
//
// A change of [Token.Digests], of [ValueOf] or of the input of a digest needs a
// new version here, and a line in [Target.RulesNeeded].
const Rules = 2

// RulesNeeded returns the first version of the rules under which a replica
// denies every token that t matches. A replica of an earlier version misses
// some of them.
func (t *Target) RulesNeeded() int {
	if t.Kind == KindKeyID {
		return 2
	}
	return 1
}
