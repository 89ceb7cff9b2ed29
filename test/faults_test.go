package test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rescind/envoy"
	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// The real binary under load and faults. In every test no acknowledged change is
// lost, no revoked token is allowed and no restored token stays denied: faultRig
// holds the model. The short form runs with all tests. The long form is
//
//	RESCIND_LONG=1 go test -run Faults -timeout 60m -v ./test

// The control endpoint is killed (SIGKILL) fifteen times in a row at a random
// moment, and the load goes on. Once the control endpoint is ready again, every
// acknowledged revocation is in force on every replica. The long form demands it
// within 1.5 s.
func TestFaultsControlIsKilled(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{}))
	var all latencies
	for range rounds(15, 200) {
		stop := g.load(8)
		g.goesOn("before the kill", 20)
		g.watched(2)
		time.Sleep(rand.N(100 * time.Millisecond))
		g.Control[0].Kill()
		revoked := g.mintRevoked(t)
		g.restart(0)
		took := g.inForce(t, revoked)
		all = append(all, took)
		if longForm && took > 1500*time.Millisecond {
			t.Errorf("wanted %d acknowledged revocations in force within 1.5s of readiness, it took %v", len(revoked), took)
		}
		stop()
		g.verify("after a kill")
	}
	t.Logf("from readiness to in force on every replica: %v", all)
	g.report()
}

// mintRevoked returns tokens of the newest acknowledged revocations, at most 500.
func (g *faultRig) mintRevoked(t *testing.T) map[*tokenModel]string {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	tokens := map[*tokenModel]string{}
	for _, f := range g.tokens[max(0, len(g.tokens)-500):] {
		if f.revoked && !f.doubtful {
			tokens[f] = minted(t, g.Stack, map[string]any{"jti": f.jti})
		}
	}
	if len(tokens) == 0 {
		t.Fatal("wanted acknowledged revocations before the kill, there is none")
	}
	return tokens
}

// inForce waits until every replica follows again and acknowledges the newest
// revocation that the control endpoint had at its readiness, and returns the time
// that this took. Then every replica must deny each of these tokens at once: an
// acknowledgement means that the revocation is in force. The Checks are not part of
// the time. A token that its writer has restored meanwhile is left out.
func (g *faultRig) inForce(t *testing.T, revoked map[*tokenModel]string) time.Duration {
	t.Helper()
	began := time.Now()
	newest := g.newestRevocation(t)
	eventually.Succeeds(t, fmt.Sprintf("every replica follows again and acknowledges revision %d", newest), func() error {
		var list struct {
			Items []struct {
				Name      string
				Connected bool
				Revision  uint64
			}
		}
		a, err := g.AdminAt(t.Context(), 0, http.MethodGet, "/v1/replicas", nil, &list)
		current := 0
		for _, item := range list.Items {
			if item.Connected && item.Revision >= newest {
				current++
			}
		}
		if err == nil && current != len(g.replicas) {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
	took := time.Since(began)
	for i, replica := range g.replicas {
		for f, token := range revoked {
			o, err := replica.Check(t.Context(), envoy.Question{Token: token})
			g.mu.Lock()
			still := f.revoked && !f.doubtful
			g.mu.Unlock()
			if still && (err != nil || o.Reason() != "revoked") {
				t.Errorf("%s after it acknowledged revision %d: wanted revoked about %s, got %q, %v", envoytest.ReplicaName(i), newest, f.jti, o.Reason(), err)
			}
		}
	}
	return took
}

// newestRevocation returns the revision of the newest revocation of the control
// endpoint.
func (g *faultRig) newestRevocation(t *testing.T) uint64 {
	t.Helper()
	var list struct{ Items []struct{ Revision uint64 } }
	a, err := g.AdminAt(t.Context(), 0, http.MethodGet, "/v1/revocations?limit=1", nil, &list)
	if err != nil || a.Status != http.StatusOK || len(list.Items) != 1 {
		t.Fatalf("the newest revocation: wanted 200 with one item, got %d %s %v", a.Status, a.Body, err)
	}
	return list.Items[0].Revision
}

// One of three control nodes is killed, every third time the leader.
func TestFaultsNodesAreKilled(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{ControlNodes: 3}))
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

// The leading control node stands still (SIGSTOP) and goes on.
func TestFaultsNodesStandStill(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{ControlNodes: 3}))
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

// Two of three control nodes stand still. The third keeps its revocations in
// force, and its replicas count as stale.
func TestFaultsTwoNodesStandStill(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{ControlNodes: 3, Revocation: "  max_staleness: 8s\n  on_stale: deny\n"}))
	stop := g.load(2)
	g.goesOn("before", 20)
	stop()
	g.settle("before")
	g.barrier("before")
	becomes := func(jti, want string) {
		t.Helper()
		for i := range g.replicas {
			eventually.Succeeds(t, fmt.Sprintf("%s decides %q about %s", envoytest.ReplicaName(i), want, jti), func() error {
				got, err := g.ask(t.Context(), i, jti)
				if err == nil && got != want {
					err = fmt.Errorf("the reason is %q", got)
				}
				return err
			})
		}
	}
	revoked := &tokenModel{jti: "revoked-before"}
	if !g.revoke(t.Context(), revoked, true) {
		t.Fatalf("wanted the revocation of %s to be acknowledged, it was not", revoked.jti)
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
			t.Fatalf("without a majority: wanted status 503 and no acceptance, got %d %s %v", a.Status, a.Body, err)
		}
	}
	for _, i := range []int{1, 2} {
		g.resume(g.Control[i])
	}
	becomes("some-token", "ok")
	becomes(revoked.jti, "revoked")
}

