package authz

import (
	"context"
	"slices"
	"time"

	"rescind/authz/tokencache"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// Known takes tokens for which a gateway answers by itself.
type Known interface {
	// Mark returns a number that grows with each change of the revocations, the keys
	// and the configuration.
	Mark() uint64
	// Admit makes a token known, unless something has changed since its Mark.
	Admit(Offer)
	// Denied notes the decision about a request with the token, which is denied. A known
	// token must not be.
	Denied(tokencache.Key, Decision)
}

// Offer is a token that was allowed, and is allowed as long as it is not revoked and
// nothing changes.
type Offer struct {
	Policy  string
	Key     tokencache.Key // under the policy's secret
	Mark    uint64         // as it was before the decision
	Ends    time.Time      // the token is not allowed for longer than that
	Digests []revocation.Digest
	Set     []Header
	Issuer  string
	Subject string
	TokenID string
}

// KnownSettings are the settings that a gateway needs to answer by itself.
type KnownSettings struct {
	Policies            map[string]tokencache.Secret
	Headers             []string // the managed names, in lower case, sorted
	Prefix              string   // as [LaxName] writes it
	RemoveAuthorization bool
}

// KnownSettings returns the settings of a, for its [Known].
func (a *Authorizer) KnownSettings() KnownSettings {
	s := KnownSettings{Policies: map[string]tokencache.Secret{}, Prefix: string(a.headers.prefix), RemoveAuthorization: a.headers.removeToken}
	for name, p := range a.policies {
		s.Policies[name] = p.secret
	}
	for _, m := range a.headers.managed {
		s.Headers = append(s.Headers, m.name)
	}
	if a.headers.payload != "" {
		s.Headers = append(s.Headers, a.headers.payload)
	}
	return s
}

// KeyGenerations returns the generation of each issuer's keys. Tokens are decided
// about anew when one of them changes.
func (a *Authorizer) KeyGenerations() map[string]uint64 {
	generations := make(map[string]uint64, len(a.issuers))
	for name, i := range a.issuers {
		generations[name] = i.Keys.Generation()
	}
	return generations
}

// Recall returns the decision that a gateway made by itself about a known token, for
// observers of decisions. If the token is not remembered any more, nothing is
// known about its holder.
func (a *Authorizer) Recall(policy string, key tokencache.Key) Decision {
	d := Decision{Allow: true, Reason: OK, Policy: policy}
	if a.cache != nil {
		if k, ok := a.cache.Find(key); ok {
			d.identify(k)
		}
	}
	return d
}

// Again returns a token that was accepted under a policy, for callers that ask about it
// again after it was revoked. It returns nil for a token that cannot be read. A
// signature is verified only to find the key of a token that does not name it.
func (a *Authorizer) Again(policy, raw string) *replica.Again {
	if p := a.policies[policy]; p != nil && a.cache != nil {
		if k, ok := a.cache.Find(p.secret.Key(raw)); ok && k.again != nil {
			return k.again // with the key that verified it, which the token may not name
		}
	}
	t, err := jwt.Parse(raw)
	if err != nil {
		return nil
	}
	issuer := a.issuerOf(t)
	if issuer == nil {
		return nil
	}
	t.Issuer = issuer.Name
	v := &verified{t, t.KeyID, t.Hash()}
	if t.KeyID == "" {
		v = issuer.signedBy(v)
	}
	token := v.revocable()
	return replica.NewAgain(&token)
}

// signedBy returns a token without a kid under the kid of the key that has signed it, if
// that key is there now. It waits for no key.
func (i *issuer) signedBy(t *verified) *verified {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	keys, err := i.Keys.Find(now, "", t.Algorithm)
	if err != nil {
		return t
	}
	if found, ok := verify(t.Token, keys); ok {
		return found
	}
	return t
}

// mostKnown is for how long a gateway answers without asking. It bounds the effect of
// a clock that is set back.
const mostKnown = 5 * time.Minute

func (a *Authorizer) mark() uint64 {
	if a.known == nil {
		return 0
	}
	return a.known.Mark()
}

// secondUse is the time within which a token must be used twice before a gateway answers
// for it. A token that is used less often would displace others and spare nothing. Uses
// that the gateway answered do not count, because they cost the replica more to note than
// one Check more after each end of an entry.
const secondUse = time.Minute

// usedAgain notes a use, and reports whether the one before it was within secondUse. A
// request writes the time at most once a second, so that requests with the same token do
// not fight for it.
func (k *known) usedAgain(now time.Time) bool {
	last := k.used.Load()
	if last != now.Unix() {
		k.used.Store(now.Unix())
	}
	return now.Unix()-last < int64(secondUse/time.Second)
}

// tellKnown offers a token to the gateway that is allowed again within a minute, if the
// token, the policy, and the time alone decide about it. It also reports a token that
// is denied. mark was read before the decision, and k is nil for a token that was
// not seen before.
func (a *Authorizer) tellKnown(r *Request, p *policy, key tokencache.Key, k *known, d *Decision, mark uint64, now time.Time) {
	switch {
	case !r.FromRoute || d.Stale:
		return
	case !d.Allow:
		if d.Reason != NotReady && d.Reason != KeysUnavailable && d.Reason != Internal {
			a.known.Denied(key, *d)
		}
		return
	case k == nil || d.WouldDeny != "" || !a.offerable(p, k) || !k.usedAgain(now):
		return
	}
	digests, ok := a.revocations.Digests(k.again)
	if !ok {
		return
	}
	a.known.Admit(Offer{
		Policy: p.name, Key: key, Mark: mark, Ends: earlier(k.until, now.Add(mostKnown)), Digests: digests,
		Set: k.answer.set, Issuer: d.Issuer, Subject: d.Subject, TokenID: d.TokenID,
	})
}

// offerable reports whether nothing but the token decides: no key of the client, no
// status list, and no other place than the Authorization header.
func (a *Authorizer) offerable(p *policy, k *known) bool {
	if k.answer == nil || k.again == nil || !slices.Equal(p.TokensFrom, defaultPlaces) {
		return false
	}
	_, bound := k.Claims["cnf"]
	_, listed := k.Claims["status"]
	return !bound && !listed
}
