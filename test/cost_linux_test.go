package test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
)

// The processor time of a Check with decision log, traces and alerts at their usual
// rates, beside that of a Check without them. Two replicas get the same Checks by
// turns, five in a hundred of them denied. The figure comes from
//
//	RESCIND_LONG=1 go test -run WatchingCosts -v -count 5 ./test
func TestWatchingCosts(t *testing.T) {
	withoutRace(t)
	w := newRig(t, envoytest.Options{Replicas: 1})
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(collector.Close)
	replicas := map[string]string{
		"off": "alerts: {enabled: false}\nlog: {decisions: {denied: 0, allowed: 0}}\n",
		"on": fmt.Sprintf("log: {decisions: {denied: 1, allowed: 0.01, output: %q}}\ntracing: {endpoint: %q, protocol: http, sample_ratio: 0.01, max_per_second: 1000}\n",
			"file:"+w.file("decisions.log"), collector.URL),
	}
	spent, clients := map[string][]float64{}, map[string]*envoy.Client{}
	processes := map[string]*child{}
	for name, rest := range replicas {
		c := w.replica(name, w.config(name, "{listen: 127.0.0.1:0}", "    audiences: [api]", rest))
		client, err := envoy.Dial(c.addr("grpc"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		processes[name], clients[name] = c, client
	}
	tokens := make([]string, 2000)
	for i := range tokens {
		now := time.Now()
		if i%20 == 0 {
			now = now.Add(-2 * time.Hour)
		}
		tokens[i] = minted(t, w.Stack, map[string]any{"jti": fmt.Sprint("token-", i), "sub": fmt.Sprint("user-", i/2), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
	}
	turn := func(name string, tokens []string) {
		before := onProcessor(t, processes[name])
		var all sync.WaitGroup
		for part := range slices.Chunk(tokens, (len(tokens)+7)/8) {
			all.Go(func() {
				for _, token := range part {
					if _, err := clients[name].Check(t.Context(), envoy.Question{Token: token}); err != nil {
						t.Errorf("a Check of %s with a valid token: got %v, want an answer", name, err)
					}
				}
			})
		}
		all.Wait()
		time.Sleep(20 * time.Millisecond) // for the queued decisions
		spent[name] = append(spent[name], float64((onProcessor(t, processes[name])-before).Nanoseconds())/float64(len(tokens)))
	}
	const each = 500
	for n := range rounds(4, 200) {
		part := tokens[n*each%len(tokens):][:each]
		order := []string{"off", "on"}
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			turn(name, part)
		}
	}
	median := func(of []float64) float64 { slices.Sort(of); return of[len(of)/2] }
	off, on := median(spent["off"]), median(spent["on"])
	t.Logf("processor time of a Check: %.1f µs, with everything that watches %.1f µs: %.1f %% more", off/1000, on/1000, 100*(on/off-1))
}

// onProcessor returns the processor time of a process.
func onProcessor(t *testing.T, c *child) (ran time.Duration) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("wanted the threads of the process, got none: %v", err)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil { // gone
			continue
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ran += time.Duration(ns)
	}
	return ran
}
