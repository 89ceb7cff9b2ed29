package authz

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rescind/authz/tokencache"
	"rescind/jwks"
	"rescind/jwks/jwt"
	"rescind/jwks/statuslist"
	"rescind/revocation"
	"rescind/revocation/replica"
	"rescind/test/testcert"
)

// keychain is a ring whose keys change.
type keychain struct {
	ring
	generation uint64
}

func (k *keychain) Generation() uint64 { return k.generation }

// publish replaces the keys. The generation is 0 if there are none.
func (k *keychain) publish(signers ...signer) {
	old := k.generation
	k.ring, k.generation = *ringOf(signers...), 0
	k.err = jwks.ErrUnavailable
	if len(signers) > 0 {
		k.err, k.generation = nil, max(old, lastGeneration)+1
		lastGeneration = k.generation
	}
}

var lastGeneration uint64 // of any keychain

// change puts entries in force, and others out of force, in the next revision of f.
func change(t testing.TB, f *replica.Follower, added, removed []revocation.Entry) {
	t.Helper()
	_, revision := f.Position()
	if err := f.Apply([]revocation.Change{{Revision: revision + 1, Added: added, Removed: removed}}); err != nil {
		t.Fatal(err)
	}
	f.Contact(revision+1, time.Now(), 0)
}

// A token that comes again is not verified again. That shows in the keys, which
// nobody asks for.
func TestKnownTokenIsNotVerifiedAgain(t *testing.T) {
	o := options(t)
	a := authorizer(t, o)
	r := carrying(edKey().token(nil))
	for range 3 {
		wantReason(t, "a good token", a.Authorize(t.Context(), r), OK)
	}
	if asked := o.Issuers[0].Keys.(*ring).asked; len(asked) != 1 {
		t.Errorf("three requests with one token asked for the keys %d times, want once", len(asked))
	}
	if hits, misses := a.cache.Counts.Hits.Value(), a.cache.Counts.Misses.Value(); hits != 2 || misses != 1 {
		t.Errorf("%d hits and %d misses were counted, want 2 and 1", hits, misses)
	}
	if bytes, tokens := a.CacheSize(); tokens != 1 || bytes < 1000 || bytes > 8000 {
		t.Errorf("the cache has %d tokens of %d bytes, want 1 of 1,000 to 8,000", tokens, bytes)
	}
	o.Cache.MaxBytes = 0
	off := authorizer(t, o)
	for range 3 {
		wantReason(t, "without a cache", off.Authorize(t.Context(), r), OK)
	}
	if asked := o.Issuers[0].Keys.(*ring).asked; len(asked) != 4 {
		t.Errorf("three requests without a cache asked for the keys %d times, want three times", len(asked)-1)
	}
}

