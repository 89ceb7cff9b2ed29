package watch_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/watch"
	"rescind/jwks"
	"rescind/revocation/replica"
)

// BenchmarkCheck measures the CPU time of a decision, RS256, without and with a watcher,
// in turns. The call itself is not in it (gRPC is another 20 to 35 µs), so the
// share that watching has of a real Check is smaller than the reported share.
// TestWatchingCosts in package test finds the share of a whole real Check.
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
	const rounds, each = 200, 500 // short turns, so that other load disturbs both alike
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
func cpu(b *testing.B, g *gate.Gate, checks []*authz.Request, n int) float64 {
	begun := spent(b)
	for i := range n {
		g.Decide(b.Context(), func() (*authz.Request, authz.Reason) { return checks[i], "" }, func(_ *authz.Request, d *authz.Decision) {
			if !d.Allow {
				b.Errorf("check %d: got denied for %s, want allowed", i, d.Reason)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // for the queued events
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

func (oneKey) Generation() uint64 { return 1 }

func (oneKey) Find(context.Context, string, string) ([]jwks.Key, error) {
	return []jwks.Key{{ID: "k1", Public: private.Public()}}, nil
}

func server(b *testing.B, observers ...func(context.Context, gate.Observation)) *gate.Gate {
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
	return g
}

func questions(b *testing.B, n int) []*authz.Request {
	out := make([]*authz.Request, n)
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
		out[i] = &authz.Request{
			Source: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7}),
			Headers: []authz.Header{
				{Name: ":path", Value: "/"}, {Name: ":method", Value: "GET"}, {Name: ":authority", Value: "api.example"},
				{Name: "user-agent", Value: "curl/8.5.0"}, {Name: "accept", Value: "*/*"}, {Name: "authorization", Value: "Bearer " + token},
			},
		}
	}
	return out
}
