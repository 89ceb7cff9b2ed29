package feed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation/insight"
	"rescind/test/eventually"
)

// heard collects the alerts that a node hears of other nodes.
type heard struct {
	mu  sync.Mutex
	got []string
}

func (h *heard) take(name string, alerts []insight.Alert) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range alerts {
		h.got = append(h.got, name+"/"+a.Key)
	}
}

func (h *heard) has(alert string) func() bool {
	return func() bool { h.mu.Lock(); defer h.mu.Unlock(); return slices.Contains(h.got, alert) }
}

// TestReportsToSeveralNodes shows that the replicas of all nodes answer a query at
// any node, and that each node hears of the alerts at the other nodes.
func TestReportsToSeveralNodes(t *testing.T) {
	log := newLog("log-1")
	wire := &bus{receivers: map[string]func(string, []byte){}}
	h := []*heard{{}, {}, {}}
	var nodes []*control
	var reporters []*Reporter
	for i := range h {
		nodes = append(nodes, serve(t, log, ServerOptions{Nodes: on{wire, fmt.Sprint("n", i)}, Others: 2, OnPeerAlerts: h[i].take}))
	}
	for i, n := range nodes {
		for _, suffix := range []string{"a", "b"} {
			name := fmt.Sprintf("replica-%d%s", i, suffix)
			reporters = append(reporters, reporting(t, name, n.addr, ReporterOptions{Answer: echo(name)}))
		}
	}
	following(t, openFollower(t), options(nodes[2].addr)) // one that does not report
	for i, n := range nodes {
		var got []string
		eventually.True(t, "six of seven to answer", func() bool {
			answers, asked, answered := n.Ask(t.Context(), "ping", []byte("{}"))
			got = nil
			for _, a := range answers {
				got = append(got, string(a))
			}
			return asked == 7 && answered == 6
		})
		if slices.Sort(got); got[0] != "replica-0a:ping:{}" || got[5] != "replica-2b:ping:{}" {
			t.Errorf("node %d: got the answers %q, want replica-0a to replica-2b", i, got)
		}
		eventually.True(t, "all to refuse at once", func() bool {
			began := time.Now()
			_, _, answered := n.Ask(t.Context(), "fail", nil)
			return answered == 0 && time.Since(began) < askTime*3/4
		})
	}
	reporters[0].Add(alertOf(insight.BadSignatures, "k"))
	for _, other := range h[1:] {
		eventually.True(t, "the other nodes have the alert", other.has("replica-0a/k"))
	}
	if h[0].has("replica-0a/k")() {
		t.Error("the node that kept replica-0a/k: got it as an alert of another node, want it only at the other nodes")
	}

	wire.cut("n2") // it is gone, without a word
	began := time.Now()
	_, asked, answered := nodes[0].Ask(t.Context(), "ping", nil)
	if d := time.Since(began); answered != 4 || asked != 7 || d > askTime+time.Second {
		t.Errorf("with a node gone: got %d of %d answers after %v, want 4 of 7 within %v", answered, asked, d, askTime+time.Second)
	}
}

// TestASlowAnswerElsewhere shows that a stuck replica at another node costs less
// than the time of a query.
func TestASlowAnswerElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		here, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		_, net := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		release := make(chan struct{})
		for name, answer := range map[string]func(string, []byte) ([]byte, error){
			"quick": echo("quick"), "stuck": func(string, []byte) ([]byte, error) { <-release; return nil, nil },
		} {
			o := options("memory")
			o.Name, o.dial, o.Reporter = name, net.dial, NewReporter(ReporterOptions{Answer: answer})
			following(t, openFollower(t), o)
		}
		time.Sleep(time.Second)
		began := time.Now()
		_, asked, answered := here.Ask(t.Context(), "ping", nil)
		if d := time.Since(began); asked != 2 || answered != 1 || d != patient.atPeer().limit {
			t.Errorf("with a stuck replica at the other node: got %d of %d answers after %v, want 1 of 2 after %v", answered, asked, d, patient.atPeer().limit)
		}
		close(release)
	})
}

// TestWordsThatDoNotFit shows that messages that do not fit change nothing.
func TestWordsThatDoNotFit(t *testing.T) {
	wire := &bus{receivers: map[string]func(string, []byte){}}
	h := &heard{}
	s := serve(t, newLog("log-1"), ServerOptions{Nodes: on{wire, "n1"}, Others: 1, OnPeerAlerts: h.take})
	reporting(t, "replica-a", s.addr, ReporterOptions{Answer: echo("a")})
	eventually.True(t, "it is there", func() bool { _, _, answered := s.Ask(t.Context(), "ping", nil); return answered == 1 })
	other := on{wire, "n2"}
	for _, g := range []gossip{
		{Query: &nodeQuery{ID: 1, Kind: strings.Repeat("x", maxKind+1)}},
		{Query: &nodeQuery{ID: 1, Kind: "ping", Query: make([]byte, maxQuery+1)}},
		{Answer: &nodeAnswer{ID: 1, Answer: []byte("x")}},
		{Answer: &nodeAnswer{ID: 1, Done: true}},
		{Alerts: &nodeAlerts{"a\nb", []insight.Alert{{Key: "k"}}}},
		{Alerts: &nodeAlerts{"a", make([]insight.Alert, maxAlerts+1)}},
	} {
		if err := other.Broadcast(encoded(t, g)); err != nil {
			t.Fatalf("broadcasting %+v: got %v, want no error", g, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, asked, answered := s.Ask(ctx, "ping", nil); asked != 1 || answered != 1 {
		t.Errorf("after messages that do not fit: got %d of %d answers, want 1 of 1", answered, asked)
	}
	if len(h.got) != 0 {
		t.Errorf("after messages that do not fit: got the alerts %q, want none", h.got)
	}
}