// Each change that makes an unknown token fail makes a known one fail, at once.
func TestKnownTokenEnds(t *testing.T) {
	key, next := edKey(), newEd25519("ed2")
	o := options(t, key)
	keys := &keychain{}
	lists := &statuses{at: map[statuslist.Reference]statuslist.Status{}}
	listedAt := statuslist.Reference{URI: listURI, Index: 7}
	o.Issuers[0].Keys, o.Issuers[0].StatusLists = keys, lists
	o.Policies = map[string]Policy{DefaultPolicy: {}, "young": {MaxAge: time.Minute}, "reports": {Scopes: []string{"reports"}}}
	for _, c := range []struct {
		name   string
		policy string
		change func(t *testing.T, f *replica.Follower)
		want   Reason
	}{
		{"nothing changes", DefaultPolicy, func(*testing.T, *replica.Follower) {}, OK},
		{"just before exp and leeway", DefaultPolicy, func(*testing.T, *replica.Follower) { time.Sleep(330*time.Second - 1) }, OK},
		{"at exp and leeway", DefaultPolicy, func(*testing.T, *replica.Follower) { time.Sleep(330 * time.Second) }, Expired},
		{"at max_age and leeway", "young", func(*testing.T, *replica.Follower) { time.Sleep(80 * time.Second) }, OK},
		{"just after max_age and leeway", "young", func(*testing.T, *replica.Follower) { time.Sleep(80*time.Second + 1) }, TooOld},
		{"the key is not published any more", DefaultPolicy, func(*testing.T, *replica.Follower) { keys.publish(next) }, UnknownKey},
		{"another key has its kid", DefaultPolicy, func(*testing.T, *replica.Follower) { keys.publish(newEd25519(key.kid)) }, BadSignature},
		{"another key beside it", DefaultPolicy, func(*testing.T, *replica.Follower) { keys.publish(key, next) }, OK},
		{"the keys are too old", DefaultPolicy, func(*testing.T, *replica.Follower) { keys.publish() }, KeysUnavailable},
		{"revoked by a new set of claim names", DefaultPolicy, func(t *testing.T, f *replica.Follower) {
			change(t, f, []revocation.Entry{revoked("jti", "t1")}, nil)
		}, Revoked},
		{"revoked by a set of claim names that is in use", DefaultPolicy, func(t *testing.T, f *replica.Follower) {
			change(t, f, []revocation.Entry{revoked("sub", "alice")}, nil)
		}, Revoked},
		{"revoked and restored", DefaultPolicy, func(t *testing.T, f *replica.Follower) {
			change(t, f, []revocation.Entry{revoked("sub", "alice")}, nil)
			change(t, f, nil, []revocation.Entry{revoked("sub", "alice")})
		}, OK},
		{"its status list ends it", DefaultPolicy, func(*testing.T, *replica.Follower) { lists.at[listedAt] = statuslist.Invalid }, Revoked},
		{"its status list is too old", DefaultPolicy, func(*testing.T, *replica.Follower) { lists.err = statuslist.ErrUnavailable }, StatusUnavailable},
		{"the revocations are too old", DefaultPolicy, func(*testing.T, *replica.Follower) { time.Sleep(3 * time.Minute) }, Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := 10 * time.Minute
				if c.want == Stale {
					limit = time.Minute
				}
				f, err := replica.Open(replica.Options{MaxStaleness: limit})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				load(t, f, revoked("sub", "mallory"))
				keys.publish(key)
				lists.err, lists.at[listedAt] = nil, statuslist.Valid
				o := o
				o.Revocations, o.DenyOverdue = f, true
				a := authorizer(t, o)
				r := carrying(key.token(listed(7, listURI))).under(c.policy)
				wantReason(t, "the first request", a.Authorize(t.Context(), r), OK)
				c.change(t, f)
				d := a.Authorize(t.Context(), r)
				wantReason(t, "the second request", d, c.want)
				if d.Subject != "alice" && d.Reason != UnknownKey && d.Reason != BadSignature && d.Reason != KeysUnavailable {
					t.Errorf("the second request: got subject %q, want alice", d.Subject)
				}
			})
		})
	}
}

// A token that one policy has accepted is unknown to another one, and to the
// authorizer of a new configuration.
func TestTokenIsKnownUnderOnePolicy(t *testing.T) {
	o := options(t)
	o.Policies = map[string]Policy{DefaultPolicy: {}, "reports": {Scopes: []string{"reports"}}}
	token := edKey().token(nil)
	a := authorizer(t, o)
	wantReason(t, "default", a.Authorize(t.Context(), carrying(token)), OK)
	wantReason(t, "reports", a.Authorize(t.Context(), carrying(token).under("reports")), InsufficientScope)
	wantReason(t, "no such policy", a.Authorize(t.Context(), carrying(token).under("nosuch")), UnknownPolicy)
	o.Issuers[0].Audiences = []string{"billing"}
	wantReason(t, "another audience", authorizer(t, o).Authorize(t.Context(), carrying(token)), WrongAudience)
}

// A bound token is only as good as the proof of each request.
func TestKnownTokenNeedsItsProof(t *testing.T) {
	ca := testcert.NewAuthority(t, "ca")
	der := ca.Issue(t, "client").Certificate[0]
	sum := sha256.Sum256(der)
	a := authorizer(t, options(t))
	r := carrying(edKey().token(map[string]any{"cnf": map[string]any{"x5t#S256": b64.EncodeToString(sum[:])}}))
	proof := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	for i, c := range []struct {
		proof string
		want  Reason
	}{{"", Unproven}, {proof, OK}, {"", Unproven}, {proof, OK}, {url.PathEscape(strings.ToLower(proof)), Unproven}} {
		r.Certificate = c.proof
		wantReason(t, fmt.Sprint("request ", i), a.Authorize(t.Context(), r), c.want)
	}
}

