package test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rescind/envoy/envoytest"
)

// The faults, on the real binary under load. In each nothing acknowledged is
// lost, nothing revoked is allowed and nothing restored stays denied; ground
// has the model. The short form runs with all tests; the long one is
//
//	RESCIND_LONG=1 go test -run Faults -timeout 60m -v ./test

// kill -9 of the control endpoint at a random moment.
func TestFaultsControlIsKilled(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{}))
	for range rounds(5, 200) {
		stop := g.load(8)
		g.goesOn("before", 20)
		g.watched(2)
		time.Sleep(rand.N(100 * time.Millisecond))
		g.Control[0].Kill()
		stop()
		g.restart(0)
		g.verify("after a kill")
	}
	g.report()
}

// kill -9 of one of three nodes, now and then of the one that leads.
func TestFaultsNodesAreKilled(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{ControlNodes: 3}))
	for round := range rounds(3, 40) {
		leader, err := g.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		what, node := "with a node killed", (leader+1+round%2)%3
		if round%3 == 2 {
			what, node = "with the leader killed", leader
		}
		stop := g.load(6)
		g.goesOn("before", 50)
		g.watched(5)
		g.Control[node].Kill()
		t.Logf("%s, 50 changes took %v", what, g.goesOn(what, 50).Round(time.Millisecond))
		stop()
		g.restart(node)
		g.verify(what)
	}
	g.report()
}

// SIGSTOP of the node that leads, and of all of them in turn.
func TestFaultsNodesStandStill(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{ControlNodes: 3}))
	for range rounds(1, 20) {
		leader, err := g.Leader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stop := g.load(6)
		g.goesOn("before", 50)
		g.watched(10)
		g.pause(g.Control[leader])
		t.Logf("with the leader standing still, 50 changes took %v", g.goesOn("with the leader standing still", 50).Round(time.Millisecond))
		g.resume(g.Control[leader])
		g.goesOn("with the leader going on", 50)
		stop()
		g.verify("after the leader stood still")
	}
	g.report()
}

// SIGSTOP of two nodes: what the third has stays, and it does not make its
// followers believe that they miss nothing.
func TestFaultsTwoNodesStandStill(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{ControlNodes: 3, Revocation: "  max_staleness: 8s\n  on_stale: deny\n"}))
	stop := g.load(2)
	g.goesOn("before", 20)
	stop()
	g.settle("before")
	g.barrier("before")
	becomes := func(jti, want string) {
		t.Helper()
		for i := range g.replicas {
			for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
				got, err := g.ask(t.Context(), i, jti)
				if got == want {
					break
				}
				if time.Since(begun) > time.Minute {
					t.Fatalf("%s of %s is %q for a minute, want %q (%v)", envoytest.ReplicaName(i), jti, got, want, err)
				}
			}
		}
	}
	revoked := &fate{jti: "revoked-before"}
	if !g.revoke(t.Context(), revoked, true) {
		t.Fatal("it is not acknowledged")
	}
	for _, i := range []int{1, 2} {
		g.pause(g.Control[i])
	}
	becomes("some-token", "stale")
	becomes(revoked.jti, "revoked")
	body := map[string]any{"issuer": g.Issuer.URL(), "claims": map[string]any{"jti": "x"}}
	for begun := time.Now(); ; {
		a, err := g.AdminAt(t.Context(), 0, "POST", "/v1/revocations", body, nil)
		if err == nil && a.Status == 503 {
			break
		}
		if err == nil && a.Status < 300 || time.Since(begun) > time.Minute {
			t.Fatalf("without a majority: %d %s %v", a.Status, a.Body, err)
		}
	}
	for _, i := range []int{1, 2} {
		g.resume(g.Control[i])
	}
	becomes("some-token", "ok")
	becomes(revoked.jti, "revoked")
}

// SIGSTOP of a replica: the others go on, and it is told of as pending.
func TestFaultsReplicaStandsStill(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{}))
	for range rounds(1, 50) {
		stop := g.load(4)
		g.goesOn("before", 100)
		g.watched(10)
		g.pause(g.Replicas[0])
		f := &fate{jti: "while-it-stands-" + time.Now().String()}
		if !g.revoke(t.Context(), f, true) || f.everywhere {
			t.Fatalf("revoked while a replica stands still: acknowledged %v, everywhere %v", !f.doubtful, f.everywhere)
		}
		if got, err := g.ask(t.Context(), 1, f.jti); got != "revoked" {
			t.Errorf("the other replica says %q, %v", got, err)
		}
		g.resume(g.Replicas[0])
		stop()
		g.verify("after a replica stood still")
	}
	g.report()
}

// A replica is killed and started again, over and over, while writes go on.
func TestFaultsReplicaIsRestarted(t *testing.T) {
	t.Parallel()
	g := newGround(t, start(t, envoytest.Options{}))
	stop := g.load(4)
	defer stop()
	g.goesOn("before", 20)
	for range rounds(8, 50) {
		g.Replicas[1].Kill()
		g.goesOn("with a replica gone", 10)
		if err := g.StartReplica(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if err := g.WaitReady(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		g.goesOn("with the replica back", 10)
		g.watched(2)
	}
	stop()
	g.verify("after the restarts")
	g.report()
}

// The feed is cut after a random number of bytes, again and again.
func TestFaultsFeedIsCut(t *testing.T) {
	t.Parallel()
	var cuts *cutter
	g := newGround(t, start(t, envoytest.Options{Feeds: func(addrs []string) ([]string, error) {
		cuts = newCutter(t, addrs[0])
		return []string{cuts.addr}, nil
	}}))
	stop := g.load(4)
	g.watched(10)
	cuts.begin()
	for begun := time.Now(); cuts.cuts.Load() < int64(rounds(8, 100)); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > 5*time.Minute {
			t.Fatalf("%d cuts in five minutes", cuts.cuts.Load())
		}
	}
	n := cuts.end()
	g.goesOn("after the cuts", 50)
	stop()
	g.verify("after the cuts")
	t.Logf("%d cuts", n)
	g.report()
}

// The log is in a NATS that the user runs, and one of the nodes that write it
// is killed.
func TestFaultsWithANATSElsewhere(t *testing.T) {
	t.Parallel()
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	g := newGround(t, start(t, envoytest.Options{ControlNodes: 2, NATS: nats.ClientURL()}))
	for round := range rounds(2, 20) {
		stop := g.load(4)
		g.goesOn("before", 50)
		g.watched(5)
		g.Control[round%2].Kill()
		g.goesOn("with a node killed", 50)
		stop()
		g.restart(round % 2)
		g.verify("with a node killed")
	}
	g.report()
}

func (g *ground) pause(p *envoytest.Process) {
	g.t.Helper()
	if err := p.Pause(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) resume(p *envoytest.Process) {
	g.t.Helper()
	if err := p.Resume(); err != nil {
		g.t.Fatal(err)
	}
}

// report says what the test was made of.
func (g *ground) report() {
	g.t.Logf("%d tokens, %d changes acknowledged, %d questions asked meanwhile", len(g.fates), g.accepted.Load(), g.asked.Load())
}
