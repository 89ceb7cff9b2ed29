package known

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// BenchmarkMillion fills a table with a million tokens, each of which four revocations
// may deny, and reports the memory. Then it takes all out, one revocation each.
//
//	go test -run '^$' -bench Million -benchtime 1x ./envoy/known
func BenchmarkMillion(b *testing.B) {
	const entries = 1_000_000
	for b.Loop() {
		before := heapInUse()
		table := newTestTable(b, entries)
		table.admitted = rate.NewLimiter(rate.Inf, 0)
		began := time.Now()
		for n := range entries {
			token := tokenOf(table, n)
			token.Digests = []uint64{uint64(n), uint64(n/2) | 1<<40, uint64(n/3) | 2<<40, uint64(n%5) | 3<<40}
			token.Set = append(token.Set, Header{"x-jwt-issuer", "https://idp.example.com/"})
			table.Admit(token, start)
		}
		admitted := time.Since(began)
		b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB-heap")
		b.ReportMetric(float64(len(table.memory.bytes))/(1<<20), "MiB-table")
		b.ReportMetric(float64(table.Len()), "tokens")
		b.ReportMetric(float64(admitted.Nanoseconds())/entries, "ns/admission")
		began = time.Now()
		for n := range entries {
			table.Revoke(func(yield func(uint64) bool) { yield(uint64(n)) }, uint64(n))
		}
		b.ReportMetric(float64(time.Since(began).Nanoseconds())/entries, "ns/revocation")
		b.ReportMetric(float64(heapInUse()-before)/(1<<20), "MiB-heap-empty")
		if n := table.Len(); n != 0 {
			b.Fatalf("%d tokens are left", n)
		}
		table.Close()
	}
}

// heapInUse returns the bytes of the heap that are in use after a collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
