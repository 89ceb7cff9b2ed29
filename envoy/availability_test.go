package envoy

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/jwks"
	"rescind/jwks/jwkstest"
	"rescind/revocation/replica"
)

// blocking is a log handler that blocks on its first line until release is
// closed. A goroutine that logs under a lock then holds that lock.
type blocking struct {
	slog.Handler
	entered, release chan struct{}
	once             *sync.Once
}

func (b blocking) Enabled(context.Context, slog.Level) bool { return true }

func (b blocking) Handle(context.Context, slog.Record) error {
	b.once.Do(func() { close(b.entered); <-b.release })
	return nil
}

// Checks, health checks and metrics are answered while the issuer does not answer
// and the follower blocks in the middle of a change with its lock held. The test
// measures no time: a Check that waited for either would never return.
func TestChecksWaitForNoSync(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	keys, err := jwks.Open(jwks.Options{Issuer: issuer.URL(), URI: issuer.URL() + "/jwks", MinRefreshInterval: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	for !keys.Status().Usable() {
		time.Sleep(time.Millisecond)
	}

	log := blocking{entered: make(chan struct{}), release: make(chan struct{}), once: new(sync.Once)}
	f, err := replica.Open(replica.Options{Dir: t.TempDir(), Logger: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	var syncing sync.WaitGroup
	t.Cleanup(func() { close(log.release); syncing.Wait(); _ = f.Close() })
	loadNothing(t, f)
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: issuer.URL(), Keys: keys, Audiences: []string{"api"}, MaxLifetime: time.Hour}},
		Revocations: f,
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	g, err := gate.New(gate.Options{Authorizer: a, Registerer: registry, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(Options{
		Gate: g, Registerer: registry, Logger: slog.New(slog.DiscardHandler),
		Ready: func() bool { return f.Status().Ready && keys.Status().Usable() },
	})
	if err != nil {
		t.Fatal(err)
	}

	// A snapshot is half loaded, and the follower holds its lock while it logs.
	half, err := f.Load("log", 9, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	half.Add(nil)
	syncing.Go(func() { f.Accept([]string{"log"}) })
	receive(t, log.entered)
	syncing.Go(func() { f.Contact(7, time.Now(), 0) }) // waits for the lock, as the feed does
	// The fetch of the keys has begun and gets no answer.
	issuer.BreakKeys(jwkstest.Fault{Delay: time.Hour})
	before := issuer.Fetches()
	for issuer.Fetches() == before {
		_, _ = keys.Find(t.Context(), "unknown", "EdDSA")
	}

	good, err := issuer.Mint(nil)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := issuer.Mint(map[string]any{"exp": 1, "iat": 0})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := issuer.MintWith(map[string]any{"kid": "unknown"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					for token, want := range map[string]string{good: "ok", expired: "expired", "": "no_token"} {
						r, err := s.Check(context.Background(), Question{Token: token}.request())
						if got := r.GetDynamicMetadata().AsMap()["reason"]; err != nil || got != want {
							t.Errorf("%v %v, want %s", got, err, want)
						}
					}
				}
			})
		}
		all.Go(func() { // waits for the issuer, for a bounded time
			r, err := s.Check(context.Background(), Question{Token: unknown}.request())
			if got := r.GetDynamicMetadata().AsMap()["reason"]; err != nil || got != "unknown_key" {
				t.Errorf("a token of an unknown key: reason %v, %v, want unknown_key", got, err)
			}
		})
		all.Go(func() {
			r, err := s.health.Check(context.Background(), &healthpb.HealthCheckRequest{})
			if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Errorf("health: %v, %v, want SERVING", r, err)
			}
		})
		all.Go(func() {
			if _, err := registry.Gather(); err != nil {
				t.Errorf("metrics under load: got %v, want nil", err)
			}
		})
		all.Wait()
	}()
	receive(t, done)
	half.Abandon()
}