// A replica stands still. The other one goes on, and the answer names the first as
// pending.
func TestFaultsReplicaStandsStill(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{}))
	for range rounds(1, 50) {
		stop := g.load(4)
		g.goesOn("before", 100)
		g.watched(10)
		g.pause(g.Replicas[0])
		f := &tokenModel{jti: "while-it-stands-" + time.Now().String()}
		if !g.revoke(t.Context(), f, true) || f.everywhere {
			t.Fatalf("while a replica stands still: wanted an acknowledgement that names it as pending, got acknowledged %v, everywhere %v", !f.doubtful, f.everywhere)
		}
		if got, err := g.ask(t.Context(), 1, f.jti); got != "revoked" {
			t.Errorf("wanted revoked from the other replica about %s, got %q, %v", f.jti, got, err)
		}
		g.resume(g.Replicas[0])
		stop()
		g.verify("after a replica stood still")
	}
	g.report()
}

// A replica is killed and started again while writes go on.
func TestFaultsReplicaIsRestarted(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{}))
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

// The feed breaks after a random number of bytes, again and again.
func TestFaultsFeedIsCut(t *testing.T) {
	t.Parallel()
	var cuts *flakyProxy
	g := newFaultRig(t, start(t, envoytest.Options{Feeds: func(addrs []string) ([]string, error) {
		cuts = newFlakyProxy(t, addrs[0])
		return []string{cuts.addr}, nil
	}}))
	stop := g.load(4)
	g.watched(10)
	cuts.begin()
	eventually.TrueWithin(t, 5*time.Minute, fmt.Sprintf("the feed was cut %d times", rounds(8, 100)), func() bool { return cuts.cuts.Load() >= int64(rounds(8, 100)) })
	n := cuts.end()
	g.goesOn("after the cuts", 50)
	stop()
	g.verify("after the cuts")
	t.Logf("%d cuts", n)
	g.report()
}

// The log lives in a NATS that the operator runs, and one of the two control nodes
// that write it is killed.
func TestFaultsWithANATSElsewhere(t *testing.T) {
	t.Parallel()
	nats, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(10 * time.Second) {
		t.Fatal("wanted NATS to be ready within 10s, it was not")
	}
	g := newFaultRig(t, start(t, envoytest.Options{ControlNodes: 2, NATS: nats.ClientURL()}))
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

func (g *faultRig) pause(p *envoytest.Process) {
	g.t.Helper()
	if err := p.Pause(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *faultRig) resume(p *envoytest.Process) {
	g.t.Helper()
	if err := p.Resume(); err != nil {
		g.t.Fatal(err)
	}
}

// report logs the size of the test.
func (g *faultRig) report() {
	g.t.Logf("%d tokens, %d changes acknowledged, %d questions asked meanwhile", len(g.tokens), g.accepted.Load(), g.asked.Load())
}
