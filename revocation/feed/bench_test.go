package feed

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/replica"
	"rescind/test/eventually"
)

// The figures of the feed, over loopback, followers and server in one process:
//
//	go test -run '^$' -bench Propagation -benchtime 20000x ./revocation/feed
//	go test -run '^$' -bench BehindALongRevision -benchtime 15x ./revocation/feed
//	RESCIND_ENTRIES=10000000 go test -run '^$' -bench Snapshot -benchtime 1x ./revocation/feed

// BenchmarkPropagation makes 1,000 revisions a second, and takes the time from
// each until all 16 followers have acknowledged it.
func BenchmarkPropagation(b *testing.B) {
	const followers, every = 16, time.Millisecond
	log := newLog("log-1")
	s := serve(b, log, ServerOptions{})
	for i := range followers {
		o := options(s.addr)
		o.Name = fmt.Sprintf("replica-%02d", i)
		following(b, openFollower(b), o)
	}
	eventually.True(b, "all follow", func() bool { return len(s.Replicas()) == followers })
	everywhere(b, s.Server, log.revoke("first"), followers)

	took := make([]time.Duration, b.N)
	var waiting sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	for i := range b.N {
		time.Sleep(time.Until(began.Add(time.Duration(i) * every)))
		at := time.Now()
		revision := log.revoke(strconv.Itoa(i))
		waiting.Go(func() {
			a := s.WaitApplied(context.Background(), Wanted{Revision: revision})
			took[i] = time.Since(at)
			if a.Applied != followers {
				b.Errorf("revision %d: got %+v, want it applied by %d replicas", revision, a, followers)
			}
		})
	}
	waiting.Wait()
	b.StopTimer()
	slices.Sort(took)
	for name, part := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(float64(took[int(part*float64(b.N-1))].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "revisions/s")
}

// BenchmarkSnapshot brings a new follower up to date with a large log.
func BenchmarkSnapshot(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv("RESCIND_ENTRIES"))
	n = max(n, 100_000)
	log := newLog("log-1")
	subs := make([]string, 0, 10_000)
	for i := range n {
		subs = append(subs, strconv.Itoa(i))
		if len(subs) == cap(subs) || i == n-1 {
			log.revoke(subs...)
			subs = subs[:0]
		}
	}
	log.changes = make([]revocation.Change, len(log.changes)) // they are not asked for
	s := serve(b, log, ServerOptions{})
	for b.Loop() {
		f := openFollower(b)
		stop := following(b, f, options(s.addr))
		spin(b, at(f, log.Revision()))
		stop()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkBehindALongRevision takes the time of one revocation that is accepted
// right after a revision of 100,000 entries of another issuer: until every
// replica denies its token, and until every replica has acknowledged it. The
// replicas keep their set on disk.
func BenchmarkBehindALongRevision(b *testing.B) {
	const long, followers = 100_000, 3
	log := newLog("log-1")
	s := serve(b, log, ServerOptions{})
	var all []*replica.Follower
	for i := range followers {
		f, err := replica.Open(replica.Options{Dir: b.TempDir()})
		if err != nil {
			b.Fatalf("opening a set on disk: got %v, want no error", err)
		}
		b.Cleanup(func() { f.Close() })
		o := options(s.addr)
		o.Name = fmt.Sprint("replica-", i)
		following(b, f, o)
		all = append(all, f)
	}
	eventually.True(b, "all follow", func() bool { return len(s.Replicas()) == followers })
	everywhere(b, s.Server, log.revoke("first"), followers)
	var denied, acknowledged []time.Duration
	for round := range b.N {
		entries := make([]revocation.Entry, long)
		for i := range entries {
			entries[i] = entryOf(fmt.Sprint(round, "-", i), revocation.ID{Revision: log.Revision() + 1, Index: uint32(i)})
		}
		subject := fmt.Sprint("other-", round)
		other := entryOf(subject, revocation.ID{Revision: log.Revision() + 2})
		log.mu.Lock()
		for _, e := range append(entries, other) {
			log.standing[e.ID] = e
			log.census.Add(e.ExpiresAt, 1)
		}
		log.append(revocation.Change{Revision: log.revision + 1, Added: entries})
		last := log.append(revocation.Change{Revision: log.revision + 1, Added: []revocation.Entry{other}})
		log.mu.Unlock()
		at := time.Now()
		spin(b, func() bool {
			for _, f := range all {
				if !denies(b, f, subject) {
					return false
				}
			}
			return true
		})
		denied = append(denied, time.Since(at))
		everywhere(b, s.Server, last, followers)
		acknowledged = append(acknowledged, time.Since(at))
		for _, f := range all {
			spin(b, func() bool { _, r := f.Position(); return r >= last })
		}
		time.Sleep(time.Second) // for the maintenance of the sets
	}
	slices.Sort(denied)
	slices.Sort(acknowledged)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(denied[len(denied)/2]), "denied-p50-ms")
	b.ReportMetric(ms(denied[len(denied)-1]), "denied-max-ms")
	b.ReportMetric(ms(acknowledged[len(acknowledged)/2]), "acknowledged-p50-ms")
	b.ReportMetric(ms(acknowledged[len(acknowledged)-1]), "acknowledged-max-ms")
}

// spin waits for a condition whose time the benchmark measures, so it polls more
// often than package eventually does.
func spin(b *testing.B, holds func() bool) {
	b.Helper()
	for !holds() {
		if b.Context().Err() != nil {
			b.Fatal("the benchmark ended before its condition held, want it to hold")
		}
		time.Sleep(100 * time.Microsecond)
	}
}
