package replica

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation"
)

// The figures of the set:
//
//	RESCIND_ENTRIES=10000000 go test -run '^$' -bench Scale -benchtime 1x -count 3 ./revocation/replica
//	go test -run '^$' -bench Lookup ./revocation/replica

func entriesWanted() int {
	n, _ := strconv.Atoi(os.Getenv("RESCIND_ENTRIES"))
	return max(n, 200_000)
}

// generate yields n entries that end in the hours of a month, in parts of the
// size of a chunk of the feed.
func generate(n int, now time.Time, yield func([]revocation.Entry)) {
	shape := shapeOf(revocation.KindClaims, "jti")
	part := make([]revocation.Entry, 0, 4096)
	for i := range n {
		var seed [8]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		e := revocation.Entry{Shape: shape, Digest: digestOf(seed[:]), ID: revocation.ID{Revision: uint64(i/1000 + 1), Index: uint32(i % 1000)}}
		e.ExpiresAt = revocation.MicrosOf(now.Add(time.Hour + time.Duration(i%720)*time.Hour))
		if part = append(part, e); len(part) == cap(part) || i == n-1 {
			yield(part)
			part = part[:0]
		}
	}
}

// resident returns the memory of the process, in bytes.
func resident() int {
	debug.FreeOSMemory()
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kib << 10
		}
	}
	return 0
}

// pauses makes look-ups, about one each 50 µs, until stop is called. stop returns
// how long they took.
func pauses(f *Follower) (stop func() (p99, longest time.Duration)) {
	end := make(chan struct{})
	var took []time.Duration
	var running sync.WaitGroup
	running.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(50 * time.Microsecond):
			}
			t := &revocation.Token{Issuer: idp, Claims: map[string]any{"jti": strconv.Itoa(i)}}
			at := time.Now()
			_, _ = f.Lookup(t, at)
			took = append(took, time.Since(at))
		}
	})
	return func() (time.Duration, time.Duration) {
		close(end)
		running.Wait()
		slices.Sort(took)
		return took[len(took)*99/100], took[len(took)-1]
	}
}

// BenchmarkScale takes the times and the memory of a large set, from its load to
// its end.
func BenchmarkScale(b *testing.B) {
	n := entriesWanted()
	for range b.N {
		dir := b.TempDir()
		base := resident()
		f := open(b, Options{Dir: dir})
		now := time.Now()
		report := func(stage string, began time.Time, stop func() (time.Duration, time.Duration)) {
			p99, longest := stop()
			b.Logf("%-28s %8v; look-ups meanwhile: p99 %v, longest %v", stage, time.Since(began).Round(time.Millisecond), p99, longest)
		}
		load(b, f, "log-1", 1, "alice") // so that look-ups have a set

		began, stop := time.Now(), pauses(f)
		time.Sleep(time.Second)
		report("nothing", began, stop)

		noError(b, "Greet", f.Greet("log-1", 2, month))
		began, stop = time.Now(), pauses(f)
		l, err := f.Load("log-1", 2, uint64(n))
		noError(b, "Load", err)
		generate(n, now, func(part []revocation.Entry) {
			entries, err := revocation.ReadEntries(revocation.AppendEntries(nil, part))
			noError(b, "ReadEntries", err)
			l.Add(entries)
		})
		noError(b, "Commit", l.Commit())
		report(fmt.Sprintf("%d loaded", n), began, stop)
		b.ReportMetric(time.Since(began).Seconds(), "load-s")
		b.ReportMetric(float64(resident()-base)/float64(n), "B/entry")

		began, stop = time.Now(), pauses(f)
		s := f.current.Load().set
		s.mu.Lock()
		s.added += s.view.Load().filter.capacity
		s.mu.Unlock()
		noError(b, "renew", s.renew())
		report("filter rebuilt", began, stop)

		began, stop = time.Now(), pauses(f)
		for i := range 200 {
			apply(b, f, change(uint64(3+i), strconv.Itoa(i)))
		}
		report("200 changes applied", began, stop)
		if s := f.Status(); s.Entries != n+200 {
			b.Fatalf("%+v, want %d entries", s, n+200)
		}
		noError(b, "Close", f.Close())

		f = nil
		debug.FreeOSMemory()
		began = time.Now()
		f = open(b, Options{Dir: dir})
		b.ReportMetric(time.Since(began).Seconds(), "restart-s")
		b.Logf("%-28s %8v", "restarted from disk", time.Since(began).Round(time.Millisecond))
		if s := f.Status(); s.Entries != n+200 || !s.Ready {
			b.Fatalf("%+v, want ready with %d entries", s, n+200)
		}
		b.ReportMetric(float64(resident()-base)/float64(n), "B/entry-restarted")
		began = time.Now()
		f.mu.Lock()
		f.dir.written = 1 << 40
		f.mu.Unlock()
		f.compact()
		b.Logf("%-28s %8v", "snapshot in order", time.Since(began).Round(time.Millisecond))
		noError(b, "Close", f.Close())
		f = nil
		debug.FreeOSMemory()
		began = time.Now()
		f = open(b, Options{Dir: dir})
		b.ReportMetric(time.Since(began).Seconds(), "restart-in-order-s")
		began, stop = time.Now(), pauses(f)
		f.current.Load().set.sweep(revocation.MicrosOf(now.Add(800 * time.Hour)))
		runtime.GC()
		report("all expired", began, stop)
		if s := f.Status(); s.Entries != 0 {
			b.Fatalf("%+v, want no entries", s)
		}
		noError(b, "Close", f.Close())
	}
}

