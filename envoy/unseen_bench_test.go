package envoy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/jwks"
	"rescind/test/eventually"
)

// BenchmarkUnseen is the way of a token that comes for the first time, from the wire
// to the answer on the wire, without gRPC. The cache is so small that it has forgotten
// a token when the token comes again.
//
//	go test -run '^$' -bench Unseen -benchmem ./envoy
func BenchmarkUnseen(b *testing.B) {
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	forECDSA, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	for method, private := range map[jwt.SigningMethod]crypto.Signer{jwt.SigningMethodRS256: forRSA, jwt.SigningMethodES256: forECDSA} {
		b.Run(method.Alg(), func(b *testing.B) {
			a, err := authz.New(authz.Options{
				Issuers:     []authz.Issuer{{Name: idp, Keys: keysOf(b, private), Audiences: []string{"api"}, MaxLifetime: time.Hour}},
				Revocations: follower(b), Logger: slog.New(slog.DiscardHandler), Cache: authz.Cache{MaxBytes: 1 << 20, Encode: Encode},
			})
			if err != nil {
				b.Fatal(err)
			}
			g, err := gate.New(gate.Options{Authorizer: a})
			if err != nil {
				b.Fatal(err)
			}
			s, err := NewServer(Options{Gate: g})
			if err != nil {
				b.Fatal(err)
			}
			const tokens = 2048 // more than the cache holds
			var messages [tokens][]byte
			for i := range messages {
				if messages[i], err = proto.Marshal(browserWith(usualToken(b, method, private, fmt.Sprint("t-", i)))); err != nil {
					b.Fatal(err)
				}
			}
			c, next := newCodec(), 0
			var message []byte
			f := &fakeStream{
				header: func(b []byte) error {
					copy(b, []byte{0, 0, 0, byte(len(message) >> 8), byte(len(message))})
					return nil
				},
				read: func(int) (mem.BufferSlice, error) { return mem.BufferSlice{mem.SliceBuffer(message)}, nil },
			}
			ctx := f.context(b.Context())
			b.ReportAllocs()
			for b.Loop() {
				message = messages[next%tokens]
				next++
				answer, err := s.check(ctx)
				if err != nil {
					b.Fatal(err)
				}
				data, err := c.Marshal(answer)
				if err != nil || data.Len() < 100 {
					b.Fatalf("got %d bytes and the error %v, want an answer that allows", data.Len(), err)
				}
				data.Free()
			}
		})
	}
}

// keysOf returns the keys of an issuer that has published the public half.
func keysOf(b *testing.B, private crypto.Signer) *jwks.Keys {
	b.Helper()
	jwk, err := jwkset.NewJWKFromKey(private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "k"}})
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"keys": []any{jwk.Marshal()}})
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "jwks.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	keys, err := jwks.Open(jwks.Options{Issuer: idp, File: file, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(keys.Close)
	eventually.True(b, "the keys are usable", func() bool { return keys.Status().Usable() })
	return keys
}

// usualToken returns a token like those of an identity provider.
func usualToken(b *testing.B, method jwt.SigningMethod, private crypto.Signer, jti string) string {
	b.Helper()
	now := time.Now()
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": idp, "aud": "api", "sub": "user-" + jti, "jti": jti, "sid": "session-" + jti, "iat": now.Unix(), "exp": now.Add(30 * time.Minute).Unix(),
		"scope": "openid profile email", "azp": "web", "client_id": "web", "email": jti + "@example.com", "realm_access": map[string]any{"roles": []string{"user", "reader"}},
	})
	t.Header["kid"] = "k"
	raw, err := t.SignedString(private)
	if err != nil {
		b.Fatal(err)
	}
	return raw
}
