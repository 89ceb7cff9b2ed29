package authz

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/authz/tokencache"
	"rescind/jwks/statuslist"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// gateway notes the tokens that it is offered. Its mark grows with each request.
type gateway struct {
	marks  uint64
	offers []Offer
	denied []tokencache.Key
}

func (g *gateway) Mark() uint64                        { g.marks++; return g.marks }
func (g *gateway) Admit(o Offer)                       { g.offers = append(g.offers, o) }
func (g *gateway) Denied(k tokencache.Key, _ Decision) { g.denied = append(g.denied, k) }

// Envoy answers only for a token that decides alone, on a route whose metadata names the
// policy, and that is used twice within a minute. Everything else is asked about with
// every request.
func TestOffers(t *testing.T) {
	key := edKey()
	const certificate = "0000000000000000000000000000000000000000000000000000000000000000"
	bound := map[string]any{"cnf": map[string]any{"x5t#S256": b64.EncodeToString(make([]byte, 32))}}
	request := func(claims map[string]any) *Request {
		r := carrying(key.token(claims))
		if claims["cnf"] != nil {
			r.Headers = append(r.Headers, field("x-forwarded-client-cert", "Hash="+certificate))
		}
		return r
	}
	for _, c := range []struct {
		name    string
		policy  string
		request func() *Request
		pause   time.Duration // before each use but the first
		uses    int
		reason  Reason // of the last use
		want    int    // offers
	}{
		{"a good token", DefaultPolicy, func() *Request { return request(nil) }, 0, 2, OK, 1},
		{"a third use", DefaultPolicy, func() *Request { return request(nil) }, 0, 3, OK, 2},
		{"a token without an ID or a subject", DefaultPolicy, func() *Request { return request(map[string]any{"jti": nil, "sub": nil}) }, 0, 2, OK, 1},
		{"Authorization, which the policy names", "authorization", func() *Request { return request(nil) }, 0, 2, OK, 1},
		{"optional, with a token", "public", func() *Request { return request(nil) }, 0, 2, OK, 1},
		{"a condition that holds, under observation", "observed", func() *Request { return request(map[string]any{"scope": "reports"}) }, 0, 2, OK, 1},
		{"just within a minute", DefaultPolicy, func() *Request { return request(nil) }, 59 * time.Second, 2, OK, 1},

		{"one use", DefaultPolicy, func() *Request { return request(nil) }, 0, 1, OK, 0},
		{"uses a minute apart", DefaultPolicy, func() *Request { return request(nil) }, time.Minute, 4, OK, 0},
		{"a policy that the metadata of the route does not name", DefaultPolicy, func() *Request { return request(nil) }, 0, 3, OK, 0},
		{"cnf, proven", DefaultPolicy, func() *Request { return request(bound) }, 0, 3, OK, 0},
		{"status, valid", DefaultPolicy, func() *Request { return request(listed(7, listURI)) }, 0, 3, OK, 0},
		{"optional, without a token", "public", func() *Request { return &Request{} }, 0, 3, NoTokenAllowed, 0},
		{"observation that would deny", "observed", func() *Request { return request(nil) }, 0, 3, OK, 0},
		{"a stale replica", DefaultPolicy, func() *Request { return request(nil) }, 50 * time.Second, 4, OK, 1},
		{"tokens_from a cookie", "cookie", func() *Request { return &Request{Headers: []Header{field("cookie", "session="+key.token(nil))}} }, 0, 3, OK, 0},
		{"tokens_from a header", "header", func() *Request { return &Request{Headers: []Header{field("x-token", key.token(nil))}} }, 0, 3, OK, 0},
		{"tokens_from the query", "query", func() *Request { return &Request{Path: "/?t=" + key.token(nil)} }, 0, 3, OK, 0},
		{"tokens_from a subprotocol", "websocket", func() *Request {
			return &Request{Headers: []Header{field("sec-websocket-protocol", "bearer."+key.token(nil))}}
		}, 0, 3, OK, 0},
		{"tokens_from two places", "two", func() *Request { return request(nil) }, 0, 3, OK, 0},
		{"tokens_from another scheme", "scheme", func() *Request { return &Request{Headers: []Header{field("authorization", "DPoP "+key.token(nil))}} }, 0, 3, OK, 0},
		{"claims beyond the size of the cache", DefaultPolicy, func() *Request { return request(map[string]any{"x": strings.Repeat("x", 12<<10)}) }, 0, 3, OK, 0},
		{"a revoked token", DefaultPolicy, func() *Request { return request(map[string]any{"sub": "mallory"}) }, 0, 3, Revoked, 0},
		{"an unknown policy", "other", func() *Request { return request(nil) }, 0, 3, UnknownPolicy, 0},
		{"a condition that does not hold", "reports", func() *Request { return request(nil) }, 0, 3, InsufficientScope, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := replica.Open(replica.Options{MaxStaleness: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				load(t, f, revoked("sub", "mallory"))
				o := options(t, key)
				g := &gateway{}
				o.Known, o.Revocations, o.TrustForwardedCertificate = g, f, true
				o.Cache.MaxBytes = 60_000
				o.Issuers[0].MaxToken = MaxToken
				o.Issuers[0].StatusLists = &statuses{at: map[statuslist.Reference]statuslist.Status{}}
				o.Policies = map[string]Policy{
					DefaultPolicy: {}, "public": {TokenOptional: true}, "reports": {Scopes: []string{"reports"}}, "observed": {Scopes: []string{"reports"}, Observe: true},
					"authorization": {TokensFrom: []Place{{Header: "Authorization"}}}, "scheme": {TokensFrom: []Place{{Header: "authorization", Scheme: "DPoP"}}},
					"cookie": {TokensFrom: []Place{{Cookie: "session"}}}, "header": {TokensFrom: []Place{{Header: "x-token"}}}, "query": {TokensFrom: []Place{{Query: "t"}}},
					"websocket": {TokensFrom: []Place{{WebSocketProtocol: "bearer."}}}, "two": {TokensFrom: []Place{{Header: "authorization"}, {Cookie: "session"}}},
				}
				a := authorizer(t, o)
				r := c.request()
				outside := strings.Contains(c.name, "metadata")
				var d Decision
				for use := range c.uses {
					if use > 0 {
						time.Sleep(c.pause)
						if c.name != "a stale replica" {
							_, revision := f.Position()
							f.Contact(revision, time.Now(), 0)
						}
					}
					r.under(c.policy).FromRoute = !outside
					d = a.Authorize(t.Context(), r)
				}
				wantReason(t, c.name, d, c.reason)
				if c.name == "a stale replica" && !d.Stale {
					t.Error("the replica is not stale")
				}
				if denied := len(g.denied) > 0; denied != (c.reason == Revoked || c.reason == InsufficientScope) {
					t.Errorf("got %d denials noted, and the reason is %s", len(g.denied), c.reason)
				}
				if len(g.offers) != c.want {
					t.Fatalf("got %d offers after %d uses, want %d", len(g.offers), c.uses, c.want)
				}
			})
		})
	}
}

