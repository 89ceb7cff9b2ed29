package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rescind/test/eventually"

	"github.com/nats-io/nats-server/v2/server"
)

// natsElsewhere is a server that somebody else runs, on these options' port and
// directory.
func natsElsewhere(t *testing.T, o *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("starting NATS: got no connection within 10s, want one")
	}
	return s
}

// A log in a NATS that the user runs: two nodes write it, and it outlives the
// server's restart.
func TestANATSThatTheUserRuns(t *testing.T) {
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, SyncAlways: true}
	s := natsElsewhere(t, o)
	n := start(t, []Options{
		{NATS: &NATS{URL: s.ClientURL(), Name: "n1"}},
		{NATS: &NATS{URL: s.ClientURL(), Name: "n2"}},
	})
	if n[0].ID() == "" || n[0].ID() != n[1].ID() {
		t.Fatalf("two nodes at one NATS: got the logs %q and %q, want one log", n[0].ID(), n[1].ID())
	}
	heard := make(chan string, 1)
	if err := n[1].Subscribe(func(node string, body []byte) { heard <- node + ": " + string(body) }); err != nil {
		t.Fatal(err)
	}
	if err := n[0].Broadcast([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-heard:
		if got != "n1: hello" {
			t.Errorf("a broadcast of n1: the other node got %q, want n1: hello", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("a broadcast of n1: the other node got nothing within 20s, want n1: hello")
	}
	var last uint64
	for i := range 10 {
		rev, err := n[i%2].put(t, fmt.Sprint("b", i))
		if err != nil || rev <= last {
			t.Fatalf("append of b%d: got revision %d, %v, want one after %d", i, rev, err, last)
		}
		if _, err := n[i%2].Note(t.Context(), rev, fmt.Append(nil, "note ", i)); err != nil {
			t.Fatal(err)
		}
		last = rev
	}
	for i := range n {
		eventually.True(t, fmt.Sprintf("writer %d has read revision %d", i+1, last), func() bool { return n[i].Last() == last })
	}

	for i, want := range []string{"first", "second"} { // each writer has its own
		if b, err := n[i].LoadDocument("replicas.json"); err != nil || b != nil {
			t.Errorf("writer %d, before a document is saved: %q, %v; want none", i+1, b, err)
		}
		for _, document := range []string{"before", want} {
			if err := n[i].SaveDocument("replicas.json", []byte(document)); err != nil {
				t.Fatal(err)
			}
		}
	}
	again := start(t, []Options{{NATS: &NATS{URL: s.ClientURL(), Name: "n2"}}})[0]
	if b, err := again.LoadDocument("replicas.json"); err != nil || string(b) != "second" {
		t.Errorf("the second writer's document after a restart: %q, %v; want \"second\"", b, err)
	}

	// The server is gone for a moment.
	s.Shutdown()
	s.WaitForShutdown()
	if rev, err := n[0].put(t, "nobody is there"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("an append without the server: got revision %d, %v, want %v", rev, err, ErrUnavailable)
	}
	natsElsewhere(t, o) // the port is set by now
	eventually.Succeeds(t, "an append once the server is back", func() error { _, err := n[0].put(t, "it is back"); return err })
	eventually.True(t, "both writers have the same last revision", func() bool { return n[0].Last() == n[1].Last() && n[0].Last() > last })

	// Another node comes, and finds all of it.
	late := mustOpen(t, Options{NATS: &NATS{URL: s.ClientURL(), Name: "n3"}})
	if len(late.got) < 11 || late.Last() != n[0].Last() {
		t.Errorf("a node that came later: got %d batches up to revision %d, want at least 11 up to %d", len(late.got), late.Last(), n[0].Last())
	}
	if covered, err := late.Noted(t.Context()); covered != 0 || err != nil {
		t.Errorf("Noted of a node that wrote no note: got %d, %v, want 0", covered, err)
	}
}
