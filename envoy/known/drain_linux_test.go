package known

import (
	"testing"
	"testing/synctest"
	"time"
)

// written returns a server with one Envoy whose workers have answered so many requests
// each. The time of a request is its number, and the first one of the second worker is
// 10,000.
func written(t *testing.T, of [2]int, uses func([]Use)) (*Server, *connection) {
	t.Helper()
	table := newTestTable(t, 64)
	t.Cleanup(table.Close)
	r, err := newRing(len(of), 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.memory.free)
	for worker, n := range of {
		at := r.workerAt(worker)
		for i := range n {
			r.memory.store(at+workerRingSize+i*cellSize, uint64(10_000*worker+i))
		}
		r.memory.store(at+workerTail, uint64(n))
	}
	table.rings = append(table.rings, r)
	c := &connection{table: table, ring: r}
	return &Server{o: ServerOptions{Uses: uses}, connections: map[*connection]bool{c: true}, uses: make([]Use, 0, portion)}, c
}

// TestDrainIsBoundedInTime reads requests with observers that are slow. The caller beats
// between two calls, so a call must end soon. No request is lost, no worker waits for the
// other, and a connection that ends reads all of its requests.
func TestDrainIsBoundedInTime(t *testing.T) {
	for name, c := range map[string]struct {
		of    [2]int
		calls int // that read everything
	}{
		"nothing":             {[2]int{0, 0}, 1},
		"one portion":         {[2]int{portion, 0}, 1},
		"a little":            {[2]int{100, 10}, 1},
		"a full ring":         {[2]int{ringCellsOfWorker, 0}, 6},
		"one worker has more": {[2]int{ringCellsOfWorker, 10}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const slow = 4 * time.Millisecond
				seen := map[int64]int{}
				s, _ := written(t, c.of, func(uses []Use) {
					for _, u := range uses {
						seen[u.At.UnixNano()]++
					}
					time.Sleep(slow)
				})
				all := c.of[0] + c.of[1]
				for call := range c.calls {
					if call > 0 && len(seen) == all {
						t.Errorf("all requests were read in %d calls, want them in %d", call, c.calls)
					}
					began := time.Now()
					s.Drain()
					if took := time.Since(began); took > mostDraining+slow {
						t.Errorf("call %d took %v, want at most %v and a portion of %v", call, took, mostDraining, slow)
					}
					if c.of[1] > 0 && seen[10_000] != 1 {
						t.Errorf("call %d has not read the requests of the second worker", call)
					}
				}
				for number, times := range seen {
					if times != 1 {
						t.Errorf("request %d: got it %d times, want once", number, times)
					}
				}
				if len(seen) != all {
					t.Errorf("%d calls: got %d requests, want %d", c.calls, len(seen), all)
				}
			})
		})
	}
}

// TestDrainDoesNotWait calls Drain while a connection ends, which reads all of its
// requests however long that takes. The caller has to beat meanwhile.
func TestDrainDoesNotWait(t *testing.T) {
	seen := 0
	s, c := written(t, [2]int{ringCellsOfWorker, 10}, func(uses []Use) { seen += len(uses) })
	s.draining.Lock()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		s.Drain()
	}()
	select {
	case <-returned:
	case <-time.After(10 * time.Second):
		t.Error("a call while a connection ends waits for it")
	}
	if seen != 0 {
		t.Errorf("a call while a connection ends: got %d requests, want none", seen)
	}
	s.drain(c, time.Time{})
	s.draining.Unlock()
	<-returned
	if seen != ringCellsOfWorker+10 {
		t.Errorf("a connection that ends: got %d requests, want all %d", seen, ringCellsOfWorker+10)
	}
}
