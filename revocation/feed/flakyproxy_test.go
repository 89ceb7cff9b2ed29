package feed

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/replica"
	"rescind/test/eventually"
)

// flakyProxy starts a TCP proxy that cuts each connection after a random number of
// bytes, mostly few. Every eighth it leaves alone.
func flakyProxy(t testing.TB, to string, seed uint64) (addr string, cuts *atomic.Int64) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	closed := false
	cuts = new(atomic.Int64)
	keep := func(c net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		if closed {
			c.Close()
			return false
		}
		open[c] = true
		return true
	}
	r := rand.New(rand.NewPCG(seed, 2))
	running.Go(func() {
		for n := 1; ; n++ {
			in, err := lis.Accept()
			if err != nil {
				return
			}
			limit := int64(1) << 40
			if n%8 != 0 {
				limit = r.Int64N(1 << (6 + r.IntN(14)))
			}
			running.Go(func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil || !keep(in) || !keep(out) {
					return
				}
				defer out.Close()
				running.Go(func() {
					io.Copy(out, in)
					out.Close()
				})
				if _, err := io.CopyN(in, out, limit); err == nil {
					cuts.Add(1)
				}
			})
		}
	})
	t.Cleanup(func() {
		lis.Close()
		mu.Lock()
		closed = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return lis.Addr().String(), cuts
}

// TestCutAtRandom shows that the set of a replica is the set of one revision at
// every cut of its stream, and reaches the end of the log.
func TestCutAtRandom(t *testing.T) {
	log := newLog("log-1")
	log.remember = 40
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	log.revoke("canary") // is never restored
	delete(log.of, "canary")
	log.grow(r, 300)
	s := serve(t, log, ServerOptions{Heartbeat: 20 * time.Millisecond})
	proxy, cuts := flakyProxy(t, s.addr, seed)
	f := openFollower(t)
	stop := following(t, f, options(proxy))

	last := uint64(0)
	for round := range 60 {
		log.grow(r, 1+r.IntN(30))
		if round%10 == 9 {
			log.grow(r, 100) // too far behind for changes
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		if !f.Status().Ready {
			continue
		}
		_, revision := f.Position()
		if revision < last {
			t.Fatalf("round %d (seed %d): revision %d after revision %d, want it not to fall", round, seed, revision, last)
		}
		last = revision
		if !denies(t, f, "canary") {
			t.Fatalf("round %d (seed %d): the canary is allowed at revision %d, want it denied at every revision", round, seed, revision)
		}
	}
	eventually.True(t, "the end of the log", at(f, log.Revision()))
	stop()
	compare(t, log, f)
	t.Logf("%d cuts, %d snapshots begun", cuts.Load(), log.taken())
	if cuts.Load() == 0 { // the eighth at the latest is left alone
		t.Errorf("seed %d: got no cut, want one at least", seed)
	}
}

// compare holds a follower that has stopped against its log.
func compare(t *testing.T, log *memLog, f *replica.Follower) {
	t.Helper()
	id, revision := f.Position()
	if id != log.id {
		t.Fatalf("the follower holds log %q, want %q", id, log.id)
	}
	want := log.revokedAt(revision)
	if got := f.Status().Entries; got != len(want) {
		t.Errorf("at revision %d: got %d entries, want %d", revision, got, len(want))
	}
	digests := make(map[revocation.Digest]bool)
	for _, e := range want {
		digests[e.Digest] = true
	}
	revoked := 0
	for i := range 20_000 { // of the subjects that grow takes from
		sub := fmt.Sprintf("user-%d", i)
		want := digests[entryOf(sub, revocation.ID{}).Digest]
		if want {
			revoked++
		}
		if want != denies(t, f, sub) {
			t.Errorf("%s at revision %d: denied %v, want %v", sub, revision, !want, want)
		}
	}
	if revoked == 0 {
		t.Errorf("at revision %d: got no revoked subject to compare, want one at least", revision)
	}
}
