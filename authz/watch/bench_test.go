package watch_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
	"rescind/authz/decisionlog"
	"rescind/authz/otlp"
	"rescind/authz/tracing"
	"rescind/authz/watch"
	"rescind/envoy"
	"rescind/jwks"
	"rescind/revocation"
)

// BenchmarkCheck is the CPU time of a Check, RS256, five in a hundred of them
// denied: with nothing that watches, and with a watcher alone or everything (a
// watcher, the decision log and traces at their usual rates), in turns. The call
// itself is not in it (gRPC is another 20 to 35 µs), so the share that watching
// has of a real Check is smaller than what is reported; the collector of traces
// is in it.
//
//	go test -run - -bench 'Check$' -benchtime 1x -count 5 ./authz/watch
func BenchmarkCheck(b *testing.B) {
	checks := questions(b, 5_000)
	for name, observe := range map[string]func(*testing.B) envoy.Options{"watcher": watched, "everything": everything} {
		b.Run(name, func(b *testing.B) { compare(b, checks, server(b, envoy.Options{}), server(b, observe(b))) })
	}
}

func watched(b *testing.B) envoy.Options {
	w, err := watch.New(watch.Options{Settings: watch.Defaults()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close() })
	return envoy.Options{Observers: []func(context.Context, envoy.Observation){
		func(_ context.Context, o envoy.Observation) { w.Observe(o.Request, o.Decision, o.At) },
	}}
}

func everything(b *testing.B) envoy.Options {
	o := watched(b)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	b.Cleanup(collector.Close)
	exporter, err := otlp.Collector{URL: collector.URL, Protocol: otlp.HTTP}.Spans(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	tracer, err := tracing.New(tracing.Options{Exporter: exporter, Resource: otlp.Resource("test", "a"), Ratio: .01, MaxPerSecond: 1000})
	if err != nil {
		b.Fatal(err)
	}
	file, err := decisionlog.OpenFile(filepath.Join(b.TempDir(), "decisions.log"), 100, 2)
	if err != nil {
		b.Fatal(err)
	}
	log, err := decisionlog.New(decisionlog.Options{
		Rates: decisionlog.Rates{Denied: 1, Allowed: .01}, Output: decisionlog.Lines(file, "a"), Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = log.Close(ctx)
		_ = tracer.Close(ctx)
	})
	o.Trace = func(ctx context.Context, o envoy.Observation) trace.SpanContext {
		return tracer.Record(ctx, o.Request, o.Decision, o.At, o.Took)
	}
	o.Observers = append(o.Observers, func(_ context.Context, o envoy.Observation) {
		log.Record(o.Request, o.Decision, o.At, o.Took, o.Span)
	})
	return o
}

func compare(b *testing.B, checks []*authv3.CheckRequest, off, on *envoy.Server) {
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
		if err != nil {
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

func server(b *testing.B, o envoy.Options) *envoy.Server {
	f, err := revocation.OpenFollower(revocation.FollowerOptions{})
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
	o.Authorizer, o.Revocations = a, f
	s, err := envoy.NewServer(o)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func questions(b *testing.B, n int) []*authv3.CheckRequest {
	out := make([]*authv3.CheckRequest, n)
	now := time.Now()
	for i := range out {
		issued := now
		if i%20 == 0 {
			issued = now.Add(-2 * time.Hour)
		}
		t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
			"iss": issuer, "sub": fmt.Sprint("user-", i/2), "aud": "api", "jti": fmt.Sprintf("3c9e6b7a-%08x-4ea0-9c2f", i), "sid": fmt.Sprintf("b1f0e4f7-%08x", i/2),
			"client_id": "web", "scope": "openid profile", "iat": issued.Unix(), "exp": issued.Add(time.Hour).Unix(),
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