// Only a token that was allowed is remembered.
func TestAdmission(t *testing.T) {
	key := edKey()
	keys := &keychain{}
	for _, c := range []struct {
		name   string
		claims map[string]any
		policy string
		signer signer
		want   Reason
		known  int
	}{
		{"a good token", nil, DefaultPolicy, key, OK, 1},
		{"a revoked token", map[string]any{"sub": "mallory"}, DefaultPolicy, key, Revoked, 0},
		{"a token that is not proven", map[string]any{"cnf": map[string]any{"jkt": "x"}}, DefaultPolicy, key, Unproven, 0},
		{"a bad signature", nil, DefaultPolicy, newEd25519(key.kid), BadSignature, 0},
		{"an expired token", map[string]any{"exp": 1}, DefaultPolicy, key, Expired, 0},
		{"a token without the scope", nil, "reports", key, InsufficientScope, 0},
		{"a token without the scope, under observation", nil, "observed", key, OK, 0},
		{"no token", nil, "public", signer{}, NoTokenAllowed, 0},
		{"a token whose keys came while nobody could tell their generation", map[string]any{"client_id": "late"}, DefaultPolicy, key, OK, 0},
		{"a token whose entry would be large", map[string]any{"x": strings.Repeat("x", 16<<10)}, DefaultPolicy, key, OK, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys.publish(key)
			o := options(t)
			o.Cache.MaxBytes = 100_000
			o.Issuers[0].Keys, o.Issuers[0].MaxToken = keys, MaxToken
			o.Revocations = following(t, revoked("sub", "mallory"))
			o.Policies = map[string]Policy{
				DefaultPolicy: {}, "public": {TokenOptional: true},
				"reports": {Scopes: []string{"reports"}}, "observed": {Scopes: []string{"reports"}, Observe: true},
			}
			a := authorizer(t, o)
			if c.claims["client_id"] == "late" {
				keys.generation = 0
			}
			token := ""
			if c.signer.private != nil {
				token = c.signer.token(c.claims)
			}
			wantReason(t, c.name, a.Authorize(t.Context(), carrying(token).under(c.policy)), c.want)
			if _, known := a.CacheSize(); known != c.known {
				t.Errorf("%d tokens are known, want %d", known, c.known)
			}
		})
	}
}

// The span of a token ends at the earliest of exp and max_age, and begins at the
// latest of nbf and iat, each with its leeway. A clock that is set back makes a token
// unknown.
func TestSpan(t *testing.T) {
	at := func(s float64) time.Time { return time.UnixMicro(int64(s * 1e6)) }
	date := func(s float64) jwt.Date { return jwt.Date{Micros: int64(s * 1e6), Set: s != 0} }
	i := &issuer{Issuer: Issuer{Leeway: 30 * time.Second, IatLeeway: 2 * time.Second, MaxLifetime: time.Hour}}
	for _, c := range []struct {
		name          string
		exp, nbf, iat float64
		maxAge        time.Duration
		from, until   float64
	}{
		{"exp and iat", 10_000, 0, 9_000, 0, 8_998, 10_030},
		{"a fraction of exp, which golang-jwt drops", 10_000.9, 0, 9_000, 0, 8_998, 10_030},
		{"nbf after iat", 10_000, 9_100, 9_000, 0, 9_070, 10_030},
		{"nbf with a fraction", 10_000, 9_100.5, 9_000, 0, 9_070.5, 10_030},
		{"nbf before iat", 10_000, 8_000, 9_000, 0, 8_998, 10_030},
		{"max_age before exp", 10_000, 0, 9_000, time.Minute, 8_998, 9_090},
		{"max_age after exp", 10_000, 0, 9_000, time.Hour, 8_998, 10_030},
		{"no iat, as long a life as may be", 10_000, 0, 0, 0, 6_370, 10_030},
	} {
		k := &known{issuer: i, verified: &verified{Token: &jwt.Token{Expires: date(c.exp), NotBefore: date(c.nbf), IssuedAt: date(c.iat)}}}
		if from, until := k.span(&policy{Policy: Policy{MaxAge: c.maxAge}}); !from.Equal(at(c.from)) || !until.Equal(at(c.until)) {
			t.Errorf("%s: got %v until %v, want %v until %v", c.name, from.UnixMicro(), until.UnixMicro(), c.from, c.until)
		}
	}
}

