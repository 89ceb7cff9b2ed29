package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// A gateway with the module gives no wrong answer, leaks nothing and does not end
// under a mixed load, while its replica is killed, its listener changes, keys rotate
// and tokens are revoked. The short form has two rounds. The long form has a round a
// minute, for an hour or for RESCIND_SOAK:
//
//	RESCIND_LONG=1 go test -run MixedLoad -timeout 80m -v ./test
func TestMixedLoad(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	k := newSoak(t)
	pid := k.Gateway.PID()
	before := usageOf(t, pid)
	stop := k.load()
	for round := range int(k.length / k.round) {
		k.runRound(round)
	}
	stop()
	k.checkEnvoy(pid, before)
	k.checkTrends()
	t.Log(k.summary())
}

// soak is a stack with the module under a mixed load, beside a model of the answers.
type soak struct {
	*envoytest.Stack
	t             *testing.T
	length, round time.Duration
	model         soakModel
	counts        soakCounts
	envoy         []usage // one each minute
	replica       []usage // at the same age of each replica
	ldsFile       string
	streams       *http.Client // a connection of its own for each stream
	listener      node
}

const soakLeeway = time.Second

func newSoak(t *testing.T) *soak {
	t.Helper()
	k := &soak{t: t, streams: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, length: 4 * time.Second, round: 2 * time.Second}
	if longForm {
		k.length, k.round = time.Hour, time.Minute
	}
	if text := os.Getenv("RESCIND_SOAK"); text != "" {
		var err error
		if k.length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("RESCIND_SOAK must be a duration, for example 1h: %v", err)
		}
	}
	k.counts.of, k.counts.reasons, k.counts.began = map[string]*soakCount{}, map[string]int{}, time.Now()
	k.model.keys = map[string]*soakKey{}
	k.Stack = startInProcessWith(t, envoytest.Options{Issuer: fmt.Sprintf("    leeway: %v\n", soakLeeway), Bootstrap: k.bootstrap})
	k.model.keys[k.Issuer.KeyID()] = &soakKey{accepted: time.Now()}
	becomeKnown(t, k.Stack, login(t, k.Stack, "alice"))
	k.updateListener() // the parts that Envoy makes once are there before anything is counted
	return k
}

// bootstrap returns the shipped configuration with its listener in a file that Envoy
// watches. There is no access log, because an hour of it is large.
func (k *soak) bootstrap(s *envoytest.Stack) ([]byte, error) {
	bootstrap, err := shippedBy(s)
	if err != nil {
		return nil, err
	}
	k.listener = at(bootstrap, "static_resources", "listeners", 0).(node)
	delete(bootstrap["static_resources"].(node), "listeners")
	k.listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener"
	k.listener["address"] = address(freeport.Addrs(k.t, 1)[0])
	delete(at(k.listener, managerPath...).(node), "access_log")
	for _, r := range at(k.listener, append(managerPath, "route_config", "virtual_hosts", 0, "routes")...).([]any) {
		if route, ok := r.(node)["route"].(node); ok {
			route["timeout"] = "0s" // the default ends a stream after 15 s
		}
	}
	k.ldsFile = filepath.Join(s.Dir, "lds.json")
	bootstrap["node"] = node{"id": "gateway", "cluster": "gateway"}
	bootstrap["dynamic_resources"] = node{"lds_config": node{"resource_api_version": "V3", "path_config_source": node{"path": k.ldsFile}}}
	if err := k.writeListener("on"); err != nil {
		return nil, err
	}
	return json.Marshal(bootstrap)
}

// managerPath leads from a listener to its connection manager.
var managerPath = []any{"filter_chains", 0, "filters", 0, "typed_config"}

// writeListener writes the listener with the module's setting metadata.
func (k *soak) writeListener(metadata string) error {
	for _, f := range at(k.listener, append(managerPath, "http_filters")...).([]any) {
		if f := f.(node); f["name"] == "rescind" {
			value := at(f, "typed_config", "filter_config").(node)
			socket, _, _ := strings.Cut(value["value"].(string), " metadata=")
			value["value"] = socket + " metadata=" + metadata
		}
	}
	text, err := json.Marshal(node{"resources": []any{k.listener}})
	if err != nil {
		return err
	}
	next := k.ldsFile + ".next"
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return err
	}
	return os.Rename(next, k.ldsFile) // Envoy watches for this
}

// updateListener changes the listener and waits until Envoy has taken the change.
func (k *soak) updateListener() {
	k.t.Helper()
	before := k.listenerUpdates("success")
	k.model.listenerChanges(time.Now())
	if err := k.writeListener([]string{"on", "off"}[k.counts.updates.Add(1)%2]); err != nil {
		k.t.Fatal(err)
	}
	eventually.True(k.t, "Envoy has taken the listener", func() bool { return k.listenerUpdates("success") > before })
	k.model.listenerChanges(time.Now())
	if n := k.listenerUpdates("rejected"); n != 0 {
		k.t.Fatalf("Envoy has refused %d listeners, want none", n)
	}
}

func (k *soak) listenerUpdates(result string) (n int) {
	name := "listener_manager.lds.update_" + result
	_, after, _ := strings.Cut(scraped(k.AdminURL+"/stats?filter="+name), name+": ")
	_, _ = fmt.Sscan(after, &n)
	return n
}

