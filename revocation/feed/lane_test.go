package feed

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The sessions of one connection share a lane, up to maxStreams. Nothing is left
// of a lane when its last session has left.
func TestSessionsOfOneConnectionShareALane(t *testing.T) {
	p := newPaces(tokens(), newFigures().paced)["replicas"]
	var lanes []*lane
	join := func(from string) *lane {
		l := p.join(from, time.Hour)
		lanes = append(lanes, l)
		return l
	}
	first := join("a")
	for range maxStreams - 1 {
		if join("a") != first {
			t.Fatal("another session of a connection: got another lane, want the lane of the first session")
		}
	}
	if join("b") == first {
		t.Error("a session of another connection: got the lane of the first connection, want another lane")
	}
	if join("a") == first {
		t.Errorf("session %d of a connection: got the lane of the first session, want another lane", maxStreams+1)
	}
	for _, l := range lanes {
		p.leave(l)
	}
	if len(p.lanes) != 0 || len(p.open) != 0 {
		t.Errorf("after all sessions have left: %d lanes, %d open to others; want none", len(p.lanes), len(p.open))
	}
	if join("a") == first {
		t.Error("a session after all have left: got a closed lane, want a new one")
	}
	p.leave(lanes[len(lanes)-1])
}

// A revision goes to all replicas of one connection at one time, so that the
// messages and the acknowledgements share packets. This holds also while the
// replicas wait for their turn.
func TestReplicasOfOneConnectionAreSentTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const conns = 2 * paceAtOnce / maxStreams
		log := newLog("log-1")
		_, net := serveInMemory(t, log, ServerOptions{Heartbeat: time.Hour})
		type arrival struct {
			conn int
			at   time.Duration
		}
		came := make(chan arrival, conns*maxStreams)
		var all []*raw
		var clients []int
		for c := range conns {
			conn, _ := net.connect(t)
			for i := range maxStreams {
				all = append(all, followOver(t, conn, secret, newHello(fmt.Sprintf("replica-%d-%d", c, i), "log-1", 0)))
				clients = append(clients, c)
			}
		}
		time.Sleep(time.Second) // all are connected, and the pace has recovered
		revoked := time.Now()
		for i, r := range all {
			go func() {
				for r.receive().GetChanges() == nil { // the greeting and the first heartbeat
				}
				came <- arrival{clients[i], time.Since(revoked)}
			}()
		}
		log.revoke("alice")
		times := make([][]time.Duration, conns)
		for range all {
			a := <-came
			times[a.conn] = append(times[a.conn], a.at)
		}
		late := 0
		for c, at := range times {
			if slices.Min(at) != slices.Max(at) {
				t.Errorf("connection %d: its replicas got the revision after %v to %v, want it at one time", c, slices.Min(at), slices.Max(at))
			}
			if slices.Min(at) > 0 {
				late++
			}
		}
		if want := conns - paceAtOnce/maxStreams; late != want {
			t.Errorf("%d of %d connections waited for their turn, want %d", late, conns, want)
		}
	})
}

// A replica hears a heartbeat in each interval, at whatever moment it joins the
// others of its connection, and whether or not there is anything else to send.
func TestEachReplicaOfAConnectionHearsHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{})
		conn, hangUp := net.connect(t)
		ended := make(chan string)
		began := time.Now()
		for i, pause := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
			time.Sleep(pause)
			name := fmt.Sprint("replica-", i)
			r := followOver(t, conn, secret, newHello(name, "log-1", 0))
			go func() {
				last := time.Now()
				for {
					m, err := r.Recv()
					if err != nil {
						break
					}
					if m.GetHeartbeat() == nil {
						continue
					}
					if pause := time.Since(last); pause > time.Second {
						t.Errorf("%s, %v after the start: a heartbeat came %v after the one before, want at most 1s", name, time.Since(began), pause)
					}
					last = time.Now()
				}
				if pause := time.Since(last); pause > time.Second {
					t.Errorf("%s: no heartbeat came in the last %v, want one each second", name, pause)
				}
				ended <- name
			}()
		}
		for range 30 {
			time.Sleep(130 * time.Millisecond)
			log.revoke(fmt.Sprint(time.Since(began)))
		}
		time.Sleep(2500 * time.Millisecond)
		hangUp()
		for range 3 {
			<-ended
		}
		synctest.Wait()
		if p := s.paces["replicas"]; len(p.lanes) != 0 {
			t.Errorf("after the connection has ended: %d lanes, want none", len(p.lanes))
		}
	})
}
