package authz

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"rescind/authz/tokencache"
	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// Cache configures the memory of tokens that were verified.
//
// # Use
//
// A token that comes again is not verified again, as long as its verification
// counts: the policy and every setting are the same, the issuer's keys are the same
// and not older than max_stale, and exp, nbf, iat and max_age hold. The memory never
// denies. If a verification does not count any more, the token is verified as if it
// came for the first time, and that decides.
//
// The proof of the client's key, the revocations and their age, and the headers of
// the request are looked at on every request.
//
// # Admission
//
// A token is remembered once a request with it was allowed, and never before. A
// token that only a policy in observation lets pass is not remembered.
type Cache struct {
	MaxBytes int // of all tokens; 0: no token is remembered
	// Encode, if not nil, returns the answer to a decision that allows, without all
	// that differs from request to request. It is called once for each token.
	Encode func(*Decision) []byte
	Counts *tokencache.Counts // nil: counts of its own
}

// DefaultCacheBytes is the size of the cache of a configuration that sets none.
const DefaultCacheBytes = 32 << 20

func newCache(o Cache) *tokencache.Cache[*known] {
	if o.MaxBytes == 0 {
		return nil
	}
	if o.Counts == nil {
		o.Counts = tokencache.NewCounts()
	}
	return tokencache.New[*known](o.MaxBytes, o.Counts)
}

// CacheSize returns the size of the tokens that a remembers, in bytes, and their
// number.
func (a *Authorizer) CacheSize() (bytes, tokens int) {
	if a.cache == nil {
		return 0, 0
	}
	return a.cache.Bytes(), a.cache.Entries()
}

// known is a token that its issuer and a policy accept. It belongs to the request that
// has verified it until remember makes it known. Only used changes after that, so any
// number of requests may use it.
type known struct {
	*verified
	issuer     *issuer
	unverified Unverified
	subject    string
	tokenID    string
	facts      *Facts
	wouldDeny  Reason
	again      *replica.Again // nil: the token is not remembered

	keys        uint64    // their generation when the token was verified
	from, until time.Time // exp, nbf, iat and max_age hold from from until before until

	answer *answer // nil: the headers differ from request to request

	used atomic.Int64 // the last use that the replica has seen, in Unix seconds; kept only if a gateway answers by itself
}

// answer is the answer to a request with the token and without a header that must be
// removed.
type answer struct {
	set     []Header
	remove  []string
	leftOut []string
	encoded []byte
}

func (a *Authorizer) newKnown(t *verified, i *issuer, u Unverified, keys uint64) *known {
	var all struct { // one allocation
		known     known
		facts     Facts
		revocable revocation.Token
	}
	all.known = known{
		verified: t, issuer: i, keys: keys, unverified: u,
		subject: t.text("sub"), tokenID: t.text("jti"), facts: &all.facts,
	}
	all.facts = t.facts()
	if a.cache != nil {
		all.revocable = t.revocable()
		all.known.again = replica.NewAgain(&all.revocable)
	}
	return &all.known
}

// recall returns the token if it is known and its verification counts, or nil. It
// returns the key of the token in any case.
func (a *Authorizer) recall(p *policy, token string, now time.Time) (*known, tokencache.Key) {
	if a.cache == nil {
		return nil, tokencache.Key{}
	}
	key := p.secret.Key(token)
	k := a.find(key, now)
	if k == nil {
		a.cache.Counts.Misses.Inc()
	} else {
		a.cache.Counts.Hits.Inc()
	}
	return k, key
}

// find returns the token with this key if its verification counts at now, or nil.
func (a *Authorizer) find(key tokencache.Key, now time.Time) *known {
	k, ok := a.cache.Find(key)
	if !ok || now.Before(k.from) || !now.Before(k.until) || k.issuer.Keys.Generation() != k.keys {
		return nil
	}
	return k
}

// lookup asks the revocations about k.
func (a *Authorizer) lookup(k *known, now time.Time) (replica.Verdict, error) {
	if k.again == nil {
		t := k.revocable()
		return a.revocations.Lookup(&t, now)
	}
	return a.revocations.LookupAgain(k.again, now)
}