// runRound makes each fault once. An odd round changes the listener while the replica
// is away.
func (k *soak) runRound(round int) {
	began := time.Now()
	until := func(share float64) {
		select {
		case <-k.t.Context().Done():
		case <-time.After(time.Until(began.Add(time.Duration(share * float64(k.round))))):
		}
	}
	rotation, wide := 0.5, 0.75
	if round%2 == 1 {
		rotation, wide = 0.35, 0.95
	} else {
		until(0.25)
		k.updateListener()
	}
	if !longForm || round%4 == 2 {
		until(rotation)
		k.rotate()
	}
	if !longForm || round%3 == 1 {
		until(wide)
		k.revokeWide(round)
	}
	until(1)
	k.look(round)
	k.killReplica(round)
}

// rotate retires all keys but the one that signs, and adds a new one.
func (k *soak) rotate() {
	k.t.Helper()
	old := k.Issuer.KeyID()
	k.model.retire(old, time.Now())
	k.Issuer.Retire()
	if err := k.Rotate(); err != nil {
		k.t.Fatal(err)
	}
	kid := k.Issuer.KeyID()
	k.recovers("a token of the new key")
	k.model.accept(kid, time.Now().Add(soakMargin))
	k.mintBad()
	if k.counts.rotations.Add(1) > 1 && !longForm {
		eventually.True(k.t, "tokens of a retired key are asked about", func() bool { return k.counts.deniedAs(soakRetired) > 20 })
	}
}

// recovers waits until a new token is allowed.
func (k *soak) recovers(what string) {
	k.t.Helper()
	eventually.Succeeds(k.t, what+" is allowed", func() error {
		token, err := k.Mint(nil)
		if err != nil {
			return err
		}
		a, err := k.Get(k.t.Context(), "/", token)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
}

// killReplica kills the replica, starts it again and waits until it allows tokens. In
// some rounds it is away until Envoy has given it up. In the long form it stands still
// first then.
func (k *soak) killReplica(round int) {
	k.t.Helper()
	away := !longForm && round == 1 || longForm && round%3 == 2
	began := time.Now()
	k.model.outageBegins(began)
	if longForm && away {
		if err := k.Replicas[0].Pause(); err != nil {
			k.t.Fatal(err)
		}
		k.staysAway("a replica that stands still")
	}
	k.Replicas[0].Kill()
	k.counts.kills.Add(1)
	if round%2 == 1 {
		k.updateListener()
	}
	if away {
		k.staysAway("a replica that was killed")
	}
	k.model.outage(func(o *soakOutage) { o.back = time.Now() })
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	if err := k.StartReplica(ctx, 0); err != nil {
		k.t.Fatal(err)
	}
	if err := k.WaitReady(ctx, 0); err != nil {
		k.t.Fatal(err)
	}
	k.recovers("after the kill, a token")
	k.model.outage(func(o *soakOutage) { o.over = time.Now().Add(soakMargin) })
	k.counts.longestOutage = max(k.counts.longestOutage, time.Since(began))
}

// staysAway waits until requests were denied because the replica is away.
func (k *soak) staysAway(what string) {
	k.t.Helper()
	now, before := time.Now(), k.counts.deniedAs(soakAway)
	k.model.outage(func(o *soakOutage) { o.silent = now })
	eventually.True(k.t, what+" is given up", func() bool { return k.counts.deniedAs(soakAway) >= before+soakWorkers })
}

// look demands that this life of the replica made tokens known, and takes the figures
// of the processes.
func (k *soak) look(round int) {
	k.t.Helper()
	eventually.True(k.t, "Envoy answers by itself in this life of the replica", func() bool { return knownHits(k.t, k.Stack) > 0 })
	figures := replicaMetrics(k.t, k.Stack)
	if !strings.Contains(figures, "\nrescind_known_contradictions_total 0\n") {
		k.t.Errorf("round %d: the replica has met contradictions, want none", round)
	}
	k.counts.byEnvoy += int64(knownHits(k.t, k.Stack))
	k.envoy = append(k.envoy, usageOf(k.t, k.Gateway.PID()))
	k.replica = append(k.replica, usageOf(k.t, k.Replicas[0].PID()))
	if longForm {
		k.t.Logf("round %d: Envoy %v; replica %v; %s", round, k.envoy[len(k.envoy)-1], k.replica[len(k.replica)-1], k.counts.line())
	}
}

// checkEnvoy demands the same process, a log without crashes, and nothing left over
// from the listeners and the replicas that have gone.
func (k *soak) checkEnvoy(pid int, before usage) {
	k.t.Helper()
	if !k.Gateway.Running() || k.Gateway.PID() != pid {
		k.t.Fatal("Envoy has ended, want the same process")
	}
	log, err := os.ReadFile(filepath.Join(k.Dir, "envoy.log"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, bad := range []string{"assert failure", "envoy bug", "Caught ", "Backtrace", "[critical]", "is refused"} {
		if at := strings.Index(strings.ToLower(string(log)), strings.ToLower(bad)); at >= 0 {
			k.t.Errorf("the log of Envoy has %q: %s", bad, log[max(0, at-300):min(len(log), at+1000)])
		}
	}
	eventually.Succeeds(k.t, "Envoy gives everything back", func() error {
		now := usageOf(k.t, pid)
		if now.files > before.files || now.threads != before.threads || now.memories > before.memories+2 {
			return fmt.Errorf("before the load it had %v, and now it has %v", before, now)
		}
		return nil
	})
}

func (k *soak) load() (stop func()) {
	ctx, cancel := context.WithCancel(k.t.Context())
	k.mintBad()
	var all sync.WaitGroup
	for range soakWorkers {
		all.Go(func() { k.ask(ctx) })
	}
	for n := range soakStreams {
		all.Go(func() { k.stream(ctx, n) })
	}
	for range 2 {
		all.Go(func() { k.revokeNarrow(ctx) })
	}
	return sync.OnceFunc(func() { cancel(); all.Wait() })
}
