package interop

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"

	"rescind/authz"
	"rescind/jwks"
	"rescind/revocation/replica"
)

const idp = "https://idp.example/"

// FuzzAuthorize signs any header and payload with an issuer's key. A token that
// rescind allows is also allowed by go-jose, which shares no code with rescind,
// and both read the same subject and ID.
func FuzzAuthorize(f *testing.F) {
	key := edKey(f)
	authorizer := trusting(f, "ed1", key.Public().(ed25519.PublicKey))
	const header = `{"alg":"EdDSA","kid":"ed1"}`
	for _, payload := range []string{
		`{"iss":"https://idp.example/","aud":"api","sub":"alice","exp":4102444800}`,
		`{"iss":"https://idp.example/","aud":["x","api"],"iat":1.7e9,"nbf":0,"exp":41024448e2}`,
		`{"iss":"https://idp.example/","aud":"api","exp":4102444800,"nbf":9223372036854775808}`,
		`{"iss":"https://idp.example/","aud":["api",1],"exp":4102444800}`,
		`{"iss":"x","iss":"https://idp.example/","aud":"api","exp":4102444800,"SUB":"root"}`,
		`{"iss":"https://idp.example/","aud":"api","exp":4102444800,"cnf":{"jkt":"x"}}`,
	} {
		f.Add(header, payload)
	}
	f.Add(`{"alg":"Ed25519","kid":"ed1","typ":"at+jwt"}`, `{"iss":"https://idp.example/","aud":"api","exp":4102444800}`)
	f.Add(`{"alg":"EdDSA","crit":["b64"],"b64":false}`, `{}`)
	f.Add(`{"alg":"none"}`, `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := sign(key, header, payload)
		d := authorizer.Authorize(t.Context(), &authz.Request{Headers: []authz.Header{{Name: "authorization", Value: "Bearer " + raw}}})
		if d.Reason == authz.Internal || d.Reason == authz.KeysUnavailable {
			t.Fatalf("%q %q: wanted a reason that lies in the token, got %+v", header, payload, d)
		}
		if !d.Allow || strings.Contains(header, "Ed25519") { // go-jose does not know that name
			return
		}
		token, err := josejwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatalf("%q %q: rescind allows it, want go-jose to parse it: %v", header, payload, err)
		}
		var claims josejwt.Claims
		if err := token.Claims(key.Public(), &claims); err != nil {
			t.Fatalf("%q %q: rescind allows it, want go-jose to verify it: %v", header, payload, err)
		}
		if err := claims.ValidateWithLeeway(josejwt.Expected{Issuer: idp, AnyAudience: josejwt.Audience{"api"}, Time: time.Now()}, 31*time.Second); err != nil {
			t.Errorf("%q %q: rescind allows it, want go-jose to accept it: %v", header, payload, err)
		}
		if claims.Expiry == nil || claims.Subject != d.Subject || claims.ID != d.TokenID {
			t.Errorf("%q: rescind reads %+v, want the same as go-jose reads, %+v", payload, d, claims)
		}
	})
}

// trusting returns an authorizer that accepts tokens of idp, signed by this key.
// Nothing is revoked.
func trusting(f *testing.F, kid string, key ed25519.PublicKey) *authz.Authorizer {
	f.Helper()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: kid, Use: "sig"}}})
	if err != nil {
		f.Fatal(err)
	}
	file := filepath.Join(f.TempDir(), "jwks.json")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		f.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	keys, err := jwks.Open(jwks.Options{Issuer: idp, File: file, Logger: quiet})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(keys.Close)
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: idp, Keys: keys, Audiences: []string{"api"}, MaxLifetime: 100 * 365 * 24 * time.Hour, Leeway: 30 * time.Second}},
		Revocations: emptySet(f),
		Logger:      quiet,
	})
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// emptySet returns a replica's set that is complete and holds no revocation.
func emptySet(f *testing.F) *replica.Follower {
	f.Helper()
	follower, err := replica.Open(replica.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = follower.Close() })
	if err := follower.Greet("log", 7, 720*time.Hour); err != nil {
		f.Fatal(err)
	}
	loading, err := follower.Load("log", 7, 0)
	if err != nil {
		f.Fatal(err)
	}
	if err := loading.Commit(); err != nil {
		f.Fatal(err)
	}
	follower.Contact(7, time.Now(), 0)
	return follower
}

func sign(key ed25519.PrivateKey, header, payload string) string {
	b64 := base64.RawURLEncoding
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(ed25519.Sign(key, []byte(signed)))
}
