package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// givesUp shows that Envoy answers for nothing any more once the replica is silent. It
// looks at a listener whose ext_authz has no server, where a 200 is the module's.
func givesUp(g *moduleRig) {
	t := g.t
	token := minted(t, g.Stack, nil)
	replica := func() *envoytest.Process { return g.Replicas[0] }
	for _, c := range []struct {
		name       string
		stop, back func() error
	}{
		{"stands still", func() error { return replica().Pause() }, func() error { return replica().Resume() }},
		{"is killed", func() error { replica().Kill(); return nil }, func() error { return g.StartReplica(t.Context(), 0) }},
	} {
		g.makeKnown(token, "/x")
		if err := c.stop(); err != nil {
			t.Fatal(err)
		}
		stopped := time.Now()
		eventually.TrueWithin(t, 5*time.Second, "a replica that "+c.name+" is given up", func() bool { return g.status(alone, "/x", token) != http.StatusOK })
		t.Logf("a replica that %s: the first denial came after %v", c.name, time.Since(stopped).Round(time.Millisecond))
		for range 20 {
			if status := g.status(alone, "/x", token); status == http.StatusOK {
				t.Fatalf("a replica that %s: the gateway has denied, and allows again", c.name)
			}
		}
		if status := g.status(inFront, "/x", token); status != http.StatusServiceUnavailable {
			t.Errorf("a replica that %s, and the shipped ext_authz: got %d, want 503", c.name, status)
		}
		if err := c.back(); err != nil {
			t.Fatal(err)
		}
	}
	g.makeKnown(token, "/x")
}

