package feed

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rescind/test/eventually"

	"github.com/go-json-experiment/json"
)

// bus carries the messages of nodes to all other subscribed nodes, as NATS does.
type bus struct {
	mu        sync.Mutex
	receivers map[string]func(string, []byte)
}

// on is a node's place on the bus.
type on struct {
	*bus
	node string
}

func (b on) Broadcast(message []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for node, f := range b.receivers {
		if node != b.node {
			f(b.node, message)
		}
	}
	return nil
}

func (b on) Subscribe(f func(string, []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.receivers[b.node] = f
	return nil
}

func (b *bus) cut(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.receivers, node)
}

// TestEveryReplicaOfEveryNode shows that "everywhere" at one node includes the
// replicas of the other nodes.
func TestEveryReplicaOfEveryNode(t *testing.T) {
	log := newLog("log-1")
	wire := &bus{receivers: map[string]func(string, []byte){}}
	var told sync.Map
	nodes := []*control{
		serve(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1, OnApplied: func(name string, revision uint64) { told.Store(name, revision) }}),
		serve(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1}),
	}
	for i, name := range []string{"replica-a", "replica-b"} {
		o := options(nodes[i].addr)
		o.Name = name
		following(t, openFollower(t), o)
	}
	revision := log.revoke("alice")
	for _, n := range nodes {
		eventually.True(t, "both nodes to know both replicas", func() bool { return len(n.Replicas()) == 2 })
		everywhere(t, n.Server, revision, 2)
	}
	for i := range 50 {
		everywhere(t, nodes[i%2].Server, log.revoke("bob"), 2)
	}
	eventually.True(t, "the first node to be told of the second's replica", func() bool {
		r, ok := told.Load("replica-b")
		return ok && r == log.Revision()
	})

	// One that does not keep up holds up both.
	slow := call(t, nodes[1].addr, newHello("replica-c", "log-1", log.Revision()))
	slow.receive()
	eventually.True(t, "both nodes to know the slow one", func() bool { return len(nodes[0].Replicas()) == 3 })
	revision = log.revoke("carol")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if a := nodes[0].WaitApplied(ctx, Wanted{Revision: revision}); a.Total != 3 || !slices.Equal(a.Pending, []string{"replica-c"}) {
		t.Errorf("with a slow replica at the other node: got %+v, want 3 in total and replica-c pending", a)
	}
	slow.ack(revision)
	everywhere(t, nodes[0].Server, revision, 3)
}

// A replica that moves on to another node is still one.
func TestAReplicaThatChangesItsNode(t *testing.T) {
	log := newLog("log-1")
	wire := &bus{receivers: map[string]func(string, []byte){}}
	n1 := serve(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
	n2 := serve(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
	f := openFollower(t)
	following(t, f, options(n1.addr, n2.addr))
	eventually.True(t, "it to follow", func() bool { return len(n2.Replicas()) == 1 })
	everywhere(t, n2.Server, log.revoke("alice"), 1)

	n1.stop()
	wire.cut("n1")
	eventually.True(t, "it to follow the other", func() bool { r := n2.Replicas(); return len(r) == 1 && r[0].Connected })
	everywhere(t, n2.Server, log.revoke("bob"), 1)

	// The first node comes back, and learns its replicas from the other node.
	again := serve(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
	everywhere(t, again.Server, log.revoke("carol"), 1)
	if r := again.Replicas(); len(r) != 1 || !r[0].Connected {
		t.Errorf("after the restart of the first node: replicas %+v, want one connected", r)
	}
}

func TestTheWordOfNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		log.revoke("alice")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		s, net := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		other := on{wire, "n2"}
		broadcast := func(g gossip) {
			t.Helper()
			if err := other.Broadcast(encoded(t, g)); err != nil {
				t.Fatalf("broadcasting %+v: got %v, want no error", g, err)
			}
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a := s.WaitApplied(ctx, Wanted{Revision: 1}); len(a.Pending) != 1 {
			t.Errorf("before the other node is heard: got %+v, want its replicas pending", a)
		}
		x := replicaRow{Name: "replica-x", Instance: [16]byte{1}, Connected: true, Joined: time.Now(), Revision: 1}
		broadcast(gossip{All: true, Replicas: []replicaRow{x}})
		if a := applied(s, 1); a.Applied != 1 || a.Total != 1 || len(a.Pending) != 0 {
			t.Errorf("with a replica at the other node: got %+v, want 1 of 1 applied", a)
		}

		// The same process follows here now. A late message of the other node is old.
		h := newHello("replica-x", "log-1", 1)
		h.Instance = x.Instance[:]
		time.Sleep(time.Second)
		here, _ := net.call(t, h)
		here.receive()
		synctest.Wait()
		log.revoke("bob")
		here.ack(2)
		synctest.Wait()
		lost := x
		lost.Connected = false
		for _, late := range []replicaRow{x, lost} {
			broadcast(gossip{Replicas: []replicaRow{late}})
			if a := applied(s, 2); a.Applied != 1 || a.Total != 1 {
				t.Errorf("after the late row %+v: got %+v, want 1 of 1 applied", late, a)
			}
		}

		// It goes back: the stream here is at an end.
		x.Joined, x.Revision = time.Now().Add(time.Millisecond), 2
		broadcast(gossip{All: true, Replicas: []replicaRow{x}})
		if err := here.end(); err == nil {
			t.Error("after the replica has moved back: the stream here ended without an error, want one")
		}
		if r := s.Replicas(); len(r) != 1 || !r[0].Connected || r[0].Revision != 2 {
			t.Errorf("after the replica has moved back: replicas %+v, want one connected at revision 2", r)
		}

		// The other node falls silent: its replica is lost, and counts for a
		// minute.
		began := time.Now()
		log.revoke("carol")
		if a := s.WaitApplied(t.Context(), Wanted{Revision: 3}); a.Total != 0 {
			t.Errorf("a minute after the other node fell silent: got %+v, want no replica", a)
		}
		if d := time.Since(began); d < time.Minute+nodeLost-gossipInterval || d > time.Minute+nodeLost+gossipInterval {
			t.Errorf("the replica of the silent node counted for %v, want a minute and %v, give or take %v", d, nodeLost, gossipInterval)
		}

		// A node of which nothing is heard is not waited for for ever.
		again, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n3"}, Others: 2})
		began = time.Now()
		again.WaitApplied(t.Context(), Wanted{Revision: 3})
		if d := time.Since(began); d != meetTime {
			t.Errorf("a new node waited %v for a node that is not heard, want %v", d, meetTime)
		}
	})
}

func encoded(t *testing.T, g gossip) []byte {
	t.Helper()
	b, err := json.Marshal(&g)
	if err != nil {
		t.Fatalf("encoding %+v: got %v, want no error", g, err)
	}
	return b
}
