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
		t.Fatal("NATS did not start")
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
		t.Fatalf("logs %q and %q", n[0].ID(), n[1].ID())
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
			t.Errorf("the other node heard %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("the other node heard nothing")
	}
	var last uint64
	for i := range 10 {
		rev, err := n[i%2].put(t, fmt.Sprint("b", i))
		if err != nil || rev <= last {
			t.Fatalf("revision %d after %d, %v", rev, last, err)
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
		t.Errorf("without the server: %d, %v", rev, err)
	}
	natsElsewhere(t, o) // the port is set by now
	eventually.Succeeds(t, "an append once the server is back", func() error { _, err := n[0].put(t, "it is back"); return err })
	eventually.True(t, "both writers have the same last revision", func() bool { return n[0].Last() == n[1].Last() && n[0].Last() > last })

	// Another node comes, and finds all of it.
	late := mustOpen(t, Options{NATS: &NATS{URL: s.ClientURL(), Name: "n3"}})
	if len(late.got) < 11 || late.Last() != n[0].Last() {
		t.Errorf("a node that came later read %d batches up to %d, not %d", len(late.got), late.Last(), n[0].Last())
	}
	if covered, err := late.Noted(t.Context()); covered != 0 || err != nil {
		t.Errorf("notes of a node that wrote none: %d, %v", covered, err)
	}
}
