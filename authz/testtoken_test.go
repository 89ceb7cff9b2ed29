package authz

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rescind/jwks"
	"rescind/revocation"
	"rescind/revocation/replica"
)

const (
	idp   = "https://idp.example/"
	other = "https://other.example/"
)

var b64 = base64.RawURLEncoding

// compact returns a token of these two texts, with a signature that no key made.
func compact(header, payload string) string {
	return b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload)) + ".c2ln"
}

// signer is a key of an issuer with its private half.
type signer struct {
	alg, kid string
	private  crypto.Signer
}

func (s signer) public() jwks.Key { return jwks.Key{ID: s.kid, Public: s.private.Public()} }

// sign returns a token of exactly these texts.
func (s signer) sign(header, payload string) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	signature, err := jwt.GetSigningMethod(s.alg).Sign(signed, s.private)
	if err != nil {
		panic(err)
	}
	return signed + "." + b64.EncodeToString(signature)
}

// token returns a token that is valid now. changes replace claims, and nil removes
// one.
func (s signer) token(changes map[string]any) string {
	return s.typed(map[string]any{}, changes)
}

func (s signer) typed(header, changes map[string]any) string {
	head := map[string]any{"alg": s.alg, "kid": s.kid}
	now := time.Now().Unix()
	claims := map[string]any{"iss": idp, "sub": "alice", "aud": "api", "jti": "t1", "iat": now - 10, "exp": now + 300, "scope": "openid profile"}
	return s.sign(changed(head, header), changed(claims, changes))
}

func changed(base, changes map[string]any) string {
	for name, v := range changes {
		if v == nil {
			delete(base, name)
		} else {
			base[name] = v
		}
	}
	text, err := json.Marshal(base)
	if err != nil {
		panic(err)
	}
	return string(text)
}

var edKey = sync.OnceValue(func() signer { return newEd25519("ed1") })

func newEd25519(kid string) signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{"EdDSA", kid, private}
}

var rsaKey = sync.OnceValue(func() signer {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return signer{"RS256", "rsa1", private}
})

var ecKey = sync.OnceValue(func() signer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return signer{"ES256", "ec1", private}
})

// ring holds the keys of an issuer without a network.
type ring struct {
	keys  []jwks.Key
	err   error
	panic any
	asked []string // kid/alg of each call
}

func ringOf(signers ...signer) *ring {
	r := &ring{}
	for _, s := range signers {
		r.keys = append(r.keys, s.public())
	}
	return r
}

func (r *ring) Generation() uint64 { return 1 }

func (r *ring) Find(_ context.Context, kid, alg string) ([]jwks.Key, error) {
	r.asked = append(r.asked, kid+"/"+alg)
	if r.panic != nil {
		panic(r.panic)
	}
	var found []jwks.Key
	for _, k := range r.keys {
		if (kid == k.ID || kid == "") && jwks.Fits(alg, k.Public) {
			found = append(found, k)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	switch {
	case len(found) == 0:
		return nil, jwks.ErrUnknownKey
	case kid == "" && len(found) > 4:
		return nil, jwks.ErrAmbiguousKey
	}
	return found, nil
}

// options returns a configuration of one issuer and no revocations.
func options(t testing.TB, signers ...signer) Options {
	if len(signers) == 0 {
		signers = []signer{edKey()}
	}
	return Options{
		Issuers:     []Issuer{{Name: idp, Keys: ringOf(signers...), Audiences: []string{"api"}, MaxLifetime: 24 * time.Hour, Leeway: 30 * time.Second}},
		Revocations: following(t),
		Cache:       Cache{MaxBytes: 1 << 20},
		Logger:      slog.New(slog.DiscardHandler),
	}
}

// following returns a follower in memory with these entries in force.
func following(t testing.TB, entries ...revocation.Entry) *replica.Follower {
	t.Helper()
	f, err := replica.Open(replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	load(t, f, entries...)
	return f
}

func load(t testing.TB, f *replica.Follower, entries ...revocation.Entry) {
	t.Helper()
	if err := f.Greet("log", 7, 720*time.Hour); err != nil {
		t.Fatal(err)
	}
	loading, err := f.Load("log", 7, uint64(len(entries)))
	if err != nil {
		t.Fatal(err)
	}
	loading.Add(entries)
	if err := loading.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Contact(7, time.Now(), 0)
}

// textValue returns a claim's value that is a string.
func textValue(s string) revocation.Value {
	v, _ := revocation.ValueOf(s)
	return v
}

// revoked returns an entry for one equality of idp.
func revoked(claim string, value any) revocation.Entry {
	v, ok := revocation.ValueOf(value)
	if !ok {
		panic("not a value")
	}
	r := revocation.Revocation{
		ID: revocation.ID{Revision: 3, Index: 1}, Issuer: idp,
		Target:    revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: claim, Value: v}}},
		ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
	}
	return r.Entry()
}

func authorizer(t testing.TB, o Options) *Authorizer {
	t.Helper()
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantReason fails the test unless d has this reason, and allows for no other
// reasons than OK and NoTokenAllowed.
func wantReason(t testing.TB, input string, d Decision, want Reason) {
	t.Helper()
	if d.Reason != want || d.Allow != (want == OK || want == NoTokenAllowed) {
		t.Errorf("%s: got reason %s (%s), allowed %v; want %s", input, d.Reason, d.Detail, d.Allow, want)
	}
}

// carrying returns a request with this token, or without one if it is "".
func carrying(token string) *Request {
	r := &Request{Headers: []Header{field(":path", "/"), field("accept", "*/*")}}
	if token != "" {
		r.Headers = append(r.Headers, field("authorization", "Bearer "+token))
	}
	return r
}

func (r *Request) under(policy string) *Request {
	r.Policy = &policy
	return r
}
