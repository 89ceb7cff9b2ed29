package envoy

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/jwks"
	"rescind/revocation/replica"
	"rescind/test/syncbuffer"
)

const idp = "https://idp.example/"

// key is the only key of idp, as authz.Keys and for signing.
type key struct {
	private ed25519.PrivateKey
	find    func() // called by Find
}

func newKey(t testing.TB) *key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &key{private: private, find: func() {}}
}

func (k *key) Generation() uint64 { return 1 }

func (k *key) Find(_ context.Context, kid, _ string) ([]jwks.Key, error) {
	k.find()
	if kid != "k" {
		return nil, jwks.ErrUnknownKey
	}
	return []jwks.Key{{ID: "k", Public: k.private.Public()}}, nil
}

func (k *key) token(changes map[string]any) string { return k.signed("k", changes) }

// signed returns a token that names the key by this kid.
func (k *key) signed(kid string, changes map[string]any) string {
	claims := jwt.MapClaims{"iss": idp, "sub": "alice", "aud": "api", "jti": "t1", "exp": time.Now().Unix() + 300, "iat": time.Now().Unix()}
	maps.Copy(claims, changes)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = kid
	raw, err := token.SignedString(k.private)
	if err != nil {
		panic(err)
	}
	return raw
}

func follower(t testing.TB) *replica.Follower {
	t.Helper()
	f, err := replica.Open(replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	loadNothing(t, f)
	return f
}

// loadNothing makes f ready, with an empty set at revision 7.
func loadNothing(t testing.TB, f *replica.Follower) {
	t.Helper()
	if err := f.Greet("log", 7, 720*time.Hour); err != nil {
		t.Fatal(err)
	}
	loading, err := f.Load("log", 7, 0)
	if err == nil {
		err = loading.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Contact(7, time.Now(), 0)
}

func authorizer(t testing.TB, k *key, f *replica.Follower, log *slog.Logger) *authz.Authorizer {
	t.Helper()
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: idp, Keys: k, Audiences: []string{"api"}, MaxLifetime: time.Hour}},
		Policies:    map[string]authz.Policy{"default": {}, "public": {TokenOptional: true}},
		Revocations: f, Logger: log, Cache: authz.Cache{MaxBytes: 1 << 20, Encode: Encode},
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// options of a server under test: those of its gate and its own.
type options struct {
	Revocations              *replica.Follower // nil: an empty set
	Ready                    func() bool
	TLS                      *tls.Config
	Linger                   time.Duration
	MaxMessage, MaxReceiving int
	Registerer               prometheus.Registerer
	Trace                    func(context.Context, gate.Observation) trace.SpanContext
	Observers                []func(context.Context, gate.Observation)
}

// server returns a Server that does not listen, and its log at every level.
func server(t testing.TB, k *key, o options) (*Server, *syncbuffer.Buffer) {
	t.Helper()
	log := &syncbuffer.Buffer{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if o.Revocations == nil {
		o.Revocations = follower(t)
	}
	g, err := gate.New(gate.Options{Authorizer: authorizer(t, k, o.Revocations, logger), Registerer: o.Registerer, Trace: o.Trace, Observers: o.Observers, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(Options{Gate: g, Ready: o.Ready, TLS: o.TLS, Linger: o.Linger, MaxMessage: o.MaxMessage, MaxReceiving: o.MaxReceiving, Registerer: o.Registerer, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// serving starts s on a unix socket and returns its address.
func serving(t testing.TB, s *Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: got %v, want nil", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	return "unix://" + path
}

func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// receive returns the next value of a channel. It ends the test after a minute.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatal("got nothing for a minute, want a value")
	}
	return v
}