// A clock that is set back to before nbf makes a token unknown.
func TestKnownTokenEndsWhenTheClockIsSetBack(t *testing.T) {
	a := authorizer(t, options(t))
	now := time.Now()
	token := edKey().token(map[string]any{"nbf": now.Unix() - 5, "iat": now.Unix() - 100})
	wantReason(t, "a good token", a.Authorize(t.Context(), carrying(token)), OK)
	for back, want := range map[time.Duration]bool{0: true, 30 * time.Second: true, 40 * time.Second: false} {
		if k, _ := a.recall(a.policies[DefaultPolicy], token, now.Add(-back)); (k != nil) != want {
			t.Errorf("%v before, with nbf 5 s ago and a leeway of 30 s: known %v, want %v", back, k != nil, want)
		}
	}
}

// The headers of a request change in the same way whether its token is known or not,
// also if they hold the token in another place, or names that must be removed.
func TestHeadersOfKnownTokens(t *testing.T) {
	key := edKey()
	token := key.token(map[string]any{"client_id": "caf\u00e9"})
	places := map[string]Policy{
		DefaultPolicy: {},
		"cookie":      {TokensFrom: []Place{{Cookie: "session"}}},
		"own":         {TokensFrom: []Place{{Header: "X-Token"}}},
		"several":     {TokensFrom: []Place{{Header: "authorization"}, {Header: "x-token"}, {Query: "t"}}},
	}
	requests := map[string]*Request{
		"plain":      carrying(token),
		"spoofed":    carrying(token),
		"set name":   carrying(token),
		"own":        {Headers: []Header{field("x-token", token)}},
		"own, twice": {Headers: []Header{field("x-token", token), field("x_token", "a.b.c")}},
		"cookie":     {Headers: []Header{field("cookie", "a=b; session="+token)}},
		"query":      {Path: "/?t=" + token + "&a=b"},
	}
	requests["spoofed"].Headers = append(requests["spoofed"].Headers, field("X_JWT_Subject", "root"), field("x-jwt-admin", "1"))
	requests["set name"].Headers = append(requests["set name"].Headers, field("X-Jwt-Subject", "root"))
	for _, remove := range []bool{false, true} {
		o := options(t, key)
		o.Policies, o.Headers.RemoveAuthorization = places, remove
		on := authorizer(t, o)
		o.Cache.MaxBytes = 0
		off := authorizer(t, o)
		allowed := 0
		for policy := range places {
			for range 2 {
				for name, r := range requests {
					r.under(policy)
					got, want := on.Authorize(t.Context(), r), off.Authorize(t.Context(), r)
					if diff := difference(got, want); diff != "" {
						t.Errorf("policy %s, request %s, removed %v: %s", policy, name, remove, diff)
					}
					if got.Allow {
						allowed++
					}
				}
			}
		}
		if allowed < 16 {
			t.Errorf("%d requests were allowed, want at least 16", allowed)
		}
	}
}

// difference returns how the decision about a known token differs from that about an
// unknown one, or "".
func difference(known, unknown Decision) string {
	if known.ID == unknown.ID || len(known.ID) != len(unknown.ID) {
		return fmt.Sprintf("got the IDs %q and %q, want two different ones", known.ID, unknown.ID)
	}
	if known.Encoded != nil && string(known.Encoded) != encodedForTest(&unknown) {
		return fmt.Sprintf("got the encoded answer %s, want %s", known.Encoded, encodedForTest(&unknown))
	}
	known.ID, known.Encoded, unknown.ID = "", nil, ""
	g, w := reflect.ValueOf(known), reflect.ValueOf(unknown)
	for i := range g.NumField() {
		a, b := g.Field(i).Interface(), w.Field(i).Interface()
		if g.Field(i).Kind() == reflect.Slice && g.Field(i).Len()+w.Field(i).Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(a, b) {
			return fmt.Sprintf("got %s %+v, want %+v", g.Type().Field(i).Name, a, b)
		}
	}
	return ""
}

func encodedForTest(d *Decision) string {
	return fmt.Sprint(d.Allow, d.Reason, d.Policy, d.Issuer, d.Subject, d.TokenID, d.Set, d.Remove, d.RemoveQuery)
}

