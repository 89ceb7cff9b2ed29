package control

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rescind/authz"
	"rescind/authz/watch"
	"rescind/revocation"
	"rescind/revocation/feed"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/replica"
	"rescind/test/eventually"
)

// remembering returns a watcher that remembers tokens of half as many subjects.
func remembering(b *testing.B, tokens int) *watch.Watcher {
	b.Helper()
	w, err := watch.New(watch.Options{Settings: watch.Defaults()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.Close() })
	now := time.Now()
	for n := range tokens {
		d := &authz.Decision{
			Allow: true, Reason: authz.OK, Policy: "default", Issuer: issuerA, Subject: fmt.Sprint("user-", n/2), TokenID: fmt.Sprint("jti-", n),
			Facts: &authz.Facts{KeyID: "k1", Session: fmt.Sprint("sid-", n/2), Clients: authz.Clients{"web"}, IssuedAt: revocation.MicrosOf(now), Expires: revocation.MicrosOf(now.Add(time.Hour))},
		}
		binary.BigEndian.PutUint64(d.Facts.Hash[:], uint64(n))
		w.Observe(nil, d, now)
		if n%1000 == 999 { // the answer comes after the observed decisions are handled
			if _, err := w.Weights([]insight.ImpactQuery{{Issuer: issuerA, Claims: map[string]any{"jti": "none"}}}); err != nil {
				b.Fatal(err)
			}
		}
	}
	return w
}

// postFor posts a revocation, and reads the answer.
func postFor[A any](e *endpoint, body string) (a A, code int) {
	r := httptest.NewRequest(http.MethodPost, "/v1/revocations", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token-revoker")
	r.Header.Set("Content-Type", typeJSON)
	w := httptest.NewRecorder()
	e.server.ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &a) // the caller checks the answer
	return a, w.Code
}

// weighing serves the API over the durable log. One replica on disk follows, and
// remembers so many tokens.
func weighing(b *testing.B, tokens int) *endpoint {
	b.Helper()
	watcher := remembering(b, tokens)
	log := durable(b, b.TempDir())
	b.Cleanup(func() { _ = log.Close() })
	var feeding *feed.Server
	e := serve(b, log, func(p *parts) {
		feeding = feed.NewServer(p.ledger, feed.ServerOptions{Tokens: []feed.Token{{Name: "replicas", SHA256: sha256.Sum256([]byte("replica"))}}})
		p.api.Ask = feeding.AskBriefly
		p.authority.ShareOfTraffic, p.authority.MinRequests = 0.2, 1000
		p.api.WaitApplied = func(ctx context.Context, w ledger.Wanted) Applied {
			a := feeding.WaitApplied(ctx, feed.Wanted(w))
			return Applied{Applied: a.Applied, Accepting: a.Accepting, Total: a.Total, Pending: a.Pending}
		}
	})
	b.Cleanup(e.stop)
	address := serveFeed(b, feeding)
	f, err := replica.Open(replica.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		_ = feed.Follow(ctx, f, feed.ClientOptions{Plaintext: true, Addresses: []string{address}, Name: "replica-a", Token: func() (string, error) { return "replica", nil },
			Reporter: feed.NewReporter(feed.ReporterOptions{Answer: watcher.Answer})})
	})
	b.Cleanup(func() { cancel(); following.Wait() })
	eventually.True(b, "the replica answers with a weight", func() bool {
		d, _ := postFor[Document](e, claims(issuerA, `{"sub":"user-0"}`))
		return d.Seen != nil && d.Seen.Tokens == 2
	})
	return e
}

// Single durable revocations by sub, each weighed by a replica that remembers a
// million tokens and is asked over the feed, 64 callers.
//
//	go test -run '^$' -bench Weighed -benchtime 3s ./revocation/control
func BenchmarkWeighed64(b *testing.B) {
	const tokens = 1_000_000
	e := weighing(b, tokens)
	var next, partial atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				d, code := postFor[Document](e, claims(issuerA, fmt.Sprintf(`{"sub":"user-%d"}`, i)))
				if code != 201 {
					b.Errorf("got status %d, want 201", code)
				}
				if d.Seen == nil || d.Seen.Partial || d.Seen.Tokens != 2 && i < tokens/2 {
					partial.Add(1)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "revocations/s")
	b.ReportMetric(100*float64(partial.Load())/float64(b.N), "%-not-whole")
}

// Imports of a thousand lines, each weighed, from the request until a replica has
// all of them in force: the processor time of one line, in the control endpoint
// and the replica together. The lines name a subject each, or one subject, with
// each line reaching further than those before.
//
//	go test -run '^$' -bench ProcessorTime -benchtime 200x -count 6 ./revocation/control
func BenchmarkProcessorTimeOfALine(b *testing.B) {
	const each = 1000
	for name, line := range map[string]func(n int) string{
		"a subject each": func(n int) string { return claims(issuerA, fmt.Sprintf(`{"sub":"leaver-%d"}`, n)) },
		"one subject": func(n int) string {
			cutOff, end := time.Unix(1_000_000_000, 0).Add(time.Duration(n)*time.Millisecond), time.Now().Add(time.Hour+time.Duration(n)*time.Second/10)
			return fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"one"},"issued_before":%q,"expires_at":%q}`, issuerA, cutOff.Format(time.RFC3339Nano), end.Format(time.RFC3339Nano))
		},
	} {
		b.Run(name, func(b *testing.B) {
			e := weighing(b, 10_000)
			n := 0
			body := func() string {
				n += each
				return lines(each, func(i int) string { return line(n + i) })
			}
			post := func(body string) {
				if a := e.do("operator", http.MethodPost, postPath+"?wait=all&timeout=5s", body, "Content-Type", typeNDJSON); a.Code != 201 {
					b.Fatalf("an import: got %d %s, want 201", a.Code, a.Body)
				}
			}
			post(body())
			post(body())
			before := processorTime(b)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				made := processorTime(b)
				next := body()
				before += processorTime(b) - made
				b.StartTimer()
				post(next)
			}
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(b.N*each), "cpu-µs/line")
		})
	}
}

// processorTime returns the processor time of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
