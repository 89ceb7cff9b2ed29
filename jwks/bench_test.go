package jwks

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
)

func openIssuer(b *testing.B, o jwkstest.Options) (*jwkstest.Issuer, *Keys) {
	i, err := jwkstest.Start(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(i.Close)
	k := open(b, Options{Issuer: i.URL(), Discovery: true, MinRefreshInterval: time.Second})
	settled(b, k)
	return i, k
}

func BenchmarkFind(b *testing.B) {
	i, k := openIssuer(b, jwkstest.Options{Algorithm: "EdDSA"})
	id := i.KeyID()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := k.Find(background, id, "EdDSA"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFindBogus(b *testing.B) {
	_, k := openIssuer(b, jwkstest.Options{Algorithm: "EdDSA"})
	_, _ = k.Find(background, "the first one waits", "EdDSA")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := k.Find(background, numbered("bogus-", i), "EdDSA"); err == nil {
			b.Fatalf("bogus key %d: got it found, want an error", i)
		}
	}
}

// honest finds the key of token and verifies the token, again and again until ctx
// ends. It returns the 99th percentile of the time that one round takes.
func honest(ctx context.Context, b *testing.B, k *Keys, token, kid string) time.Duration {
	cut := strings.LastIndexByte(token, '.')
	signature := must(b64.DecodeString(token[cut+1:]))
	var took []time.Duration
	for ctx.Err() == nil {
		begun := time.Now()
		keys, err := k.Find(background, kid, "RS256")
		if err != nil || Verify("RS256", keys[0], token[:cut], signature) != nil {
			b.Fatalf("an honest token: got it refused (%v), want it verified", err)
		}
		took = append(took, time.Since(begun))
		time.Sleep(50 * time.Microsecond)
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

// flood asks as fast as it can, 100,000 times. With rotate it goes on until the
// new key of a rotation in the middle is accepted.
func flood(k *Keys, kid func(n int) string, rotate func() string) (accepted time.Duration) {
	var rotated time.Time
	var fresh string
	for n := 0; n < 100_000 || rotate != nil && accepted == 0; n++ {
		_, _ = k.Find(background, kid(n), "RS256")
		if n == 50_000 && rotate != nil {
			fresh, rotated = rotate(), time.Now()
		}
		if n >= 50_000 && rotate != nil && accepted == 0 && n%100 == 0 {
			if _, err := k.Find(background, fresh, "RS256"); err == nil {
				accepted = time.Since(rotated)
			}
		}
	}
	return accepted
}

// BenchmarkFlood sends 100,000 bogus kids at full speed and the honest tokens of
// one client beside them. In the middle the issuer rotates its key. The benchmark
// reports the 99th percentile of the honest client alone, beside the same number
// of questions for a kid that exists, and beside the flood. It also reports the
// fetches that the issuer saw, and the time until the new key was accepted, where
// the interval is 1 s. Run it with -benchtime 1x on an idle machine.
func BenchmarkFlood(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the binary does with so little memory in use
	i, k := openIssuer(b, jwkstest.Options{})
	id, token := i.KeyID(), must(i.Mint(nil))
	beside := func(load func()) time.Duration {
		ctx, cancel := context.WithCancel(background)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer cancel()
			load()
		})
		defer wg.Wait()
		return honest(ctx, b, k, token, id)
	}
	for b.Loop() {
		alone := beside(func() { time.Sleep(2 * time.Second) })
		busy := beside(func() {
			for begun := time.Now(); time.Since(begun) < time.Second; {
				flood(k, func(int) string { return id }, nil)
			}
		})
		before := i.Fetches()
		var accepted time.Duration
		flooded := beside(func() {
			accepted = flood(k, func(n int) string { return numbered("bogus-", n) }, func() string {
				if err := i.Rotate(); err != nil {
					panic(err)
				}
				return i.KeyID()
			})
		})
		b.ReportMetric(float64(alone.Nanoseconds()), "ns-p99-alone")
		b.ReportMetric(float64(busy.Nanoseconds()), "ns-p99-busy")
		b.ReportMetric(float64(flooded.Nanoseconds()), "ns-p99-flooded")
		b.ReportMetric(float64(i.Fetches()-before), "fetches")
		b.ReportMetric(accepted.Seconds(), "s-until-accepted")
	}
}