// A stream is looked up again by its token alone, also after a restart of the replica,
// which has forgotten the key that verified it.
func TestAgain(t *testing.T) {
	stolen, other := newEd25519("stolen"), edKey()
	for name, c := range map[string]struct {
		revoked revocation.Entry
		token   string
		want    bool
	}{
		"sub":                         {revoked("sub", "alice"), other.token(nil), true},
		"another sub":                 {revoked("sub", "bob"), other.token(nil), false},
		"kid":                         {revokedKey("stolen"), stolen.token(nil), true},
		"kid, which the token hides":  {revokedKey("stolen"), stolen.typed(map[string]any{"kid": nil}, nil), true},
		"another kid, which it hides": {revokedKey("stolen"), other.typed(map[string]any{"kid": nil}, nil), false},
		"a token that has ended":      {revoked("sub", "alice"), other.token(map[string]any{"iat": 1, "exp": 2}), true},
	} {
		o := options(t, stolen, other)
		o.Revocations = following(t, c.revoked)
		again := authorizer(t, o).Again(DefaultPolicy, c.token)
		if again == nil {
			t.Fatalf("%s: the token is not read", name)
		}
		v, err := o.Revocations.LookupAgain(again, time.Now())
		if err != nil || v.Revoked != c.want {
			t.Errorf("%s: got revoked %v, %v, want %v", name, v.Revoked, err, c.want)
		}
	}
	for name, token := range map[string]string{"no token": "", "no JWT": "a.b.c", "of another issuer": other.token(map[string]any{"iss": "https://other.example/"})} {
		if authorizer(t, options(t, other)).Again(DefaultPolicy, token) != nil {
			t.Errorf("%s: got a token to look up, want none", name)
		}
	}
}

func revokedKey(kid string) revocation.Entry {
	r := revocation.Revocation{
		ID: revocation.ID{Revision: 3, Index: 1}, Issuer: idp, ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
		Target: revocation.Target{Kind: revocation.KindKeyID, KeyID: kid},
	}
	return r.Entry()
}
