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
)

// The figures of the feed, over loopback, followers and server in one process:
//
//	go test -run '^$' -bench Propagation -benchtime 20000x ./revocation/feed
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
	until(b, "all follow", func() bool { return len(s.Replicas()) == followers })
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
				b.Errorf("%+v", a)
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
		until(b, "the snapshot", at(f, log.Revision()))
		stop()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkBehindALongRevision takes the time that a revocation waits which
// comes right behind a revision of 100,000 entries, until a follower with a disk
// has acknowledged it.
//
//	go test -run '^$' -bench BehindALongRevision -benchtime 20x ./revocation/feed
func BenchmarkBehindALongRevision(b *testing.B) {
	log := newLog("log-1")
	s := serve(b, log, ServerOptions{})
	f, err := replica.Open(replica.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	defer following(b, f, options(s.addr))()
	until(b, "it follows", func() bool { return len(s.Replicas()) == 1 })
	everywhere(b, s.Server, log.revoke("first"), 1)
	long := make([]string, 100_000)
	var took []time.Duration
	for n := range b.N {
		for i := range long {
			long[i] = fmt.Sprintf("%d-%d", n, i)
		}
		b.StopTimer()
		log.revoke(long...) // includes the time that this takes in the source
		at := time.Now()
		b.StartTimer()
		everywhere(b, s.Server, log.revoke(fmt.Sprint("behind-", n)), 1)
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "max-ms")
}