// BenchmarkLookup takes the look-up of a token that no entry denies, and of one
// that an entry denies.
func BenchmarkLookup(b *testing.B) {
	n := entriesWanted()
	f := open(b, Options{})
	defer f.Close()
	noError(b, "Greet", f.Greet("log-1", 1, month))
	l, err := f.Load("log-1", 1, uint64(n))
	noError(b, "Load", err)
	generate(n, time.Now(), func(part []revocation.Entry) { l.Add(slices.Clone(part)) })
	l.Add([]revocation.Entry{subject(9, "alice")})
	noError(b, "Commit", l.Commit())
	for name, sub := range map[string]string{"allowed": "bob", "revoked": "alice"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				t := &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": sub, "jti": "x"}}
				now := time.Now()
				for pb.Next() {
					if v, err := f.Lookup(t, now); err != nil || v.Revoked != (sub == "alice") {
						b.Fatalf("%+v, %v; want revoked: %v", v, err, sub == "alice")
					}
				}
			})
		})
	}
}

// BenchmarkNotRevoked takes the look-up of tokens that no entry denies, in sets of several
// sizes: of a token that comes for the first time, and of a token that the caller has
// looked up before. It reports the memory of the set for each entry.
//
//	go test -run '^$' -bench NotRevoked -benchmem ./revocation/replica
//	RESCIND_ENTRIES=10000000 go test -run '^$' -bench NotRevoked -benchmem ./revocation/replica
func BenchmarkNotRevoked(b *testing.B) {
	sizes := []int{10_000, 1_000_000}
	if n := entriesWanted(); n > sizes[1] {
		sizes = append(sizes, n)
	}
	tokens := make([]*revocation.Token, 4096) // so many that the filter is not in the processor's nearest cache
	for i := range tokens {
		tokens[i] = &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "bob-" + strconv.Itoa(i), "jti": "t-" + strconv.Itoa(i)}}
	}
	for _, n := range sizes {
		base := resident()
		f := open(b, Options{})
		noError(b, "Greet", f.Greet("log-1", 1, month))
		l, err := f.Load("log-1", 1, uint64(n))
		noError(b, "Load", err)
		generate(n, time.Now(), func(part []revocation.Entry) { l.Add(slices.Clone(part)) })
		noError(b, "Commit", l.Commit())
		each := float64(resident()-base) / float64(n)
		again := make([]*Again, len(tokens))
		for i, t := range tokens {
			again[i] = NewAgain(t)
		}
		now := time.Now()
		for name, look := range map[string]func(i int) (Verdict, error){
			"first": func(i int) (Verdict, error) { return f.Lookup(tokens[i], now) },
			"again": func(i int) (Verdict, error) { return f.LookupAgain(again[i], now) },
		} {
			b.Run(fmt.Sprintf("%s/entries=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if v, err := look(i % len(tokens)); err != nil || v.Revoked {
						b.Fatalf("%+v, %v; want not revoked", v, err)
					}
					i++
				}
				b.ReportMetric(each, "B/entry")
			})
		}
		noError(b, "Close", f.Close())
	}
}

// A token that no entry denies takes no memory to look up, whether it comes for the
// first time or again.
func TestLookUpsAllocateNothing(t *testing.T) {
	f := open(t, Options{})
	defer f.Close()
	load(t, f, "log-1", 1, "alice")
	token := &revocation.Token{Issuer: idp, Claims: map[string]any{"sub": "bob", "jti": "x"}}
	again, now := NewAgain(token), time.Now()
	for name, look := range map[string]func() (Verdict, error){
		"first": func() (Verdict, error) { return f.Lookup(token, now) },
		"again": func() (Verdict, error) { return f.LookupAgain(again, now) },
	} {
		n := testing.AllocsPerRun(1000, func() {
			if v, err := look(); err != nil || v.Revoked {
				t.Fatalf("%s: %+v, %v; want not revoked", name, v, err)
			}
		})
		if n != 0 {
			t.Errorf("%s: a look-up takes %v allocations, want 0", name, n)
		}
	}
}

// BenchmarkLongRevision takes the time until a revision of 100,000 entries is in
// force and on disk.
//
//	go test -run '^$' -bench LongRevision -benchtime 10x ./revocation/replica
func BenchmarkLongRevision(b *testing.B) {
	f := open(b, Options{Dir: b.TempDir()})
	defer f.Close()
	load(b, f, "log-1", 1)
	revision := uint64(1)
	for b.Loop() {
		b.StopTimer()
		revision++
		c := revocation.Change{Revision: revision}
		generate(100_000, time.Now(), func(part []revocation.Entry) {
			for _, e := range part {
				e.Digest = digestOf(binary.BigEndian.AppendUint64(e.Digest[:8], revision))
				e.ID.Revision = revision
				e.ID.Index = uint32(len(c.Added))
				c.Added = append(c.Added, e)
			}
		})
		b.StartTimer()
		apply(b, f, c)
	}
}
