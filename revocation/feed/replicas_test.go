package feed

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rescind/test/eventually"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func applied(s *Server, revision uint64) Applied {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.WaitApplied(ctx, Wanted{Revision: revision})
}

func TestEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		log.revoke("alice")
		s, net := serveInMemory(t, log, ServerOptions{})
		if a := applied(s, 1); a.Total != 0 || a.Pending == nil {
			t.Errorf("without replicas: got %+v, want 0 in total and an empty Pending", a)
		}

		a, hangUp := net.call(t, newHello("replica-a", "log-1", 1))
		b, _ := net.call(t, newHello("replica-b", "log-1", 0))
		a.receive()
		b.receive()
		synctest.Wait()
		if got := applied(s, 1); got.Applied != 0 || got.Total != 2 || len(got.Pending) != 2 {
			t.Errorf("after the hellos: got %+v, want both pending, because a hello confirms nothing", got)
		}
		a.ack(1)
		synctest.Wait()
		if got := applied(s, 1); got.Applied != 1 || got.Total != 2 || !slices.Equal(got.Pending, []string{"replica-b"}) {
			t.Errorf("with replica-b behind: got %+v, want 1 of 2 applied and replica-b pending", got)
		}

		// The last acknowledgement releases the caller, and no earlier one.
		waited := make(chan Applied, 1)
		go func() { waited <- s.WaitApplied(t.Context(), Wanted{Revision: 1}) }()
		synctest.Wait()
		select {
		case got := <-waited:
			t.Fatalf("before the last acknowledgement: the caller got %+v, want it to wait", got)
		default:
		}
		b.ack(1)
		if got := <-waited; got.Applied != 2 || got.Total != 2 || len(got.Pending) != 0 {
			t.Errorf("after the last acknowledgement: got %+v, want 2 of 2 applied", got)
		}

		// A lost replica counts for a minute.
		hangUp()
		synctest.Wait()
		log.revoke("bob")
		b.ack(2)
		synctest.Wait()
		list := s.Replicas()
		if len(list) != 2 || list[0].Name != "replica-a" || list[0].Connected || list[0].Behind != 1 || !list[1].Connected || list[1].Behind != 0 {
			t.Errorf("with replica-a lost: replicas %+v, want replica-a not connected and 1 behind, the other connected and current", list)
		}
		began := time.Now()
		if got := s.WaitApplied(t.Context(), Wanted{Revision: 2}); got.Applied != 1 || got.Total != 1 {
			t.Errorf("once replica-a is forgotten: got %+v, want 1 of 1 applied", got)
		}
		if d := time.Since(began); d != time.Minute {
			t.Errorf("replica-a counted for %v after its loss, want a minute", d)
		}
	})
}

func TestALostReplicaThatComesBackCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{})
		h := newHello("replica-a", "log-1", 0)
		for range 3 { // each time the minute begins anew
			r, hangUp := net.call(t, h)
			r.receive()
			hangUp()
			time.Sleep(45 * time.Second)
			if n := len(s.Replicas()); n != 1 {
				t.Fatalf("45s after a loss: got %d replicas, want 1", n)
			}
		}
		time.Sleep(16 * time.Second)
		if n := len(s.Replicas()); n != 0 {
			t.Errorf("a minute after the last loss: got %d replicas, want none", n)
		}
	})
}

func TestOneNameTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		log := newLog("log-1")
		log.revoke("alice")
		s, net := serveInMemory(t, log, ServerOptions{Logger: logged.logger()})

		// the same process again: the newer stream replaces the older
		h := newHello("replica-a", "log-1", 1)
		older, _ := net.call(t, h)
		older.receive()
		older.ack(1)
		synctest.Wait()
		newer, hangUp := net.call(t, h)
		newer.receive()
		if err := older.end(); status.Code(err) != codes.Aborted {
			t.Errorf("the older stream of one process: got %v, want Aborted", err)
		}
		synctest.Wait()
		if list := s.Replicas(); len(list) != 1 || !list[0].Connected {
			t.Errorf("two streams of one process: replicas %+v, want one connected", list)
		}

		// another process that is given the name: both decide, both count
		other, _ := net.call(t, newHello("replica-a", "log-1", 0))
		other.receive()
		if got := applied(s, 1); got.Total != 2 || !slices.Equal(got.Pending, []string{"replica-a"}) {
			t.Errorf("two processes of one name: got %+v, want 2 in total and replica-a pending", got)
		}
		if !strings.Contains(logged.text(), "two replicas have one name") {
			t.Errorf("two processes of one name: log lines %q, want a warning about the name", logged.all)
		}

		// a process that is started again takes the place of the one that is lost
		hangUp()
		synctest.Wait()
		if n := len(s.Replicas()); n != 2 {
			t.Errorf("after one of two processes is lost: got %d replicas, want 2", n)
		}
		again, _ := net.call(t, newHello("replica-a", "log-1", 1))
		again.receive()
		if list := s.Replicas(); len(list) != 2 || !list[0].Connected || !list[1].Connected {
			t.Errorf("after the restart of the lost process: replicas %+v, want 2 connected", list)
		}
	})
}

func TestOnAppliedIsToldEachRevisionOnce(t *testing.T) {
	var mu sync.Mutex
	told := make(map[string][]uint64)
	log := newLog("log-1")
	log.revoke("before")
	s := serve(t, log, ServerOptions{OnApplied: func(name string, revision uint64) {
		mu.Lock()
		defer mu.Unlock()
		told[name] = append(told[name], revision)
	}})
	a, b := call(t, s.addr, newHello("a", "", 0)), call(t, s.addr, newHello("b", "log-1", 1))
	for range 5 {
		log.revoke("user")
	}
	a.receive()
	b.receive()
	a.ack(1) // its snapshot: nobody waited for it
	a.ack(3)
	a.ack(3)
	a.ack(2)
	a.ack(6)
	b.ack(6)
	want := map[string][]uint64{"a": {2, 3, 4, 5, 6}, "b": {2, 3, 4, 5, 6}}
	eventually.True(t, "both are told of", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Equal(told["a"], want["a"]) && slices.Equal(told["b"], want["b"])
	})
}

// TestWaitersAgainstAModel shows that each of many waiters is released exactly when
// the last replica has its revision.
func TestWaitersAgainstAModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplicas(slog.New(slog.DiscardHandler), tokens(), newKnowledge(time.Hour))
		var peers []*replicaState
		streams := make(map[*replicaState]*session)
		for i := range 5 {
			ss := &session{}
			p, err := r.join(arrival{identity: identity{credential: "replicas", name: fmt.Sprint(i)}, known: true}, ss)
			if err != nil {
				t.Fatalf("joining as replica %d: got %v, want no error", i, err)
			}
			peers = append(peers, p)
			streams[p] = ss
		}
		have := make([]uint64, len(peers))
		waiters := make(map[uint64]*waiter)
		for revision := uint64(1); revision <= 50; revision++ {
			waiters[revision] = r.wait(Wanted{Revision: revision})
		}
		for step := range 400 {
			i := (step * 7) % len(peers)
			have[i] += uint64(step % 3)
			r.ack(peers[i], streams[peers[i]], newAck(have[i]))
			floor := slices.Min(have)
			for revision, w := range waiters {
				select {
				case <-w.done:
					if revision > floor {
						t.Fatalf("step %d: the waiter for revision %d is released with a replica at %d, want it to wait", step, revision, floor)
					}
				default:
					if revision <= floor {
						t.Fatalf("step %d: the waiter for revision %d waits with all replicas at %d, want it released", step, revision, floor)
					}
				}
			}
		}
		for revision, w := range waiters {
			if got := r.giveUp(w); got.Applied != 5 || got.Total != 5 {
				t.Errorf("revision %d: got %+v, want 5 of 5 applied", revision, got)
			}
		}
		if len(r.waiters) != 0 {
			t.Errorf("after the last waiter: got %d waiters left, want none", len(r.waiters))
		}
	})
}