// remember completes k and makes it known, if it is not known yet and d allows a
// request with it. The caller is the only one that has k until then.
func (a *Authorizer) remember(p *policy, key tokencache.Key, k *known, d *Decision, now time.Time) {
	if a.cache == nil || !k.until.IsZero() || k.wouldDeny != "" || k.keys == 0 {
		return
	}
	k.from, k.until = k.span(p)
	k.used.Store(now.Unix())
	k.detach(a.headers.payload != "")
	if p.oneAnswer {
		k.answer = a.answerTo(p, k, *d)
	}
	a.cache.Add(key, k, k.size(), k.owner(), now, k.until)
}

// span returns the time in which exp, nbf, iat and max_age hold: from the first to
// before the second. Both lie within the time in which establish would accept the
// token.
func (k *known) span(p *policy) (from, until time.Time) {
	i := k.issuer
	until = k.expires().Time().Truncate(time.Second).Add(i.Leeway) // golang-jwt compares whole seconds
	if k.NotBefore.Set {
		from = time.UnixMicro(k.NotBefore.Micros).Add(-i.Leeway)
	}
	switch {
	case !k.IssuedAt.Set: // see outlives
		from = later(from, k.expires().Time().Add(-i.MaxLifetime-i.Leeway))
	default:
		from = later(from, k.issuedAt().Time().Add(-i.IatLeeway))
		if p.MaxAge > 0 {
			until = earlier(until, k.issuedAt().Time().Add(p.MaxAge+i.Leeway))
		}
	}
	return from, until
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// detach gives up the text of the token, which belongs to the request. The payload
// stays if a header carries it.
func (k *known) detach(payload bool) {
	k.Signature = nil
	if payload {
		k.Signed = strings.Clone(k.Signed)
	} else {
		k.Signed = ""
	}
}

// answerTo returns the answer to a request with k and without a header that must be
// removed. d is the decision about a request with k.
func (a *Authorizer) answerTo(p *policy, k *known, d Decision) *answer {
	a.headers.hide(&d, p.TokensFrom, nil, &bearer{place: p.TokensFrom[0]})
	a.headers.apply(&d, nil, k.verified)
	to := &answer{set: d.Set, remove: d.Remove, leftOut: d.LeftOut}
	if a.encode != nil {
		to.encoded = a.encode(&d)
	}
	return to
}

// owner returns the holder of k, as far as the issuer names one.
func (k *known) owner() tokencache.Owner {
	switch {
	case k.subject != "":
		return tokencache.Owner{Issuer: k.issuer.Name, Subject: k.subject}
	case k.facts.Session != "":
		return tokencache.Owner{Issuer: k.issuer.Name, Subject: k.facts.Session}
	}
	return tokencache.Owner{Issuer: k.issuer.Name, Subject: string(k.hash[:])}
}

// size returns about how many bytes of memory k takes.
func (k *known) size() int {
	const fixed = unsafe.Sizeof(known{}) + unsafe.Sizeof(verified{}) + unsafe.Sizeof(jwt.Token{}) + unsafe.Sizeof(Facts{}) +
		unsafe.Sizeof(revocation.Token{}) + unsafe.Sizeof(answer{}) + replica.MaxAgainSize
	n := int(fixed) + len(k.Signed) + len(k.Algorithm) + len(k.KeyID) + len(k.Type) + sizeOf(k.Claims)
	if k.answer == nil {
		return n
	}
	for _, h := range k.answer.set {
		n += int(unsafe.Sizeof(h)) + len(h.Value)
	}
	return n + 16*(len(k.answer.remove)+len(k.answer.leftOut)) + len(k.answer.encoded)
}

// sizeOf returns about how many bytes of memory a decoded JSON value takes.
func sizeOf(v any) int {
	const word, allocation = 16, 8 // of an interface or the head of a string; lost in an allocation, on average
	switch v := v.(type) {
	case string:
		return word + len(v) + allocation
	case json.Number:
		return word + len(v) + allocation
	case []any:
		n := 3 * word
		for _, e := range v {
			n += 2*word + sizeOf(e)
		}
		return n
	case map[string]any:
		slots := 8 // a map has a power of two, of which at most seven eighths are taken
		for slots > 8 && slots*7 < len(v)*8 || slots < len(v) {
			slots *= 2
		}
		n := 6*word + slots*33
		for name, e := range v {
			n += len(name) + allocation + sizeOf(e)
		}
		return n
	}
	return 0
}