// closesBeforeItEnds shows that a replica closes its table when it is told to end, while
// it still answers the Checks of Envoy.
func closesBeforeItEnds(g *moduleRig) {
	t := g.t
	token := minted(t, g.Stack, nil)
	g.makeKnown(token, "/x")
	replica, status := g.Replicas[0], make(chan int, 1)
	go func() { status <- replica.Stop() }()
	eventually.True(t, "a replica that drains has closed its table", func() bool { return g.status(alone, "/x", token) != http.StatusOK })
	if !replica.Running() {
		t.Error("the replica has ended before its table was closed")
	}
	for running := true; running; running = replica.Running() {
		if g.status(alone, "/x", token) == http.StatusOK {
			t.Fatal("the table of a replica that drains was closed, and is open again")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if s := <-status; s != 0 {
		t.Errorf("the replica: got exit status %d, want 0", s)
	}
	if err := g.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	g.makeKnown(token, "/x")
}

// updatesOfListeners shows that the module and its connection outlive the listeners.
func updatesOfListeners(g *moduleRig) {
	t := g.t
	token, ended := minted(t, g.Stack, map[string]any{"sub": "goes-on"}), minted(t, g.Stack, map[string]any{"sub": "ended"})
	g.makeKnown(token, "/x")
	g.makeKnown(ended, "/x")
	attached := g.said("an Envoy uses the known tokens")
	kept := keep(t, g.addrs[alone])
	if status, err := kept.do(requestWith("/x", ended)); err != nil || status != http.StatusOK {
		t.Fatalf("over a kept connection: got %d, %v, want 200", status, err)
	}
	stop := hammer(func() error {
		a, err := g.getOnce(t.Context(), alone, "/x", token)
		if err == nil && a.Status != http.StatusOK {
			err = fmt.Errorf("the answer is %d", a.Status)
		}
		return err
	})
	for update := range 6 {
		g.update(update)
	}
	revoked(t, g.Stack, map[string]any{"claims": map[string]any{"sub": "ended"}})
	for range 20 {
		if status := g.status(alone, "/x", ended); status == http.StatusOK {
			t.Error("a token that was revoked during the updates is allowed")
		}
	}
	// Envoy may have closed the connection, because its listener is an old one.
	if status, err := kept.do(requestWith("/x", ended)); err == nil && status == http.StatusOK {
		t.Error("a token that was revoked during the updates is allowed over a kept connection")
	}
	g.refusesUpdate()
	sent, lost := stop()
	t.Logf("%d requests during 6 updates", sent)
	if len(lost) > 0 || sent < 20 {
		t.Errorf("during updates of the listeners: got %d of %d requests lost, %v, want none of at least 20", len(lost), sent, lost[:min(3, len(lost))])
	}
	if threads := g.threads(); threads != 1 {
		t.Errorf("Envoy has %d threads of the module, want 1", threads)
	}
	if again := g.said("an Envoy uses the known tokens"); again != attached {
		t.Errorf("Envoy has connected %d times during the updates, want that the connection is kept", again-attached)
	}
}

// update changes each listener, and waits until Envoy has taken the change over.
func (g *moduleRig) update(number int) {
	t := g.t
	t.Helper()
	for _, l := range g.now {
		connectionManager(l.(node))["stat_prefix"] = fmt.Sprint("updated-", number)
	}
	if err := g.writeListeners(); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "Envoy has taken the listeners over", func() bool {
		a, err := http.Get(g.AdminURL + "/config_dump?resource=dynamic_listeners")
		if err != nil {
			return false
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		return err == nil && strings.Count(string(text), fmt.Sprintf(`"stat_prefix": "updated-%d"`, number)) >= len(g.now)
	})
}

// refusesUpdate shows that Envoy refuses a listener whose module has a faulty
// configuration, and goes on with the one before.
func (g *moduleRig) refusesUpdate() {
	t := g.t
	t.Helper()
	const refused = "listener_manager.lds.update_rejected: "
	stats := func() string {
		a, err := http.Get(g.AdminURL + "/stats?filter=lds.update_rejected")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if text := stats(); !strings.Contains(text, refused+"0") {
		t.Fatalf("before a faulty update: got %s, want %s0", text, refused)
	}
	for i, l := range g.now {
		if l.(node)["name"] != alone {
			continue
		}
		faulty := strings.NewReplacer("uid=", "yid=").Replace(marshal(t, l))
		good := g.now[i]
		g.now[i] = json.RawMessage(faulty)
		err := g.writeListeners()
		g.now[i] = good
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually.True(t, "Envoy refuses the update", func() bool { return strings.Contains(stats(), refused+"1") })
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// threads returns how many threads of Envoy are the module's.
func (g *moduleRig) threads() (n int) {
	g.t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", g.Gateway.PID()))
	if err != nil || len(names) == 0 {
		g.t.Fatalf("the threads of Envoy: got %v, %v", names, err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == "rescind" {
			n++
		}
	}
	return n
}

// said returns how often the replica has logged a message.
func (g *moduleRig) said(message string) int {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.Dir, envoytest.ReplicaName(0)+".log"))
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.Count(string(text), `"msg":"`+message+`"`)
}

// getOnce sends a request over a connection of its own.
func (g *moduleRig) getOnce(ctx context.Context, listener, target, token string) (envoytest.Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.addrs[listener]+target, nil)
	if err != nil {
		return envoytest.Answer{}, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Close = true
	return do(http.DefaultClient, r)
}

// drainOfEnvoy shows that an Envoy that drains still leaves revoked tokens to ext_authz,
// and that it ends in order.
func drainOfEnvoy(g *moduleRig) {
	t := g.t
	token, ended := minted(t, g.Stack, map[string]any{"sub": "drains"}), minted(t, g.Stack, map[string]any{"sub": "ended-while-draining"})
	g.makeKnown(token, "/x")
	g.makeKnown(ended, "/x")
	kept := keep(t, g.addrs[alone])
	if status, err := kept.do(requestWith("/x", ended)); err != nil || status != http.StatusOK {
		t.Fatalf("over a kept connection: got %d, %v, want 200", status, err)
	}
	a, err := http.Post(g.AdminURL+"/drain_listeners?graceful", "", nil)
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("the drain: got %v, %v, want 200", a, err)
	}
	_ = a.Body.Close()
	revoked(t, g.Stack, map[string]any{"claims": map[string]any{"sub": "ended-while-draining"}})
	if status, err := kept.do(requestWith("/x", ended)); err == nil && status == http.StatusOK {
		t.Error("a token that was revoked during the drain is allowed over a kept connection")
	}
	if status := g.Gateway.Stop(); status != 0 {
		t.Errorf("Envoy: got exit status %d, want 0", status)
	}
	eventually.True(t, "the replica has no Envoy", func() bool { return g.figure("rescind_known_envoys") == "0" })
}

// noReplicaAtStart shows that an Envoy that starts before its replica denies, and uses
// the replica once it is there. The Envoy of the rig has ended.
func noReplicaAtStart(g *moduleRig) {
	t := g.t
	token := minted(t, g.Stack, nil)
	g.Replicas[0].Kill()
	if err := g.StartGateway(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, listener := range []string{inFront, alone} {
		if status := g.status(listener, "/x", token); status != http.StatusServiceUnavailable {
			t.Errorf("no replica, listener %s: got %d, want 503", listener, status)
		}
	}
	if err := g.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	g.makeKnown(token, "/x")
}