// Requests that bring a token for the first time at the same moment verify it once:
// all decisions share the facts of one verification.
func TestConcurrentFirstUsesVerifyOnce(t *testing.T) {
	o := options(t)
	o.Issuers[0].Keys = oneKey{rsaKey()}
	a := authorizer(t, o)
	for i := range 20 {
		r := carrying(rsaKey().token(map[string]any{"jti": fmt.Sprint(i)}))
		const callers = 32
		var decisions [callers]Decision
		var begin, done sync.WaitGroup
		begin.Add(1)
		for n := range callers {
			done.Go(func() { begin.Wait(); decisions[n] = a.Authorize(context.Background(), r) })
		}
		begin.Done()
		done.Wait()
		for _, d := range decisions {
			wantReason(t, "a first use", d, OK)
			if d.Facts != decisions[0].Facts {
				t.Fatalf("token %d: got the facts of two verifications, want those of one", i)
			}
		}
	}
}

// oneKey is the key of an issuer, for many requests at a time.
type oneKey struct{ signer }

func (k oneKey) Find(context.Context, string, string) ([]jwks.Key, error) {
	return []jwks.Key{k.public()}, nil
}

func (oneKey) Generation() uint64 { return 1 }

// A verification that panics leaves nobody waiting.
func TestPanicEndsAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, err := replica.Open(replica.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		load(t, f)
		o := options(t)
		o.Revocations = f
		a := authorizer(t, o)
		a.issuers[idp].validator = nil // which Authorize calls after the signature
		r := carrying(edKey().token(nil))
		wantReason(t, "a panic", a.Authorize(t.Context(), r), Internal)
		began := time.Now()
		wantReason(t, "the next panic", a.Authorize(t.Context(), r), Internal)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the next request waited for %v, want no wait", waited)
		}
	})
}

