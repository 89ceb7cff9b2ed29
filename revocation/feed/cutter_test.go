package feed

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// cutter is a TCP proxy that cuts each connection after a random number of
// bytes, mostly few. Every eighth it leaves alone.
func cutter(t testing.TB, to string, seed uint64) (addr string, cuts *atomic.Int64) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
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
