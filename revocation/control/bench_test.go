package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"rescind/revocation/feed"
	"rescind/revocation/ledger"
	"rescind/revocation/replica"
	"rescind/revocation/store"
	"rescind/test/eventually"
)

// The figures of the control endpoint, over HTTP handlers and the durable log
// on the file system of the test's directory (TMPDIR):
//
//	go test -run '^$' -bench . -benchtime 3s ./revocation/control
//	go test -run '^$' -bench InForce -benchtime 20000x ./revocation/control
//	RESCIND_ENTRIES=10000000 go test -run '^$' -bench Restart -benchtime 1x ./revocation/control

func durable(b testing.TB, dir string) *store.Log {
	b.Helper()
	l, err := store.Open(b.Context(), store.Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// post posts as an operator, whose imports are not paced.
func (e *endpoint) post(contentType, body string) int {
	r := httptest.NewRequest(http.MethodPost, "/v1/revocations", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token-operator")
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	e.server.ServeHTTP(w, r)
	return w.Code
}

// Single durable revocations, 64 callers.
func BenchmarkCallers64(b *testing.B) {
	log := durable(b, b.TempDir())
	defer log.Close()
	e := serve(b, log)
	defer e.stop()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		all.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				if code := e.post(typeJSON, claims(issuerA, fmt.Sprintf(`{"sub":"user-%d"}`, i))); code != 201 {
					b.Errorf("got status %d, want 201", code)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "revocations/s")
}

// A lone caller.
func BenchmarkCaller(b *testing.B) {
	log := durable(b, b.TempDir())
	defer log.Close()
	e := serve(b, log)
	defer e.stop()
	took := make([]time.Duration, 0, b.N)
	for i := range b.N {
		start := time.Now()
		if code := e.post(typeJSON, claims(issuerA, fmt.Sprintf(`{"sub":"user-%d"}`, i))); code != 201 {
			b.Errorf("got status %d, want 201", code)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

// From POST to its being in force on 16 replicas: 1,000 POSTs a second with
// wait=all, over the durable log and the feed's connections.
func BenchmarkPostToInForce(b *testing.B) {
	b.Run("replicas in memory", func(b *testing.B) { postToInForce(b, func() string { return "" }) })
	b.Run("replicas on this disk", func(b *testing.B) { postToInForce(b, b.TempDir) }) // all 16, which is not how they live
}

func postToInForce(b *testing.B, dir func() string) {
	const replicas, every = 16, time.Millisecond
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as the binary does that holds this little
	log := durable(b, b.TempDir())
	defer log.Close()
	var feeding *feed.Server
	e := serve(b, log, func(p *parts) {
		feeding = feed.NewServer(p.ledger, feed.ServerOptions{Tokens: []feed.Token{{Name: "replicas", SHA256: sha256.Sum256([]byte("replica"))}}})
		p.api.WaitApplied = func(ctx context.Context, w ledger.Wanted) Applied {
			a := feeding.WaitApplied(ctx, feed.Wanted(w))
			return Applied{Applied: a.Applied, Accepting: a.Accepting, Total: a.Total, Pending: a.Pending}
		}
	})
	defer e.stop()
	address := serveFeed(b, feeding)
	ctx, cancel := context.WithCancel(b.Context())
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	for i := range replicas {
		f, err := replica.Open(replica.Options{Dir: dir()})
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer f.Close()
			_ = feed.Follow(ctx, f, feed.ClientOptions{Addresses: []string{address}, Name: fmt.Sprint("replica-", i), Plaintext: true,
				Token: func() (string, error) { return "replica", nil }})
		})
	}
	eventually.True(b, "every replica follows", func() bool {
		e.post(typeJSON, claims(issuerA, `{"sub":"first"}`))
		a := feeding.WaitApplied(ctx, feed.Wanted{Revision: e.ledger.Revision()})
		return a.Applied == replicas
	})
	took := make([]time.Duration, b.N)
	var waiting sync.WaitGroup
	b.ResetTimer()
	begun := time.Now()
	for i := range b.N {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * every)))
		waiting.Go(func() {
			at := time.Now()
			r := httptest.NewRequest(http.MethodPost, "/v1/revocations?wait=all&timeout=5s", strings.NewReader(claims(issuerA, fmt.Sprintf(`{"sub":"user-%d"}`, i))))
			r.Header.Set("Authorization", "Bearer token-revoker")
			r.Header.Set("Content-Type", typeJSON)
			w := httptest.NewRecorder()
			e.server.ServeHTTP(w, r)
			took[i] = time.Since(at)
			if w.Code != 201 {
				b.Errorf("got status %d, want 201: %s", w.Code, w.Body)
			}
		})
	}
	waiting.Wait()
	b.StopTimer()
	slices.Sort(took)
	for name, part := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(float64(took[int(part*float64(b.N-1))].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "posts/s")
}

// serveFeed serves the feed until the benchmark ends, and returns its address.
func serveFeed(b *testing.B, feeding *feed.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := grpc.NewServer(feeding.Options()...)
	feeding.Register(g)
	go func() { _ = g.Serve(l) }()
	b.Cleanup(func() { feeding.Close(); g.Stop() })
	return l.Addr().String()
}

func importBody(from, n int) string {
	var body strings.Builder
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&body, `{"issuer":%q,"claims":{"jti":"3f1c0c9e-8f5a-4a52-9b7e-%012d"},"reason":"incident 4711"}`+"\n", issuerA, i)
	}
	return body.String()
}

// Bodies of 100,000 lines.
func BenchmarkImport(b *testing.B) {
	log := durable(b, b.TempDir())
	defer log.Close()
	e := serve(b, log)
	defer e.stop()
	bodies := make([]string, b.N)
	for i := range bodies {
		bodies[i] = importBody(i*maxLines, maxLines)
	}
	b.ResetTimer()
	for _, body := range bodies {
		if code := e.post(typeNDJSON, body); code != 201 {
			b.Errorf("got status %d, want 201", code)
		}
	}
	b.ReportMetric(float64(b.N)*maxLines/b.Elapsed().Seconds(), "revocations/s")
}

// A log that is there already is read to its end.
func BenchmarkRestart(b *testing.B) {
	entries := 1_000_000
	if s := os.Getenv("RESCIND_ENTRIES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		entries = n
	}
	dir := b.TempDir()
	log := durable(b, dir)
	e := serve(b, log)
	for i := 0; i < entries; i += maxLines {
		if code := e.post(typeNDJSON, importBody(i, min(maxLines, entries-i))); code != 201 {
			b.Fatalf("got status %d, want 201", code)
		}
	}
	e.stop()
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	e = nil
	b.ResetTimer()
	for range b.N {
		before := heap()
		log := durable(b, dir)
		e := serve(b, log)
		b.StopTimer()
		if e.ledger.Len() != entries {
			b.Errorf("got %d revocations in force, want %d", e.ledger.Len(), entries)
		}
		b.ReportMetric(float64(heap()-before)/float64(entries), "bytes/entry")
		e.stop()
		if err := log.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
