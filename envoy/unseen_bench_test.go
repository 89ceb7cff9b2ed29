package envoy

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/jwks"
)

// BenchmarkUnseen is the way of a token that comes for the first time, from the wire
// to the answer on the wire, without gRPC. The cache is so small that it has forgotten
// a token when the token comes again.
//
//	go test -run '^$' -bench Unseen -benchmem ./envoy
func BenchmarkUnseen(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		b.Run(alg, func(b *testing.B) {
			k := newAlgorithmKey(b, alg)
			a, err := authz.New(authz.Options{
				Issuers:     []authz.Issuer{{Name: idp, Keys: k, Audiences: []string{"api"}, MaxLifetime: time.Hour}},
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
				if messages[i], err = proto.Marshal(browserWith(k.token(b, fmt.Sprint("t-", i)))); err != nil {
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

// algorithmKey is the only key of idp.
type algorithmKey struct {
	alg     string
	private crypto.Signer
	found   []jwks.Key
}

func newAlgorithmKey(b *testing.B, alg string) *algorithmKey {
	b.Helper()
	k, err := &algorithmKey{alg: alg}, error(nil)
	if alg == "RS256" {
		k.private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		k.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		b.Fatal(err)
	}
	k.found = []jwks.Key{{ID: "k", Public: k.private.Public()}}
	return k
}

func (k *algorithmKey) Generation() uint64 { return 1 }

func (k *algorithmKey) Find(context.Context, string, string) ([]jwks.Key, error) { return k.found, nil }

// token returns a token like those of an identity provider.
func (k *algorithmKey) token(b *testing.B, jti string) string {
	now := time.Now()
	t := jwt.NewWithClaims(jwt.GetSigningMethod(k.alg), jwt.MapClaims{
		"iss": idp, "aud": "api", "sub": "user-" + jti, "jti": jti, "sid": "session-" + jti, "iat": now.Unix(), "exp": now.Add(30 * time.Minute).Unix(),
		"scope": "openid profile email", "azp": "web", "client_id": "web", "email": jti + "@example.com", "realm_access": map[string]any{"roles": []string{"user", "reader"}},
	})
	t.Header["kid"] = "k"
	raw, err := t.SignedString(k.private)
	if err != nil {
		b.Fatal(err)
	}
	return raw
}