// A known token is decided as an unknown one, whatever happens between two requests:
// two authorizers of one configuration, with a cache and without, agree on every
// member of every decision.
func TestKnownTokensAgainstAModel(t *testing.T) {
	synctest.Test(t, func(test *testing.T) {
		// Within a bubble rapid must not see the deadline of the test.
		rapid.Check(struct{ *testing.T }{test}, func(t *rapid.T) {
			f, err := replica.Open(replica.Options{MaxStaleness: 2 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			m := &knownMachine{t: test, follower: f, keys: &keychain{}, inForce: map[string]revocation.Entry{}}
			load(m.t, f)
			m.keys.publish(edKey(), otherKey)
			m.reload(t)
			for range 3 {
				m.mint(t)
			}
			t.Repeat(map[string]func(*rapid.T){
				"mint": m.mint, "request": m.request, "request again": m.request, "and again": m.request, "revoke or restore": m.revoke, "reload": m.reload,
				"time": func(t *rapid.T) {
					time.Sleep(rapid.SampledFrom([]time.Duration{time.Millisecond, 700 * time.Millisecond, 5 * time.Second, 40 * time.Second}).Draw(t, "for"))
				},
				"contact": func(*rapid.T) { _, revision := f.Position(); f.Contact(revision, time.Now(), 0) },
				"keys": func(t *rapid.T) {
					m.keys.publish(rapid.SampledFrom([][]signer{{edKey(), otherKey}, {edKey()}, {otherKey}, nil}).Draw(t, "published")...)
				},
			})
		})
	})
}

var otherKey = newEd25519("ed2")

type knownMachine struct {
	t        *testing.T
	follower *replica.Follower
	keys     *keychain
	inForce  map[string]revocation.Entry
	tokens   []string
	on, off  *Authorizer
}

func (m *knownMachine) mint(t *rapid.T) {
	now := time.Now().Unix()
	seconds := func(name string, from, to int) any {
		if rapid.IntRange(0, 3).Draw(t, "no "+name) == 0 {
			return nil
		}
		return float64(now) + float64(rapid.IntRange(from*4, to*4).Draw(t, name))/4
	}
	claims := map[string]any{
		"sub": rapid.SampledFrom([]any{"alice", "bob", nil}).Draw(t, "sub"),
		"jti": rapid.SampledFrom([]any{"t1", "t2", 7}).Draw(t, "jti"),
		"iat": seconds("iat", -20, 3), "exp": seconds("exp", -5, 60), "nbf": seconds("nbf", -10, 10),
		"scope": rapid.SampledFrom([]any{"openid", "openid reports", nil}).Draw(t, "scope"),
	}
	if rapid.IntRange(0, 9).Draw(t, "bound") == 0 {
		claims["cnf"] = map[string]any{"x5t#S256": b64.EncodeToString(make([]byte, 32))}
	}
	by := rapid.SampledFrom([]signer{edKey(), otherKey}).Draw(t, "key")
	m.tokens = append(m.tokens, by.token(claims))
}

func (m *knownMachine) reload(t *rapid.T) {
	o := Options{Issuers: []Issuer{{Name: idp}}, Revocations: m.follower, DenyOverdue: rapid.Bool().Draw(t, "on_stale: deny"), Logger: slog.New(slog.DiscardHandler)}
	i := &o.Issuers[0]
	i.Keys, i.Leeway, i.IatLeeway = m.keys, time.Duration(rapid.IntRange(0, 5).Draw(t, "leeway"))*time.Second, 0
	i.MaxLifetime = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(t, "max_lifetime")
	i.Audiences = rapid.SampledFrom([][]string{{"api"}, {"api"}, {"billing"}}).Draw(t, "audiences")
	o.Headers.RemoveAuthorization = rapid.Bool().Draw(t, "remove")
	o.TrustForwardedCertificate = true
	o.Policies = map[string]Policy{
		DefaultPolicy: {}, "young": {MaxAge: 15 * time.Second},
		"reports": {Scopes: []string{"reports"}}, "observed": {Scopes: []string{"reports"}, MaxAge: 10 * time.Second, Observe: true},
	}
	o.Cache = Cache{MaxBytes: 60_000, Encode: func(d *Decision) []byte { return []byte(encodedForTest(d)) }, Counts: tokencache.NewCounts()}
	m.on = authorizer(m.t, o)
	o.Cache = Cache{}
	m.off = authorizer(m.t, o)
}

func (m *knownMachine) revoke(t *rapid.T) {
	name := rapid.SampledFrom([]string{"sub=alice", "sub=bob", "jti=t1", "jti=7", "scope=reports"}).Draw(t, "target")
	claim, value, _ := strings.Cut(name, "=")
	if e, revoked := m.inForce[name]; revoked {
		change(m.t, m.follower, nil, []revocation.Entry{e})
		delete(m.inForce, name)
		return
	}
	m.inForce[name] = revoked(claim, value)
	change(m.t, m.follower, []revocation.Entry{m.inForce[name]}, nil)
}

func (m *knownMachine) request(t *rapid.T) {
	token := rapid.SampledFrom(m.tokens).Draw(t, "token")
	r := carrying(token).under(rapid.SampledFrom([]string{DefaultPolicy, DefaultPolicy, "young", "reports", "observed"}).Draw(t, "policy"))
	switch rapid.IntRange(0, 5).Draw(t, "more") {
	case 0:
		r.Headers = append(r.Headers, field("x-jwt-subject", "root"), field("x_jwt_id", "1"))
	case 1:
		r.Headers = append(r.Headers, field("x-forwarded-client-cert", "Hash="+strings.Repeat("00", 32)))
	}
	known, unknown := m.on.Authorize(context.Background(), r), m.off.Authorize(context.Background(), r)
	if diff := difference(known, unknown); diff != "" {
		t.Fatalf("%s", diff)
	}
}

// The sizes that the cache counts are about those that memory has.
func TestSizesAreTrue(t *testing.T) {
	o := options(t)
	o.Cache = Cache{MaxBytes: 32 << 20, Encode: func(d *Decision) []byte { return make([]byte, 600) }}
	o.Revocations = following(t, revoked("sub", "mallory"), revoked("sid", "mallory"), revoked("jti", "mallory"), revoked("scope", "mallory"))
	a := authorizer(t, o)
	tokens := make([]*Request, 2000)
	for i := range tokens {
		tokens[i] = carrying(edKey().token(map[string]any{
			"sub": fmt.Sprint("user-", i), "jti": fmt.Sprint(i), "sid": fmt.Sprint("session-", i), "azp": "web", "email": fmt.Sprintf("user-%d@example.com", i),
			"realm_access": map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-main"}}, "name": "Alice Example", "preferred_username": "alice",
		}))
	}
	before := heap()
	for _, r := range tokens {
		wantReason(t, "a good token", a.Authorize(t.Context(), r), OK)
	}
	grown := heap() - before
	bytes, known := a.CacheSize()
	if known != len(tokens) || grown > bytes || grown < bytes/2 {
		t.Errorf("%d tokens are known, which take %d bytes and count as %d; want %d tokens, and a count that is at least the size and at most twice the size", known, grown, bytes, len(tokens))
	}
}

func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
