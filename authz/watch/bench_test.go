package watch_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/watch"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/revocation/replica"
)

// BenchmarkCheck is the CPU time of a Check, RS256, without and with a watcher,
// in turns. The call itself is not in it (gRPC is another 20 to 35 µs), so the
// share that watching has of a real Check is smaller than what is reported. That
// of everything, in a real one, is what TestWatchingCosts in package test finds.
//
//	go test -run - -bench 'Check$' -benchtime 1x -count 5 ./authz/watch
func BenchmarkCheck(b *testing.B) {
	checks := questions(b, 5_000)
	w, err := watch.New(watch.Options{Settings: watch.Defaults()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	off := server(b)
	on := server(b, func(_ context.Context, o gate.Observation) { w.Observe(o.Request, o.Decision, o.At) })
	const rounds, each = 200, 500 // short turns: what else runs here disturbs both
	for range b.N {
		var without, with []float64
		for n := range rounds {
			part := checks[n*each%len(checks):]
			first, second := off, on
			if n%2 == 1 {
				first, second = on, off
			}
			x, y := cpu(b, first, part, each), cpu(b, second, part, each)
			if n%2 == 1 {
				x, y = y, x
			}
			without, with = append(without, x), append(with, y)
		}
		b.ReportMetric(median(without), "µs-off")
		b.ReportMetric(median(with), "µs-on")
		b.ReportMetric(100*(median(with)/median(without)-1), "%-more")
		b.ReportMetric(0, "ns/op")
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// cpu is the time of the process for each of n checks, in microseconds.
func cpu(b *testing.B, s *envoy.Server, checks []*authv3.CheckRequest, n int) float64 {
	begun := spent(b)
	for i := range n {
		r, err := s.Check(b.Context(), checks[i])
		if err != nil || r.Status.Code != 0 {
			b.Fatal(r, err)
		}
	}
	time.Sleep(20 * time.Millisecond) // what has been queued
	return float64((spent(b) - begun).Nanoseconds()) / 1000 / float64(n)
}

func spent(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const issuer = "https://idp.example/"

var private = func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
}()

type oneKey struct{}

func (oneKey) Find(context.Context, string, string) ([]jwks.Key, error) {
	return []jwks.Key{{ID: "k1", Public: private.Public()}}, nil
}

func server(b *testing.B, observers ...func(context.Context, gate.Observation)) *envoy.Server {
	f, err := replica.Open(replica.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	if err := f.Greet("log", 1, 720*time.Hour); err != nil {
		b.Fatal(err)
	}
	loading, err := f.Load("log", 1, 0)
	if err == nil {
		err = loading.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
	f.Contact(1, time.Now(), 0)
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: issuer, Keys: oneKey{}, AnyAudience: true, MaxLifetime: time.Hour}},
		Revocations: f,
	})
	if err != nil {
		b.Fatal(err)
	}
	g, err := gate.New(gate.Options{Authorizer: a, Observers: observers})
	if err != nil {
		b.Fatal(err)
	}
	s, err := envoy.NewServer(envoy.Options{Gate: g})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func questions(b *testing.B, n int) []*authv3.CheckRequest {
	out := make([]*authv3.CheckRequest, n)
	now := time.Now()
	for i := range out {
		t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": issuer, "sub": fmt.Sprint("user-", i/2), "aud": "api", "jti": fmt.Sprintf("3c9e6b7a-%08x-4ea0-9c2f", i), "sid": fmt.Sprintf("b1f0e4f7-%08x", i/2),
			"client_id": "web", "scope": "openid profile", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		})
		t.Header["kid"] = "k1"
		token, err := t.SignedString(private)
		if err != nil {
			b.Fatal(err)
		}
		out[i] = &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: fmt.Sprintf("10.%d.%d.7", i>>8&255, i&255),
			}}}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Headers: map[string]string{
				":path": "/", ":method": "GET", ":authority": "api.example", "user-agent": "curl/8.5.0", "accept": "*/*", "authorization": "Bearer " + token,
			}}},
		}}
	}
	return out
}
