package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"rescind/test/eventually"
)

// wantShared holds that the writers share their documents.
func wantShared(t *testing.T, name string, writers ...*opened) {
	t.Helper()
	last := len(writers) - 1
	if b, version, err := writers[last].LoadShared(t.Context(), name); err != nil || b != nil || version != 0 {
		t.Fatalf("before a document is saved: got %q, version %d, %v; want none", b, version, err)
	}
	first, err := writers[0].SaveShared(t.Context(), name, []byte("first"), 0)
	if err != nil || first == 0 {
		t.Fatalf("saving a new document: got version %d, %v, want one", first, err)
	}
	if b, version, err := writers[last].LoadShared(t.Context(), name); err != nil || string(b) != "first" || version != first {
		t.Fatalf("another node loads %q, version %d, %v; want first, version %d", b, version, err, first)
	}
	second, err := writers[last].SaveShared(t.Context(), name, []byte("second"), first)
	if err != nil || second <= first {
		t.Fatalf("saving version %d: got version %d, %v, want a later one", first, second, err)
	}
	for _, version := range []uint64{0, first, second + 1} {
		if got, err := writers[0].SaveShared(t.Context(), name, []byte("stale"), version); !errors.Is(err, ErrChanged) {
			t.Errorf("saving over version %d while it is %d: got version %d, %v, want %v", version, second, got, err, ErrChanged)
		}
	}
	if b, version, err := writers[0].LoadShared(t.Context(), name); err != nil || string(b) != "second" || version != second {
		t.Errorf("the end: got %q, version %d, %v; want second, version %d", b, version, err, second)
	}
	if b, _, err := writers[0].LoadShared(t.Context(), name+"/other"); err != nil || b != nil {
		t.Errorf("another name: got %q, %v, want no document", b, err)
	}
}

func TestSharedDocumentsOfTheOnlyNode(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	l := mustOpen(t, o)
	wantShared(t, "held/a name with spaces.*>", l)
	_ = l.Close()
	l = mustOpen(t, o)
	if b, version, err := l.LoadShared(t.Context(), "held/a name with spaces.*>"); err != nil || string(b) != "second" || version == 0 {
		t.Errorf("after a restart: got %q, version %d, %v; want second", b, version, err)
	}
	_ = l.Close()
	if _, err := l.SaveShared(t.Context(), "x", nil, 0); !errors.Is(err, ErrUnavailable) {
		t.Errorf("saving with the log closed: got %v, want %v", err, ErrUnavailable)
	}
}

func TestSharedDocumentsOfNodesAtANATS(t *testing.T) {
	s := natsElsewhere(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, SyncAlways: true})
	wantShared(t, "held/x", start(t, []Options{
		{NATS: &NATS{URL: s.ClientURL(), Name: "n1"}},
		{NATS: &NATS{URL: s.ClientURL(), Name: "n2"}},
	})...)
}

// A stream that does not respond yet, as while its nodes elect a leader, costs a
// save no more than time.
func TestSaveWaitsForTheStreamOfSharedDocuments(t *testing.T) {
	s := natsElsewhere(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, SyncAlways: true})
	l := start(t, []Options{{NATS: &NATS{URL: s.ClientURL(), Name: "n1"}}})[0]
	if _, err := l.SaveShared(t.Context(), "held/x", []byte("before"), 0); err != nil {
		t.Fatal(err)
	}
	conn, err := l.connected()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.js.Stream(t.Context(), sharedStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.js.DeleteStream(t.Context(), sharedStream); err != nil {
		t.Fatal(err)
	}
	before := conn.nats.Stats().OutMsgs
	saved := make(chan error, 1)
	go func() {
		_, err := l.SaveShared(t.Context(), "held/x", []byte("after"), 0)
		saved <- err
	}()
	eventually.True(t, "the save is sent", func() bool { return conn.nats.Stats().OutMsgs > before })
	if _, err := conn.js.CreateStream(t.Context(), stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	if err := <-saved; err != nil {
		t.Errorf("saving while no stream responded: got %v, want the document saved", err)
	}
}

func TestSharedDocumentsOfACluster(t *testing.T) {
	n := start(t, nodes(t, 3))
	wantShared(t, "held/x", n...)

	// The loss of one node loses no document, and stops nothing.
	_ = n[0].Close()
	eventually.Succeeds(t, "a document is saved without the first node", func() error {
		b, version, err := n[1].LoadShared(t.Context(), "held/x")
		if err == nil && string(b) != "second" && string(b) != "third" {
			return fmt.Errorf("got %q, want second", b)
		}
		if err == nil {
			_, err = n[2].SaveShared(t.Context(), "held/x", []byte("third"), version)
		}
		return err
	})
}
