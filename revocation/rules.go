package revocation

import (
	"strings"

	"rescind/jwks/jwt"
)

// Rules is the version of the digests and of the rules by which an entry
// matches a token. The log, the feed, a replica's snapshot and its journal carry
// it. Where the version is absent it is 1.
//
//	1  The first edition.
//	2  A revocation of a kid also matches a token that names no kid, if the key
//	   that verified the token has that kid.
//	3  Values are compared by the text that is shown for them, also values of
//	   different types. client_id also matches azp, cid and appid. scp matches by each word.
//	   Claims can be nested.
//
// A change of [Token.Digests], of [ValueOf] or of the input of a digest needs a
// new version here, and a line in [Target.RulesNeeded].
const Rules = 3

// RulesNeeded returns the first version of the rules under which a replica
// denies every token that t matches. A replica of an earlier version misses
// some of them.
func (t *Target) RulesNeeded() int {
	needed := 1
	if t.Kind == KindKeyID {
		needed = 2
	}
	for i := range t.Claims {
		if t.Claims[i].needsRules3() {
			needed = 3
		}
	}
	return needed
}

// needsRules3 reports whether a replica of an earlier version misses tokens with
// this claim. Such a replica knows the words of scope, but not those of scp.
func (c *Claim) needsRules3() bool {
	_, twin := c.Value.twin()
	return twin || c.Name == ClientNames[0] || c.Name == "scp" || strings.HasPrefix(wireName(c.Name), nestedMark)
}

// NameUnder returns the name, as [Claim] has it, of the claim that an entry under
// this version of the rules calls name. Before version 3 every name was that of a
// payload's member, also where it began with a slash.
func NameUnder(rules int, name string) string {
	if rules < 3 {
		return jwt.MemberName(name).String()
	}
	return name
}
