package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"rescind/revocation/ledger/ledgertest"
	"rescind/revocation/store"
	"rescind/test/eventually"
)

// TestLogConformance holds the log in memory, on which the tests of the ledger
// run, and the durable ones to the same promises.
func TestLogConformance(t *testing.T) {
	logs := map[string]func(t *testing.T) Log{
		"memory": func(*testing.T) Log { return ledgertest.New() },
		"store": func(t *testing.T) Log {
			l, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return l
		},
		"a NATS elsewhere": func(t *testing.T) Log {
			s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), MaxPayload: 8 << 20, NoSigs: true})
			if err != nil {
				t.Fatal(err)
			}
			s.Start()
			t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
			if !s.ReadyForConnections(10 * time.Second) {
				t.Fatal("starting NATS: got no connection within 10s, want one")
			}
			l, err := store.Open(t.Context(), store.Options{NATS: &store.NATS{URL: s.ClientURL(), Name: "test"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return l
		},
	}
	for name, open := range logs {
		t.Run(name, func(t *testing.T) { conforms(t, open) })
	}
}

// tape records the deliveries of a Read.
type tape struct {
	mu     sync.Mutex
	got    []string
	caught int
	last   uint64
	err    chan error
}

func follow(t *testing.T, log Log, after uint64) *tape {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &tape{err: make(chan error, 1)}
	go func() {
		p.err <- log.Read(ctx, after, func(rev uint64, body []byte) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if rev <= p.last {
				t.Errorf("Read after %d: got revision %d after revision %d, want rising revisions", after, rev, p.last)
			}
			p.last = rev
			if body != nil {
				p.got = append(p.got, fmt.Sprintf("%d:%s", rev, body))
			}
			return nil
		}, func() { p.mu.Lock(); p.caught++; p.mu.Unlock() })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-p.err; !errors.Is(err, context.Canceled) {
			t.Errorf("Read until the test ended: got %v, want %v", err, context.Canceled)
		}
	})
	p.await(t, "the reader has caught up", func() bool { return p.caught == 1 })
	return p
}

// await waits for a condition, which it calls with p.mu held.
func (p *tape) await(t *testing.T, condition string, holds func() bool) {
	t.Helper()
	eventually.True(t, condition, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return holds()
	})
}

func conforms(t *testing.T, open func(t *testing.T) Log) {
	later := time.Now().Add(time.Hour)
	log := open(t)
	p := follow(t, log, 0)
	p.mu.Lock()
	head := p.last
	p.mu.Unlock()
	if head == 0 || len(p.got) != 0 {
		t.Fatalf("a new log: got head %d and batches %q, want a revision and no batch", head, p.got)
	}
	if log.ID() == "" || log.Writer() == "" || log.MaxBody() < 1<<20 || log.Err() != nil {
		t.Errorf("a new log: got ID %q, writer %q, MaxBody %d, Err %v, want two names, at least 1 MiB and no error", log.ID(), log.Writer(), log.MaxBody(), log.Err())
	}
	var want []string
	for i := range uint64(5) {
		rev, err := log.Append(t.Context(), head+i, later, fmt.Appendf(nil, "b%d", i))
		if err != nil || rev != head+i+1 {
			t.Fatalf("Append after %d: got %d, %v, want %d", head+i, rev, err, head+i+1)
		}
		want = append(want, fmt.Sprintf("%d:b%d", rev, i))
	}
	for _, after := range []uint64{0, head, head + 4, head + 6, head + 100} {
		if rev, err := log.Append(t.Context(), after, later, []byte("x")); rev != 0 || err != nil {
			t.Errorf("Append after %d, where the last is %d: got %d, %v, want 0 and no error", after, head+5, rev, err)
		}
	}
	p.await(t, "the reader has all batches", func() bool { return slices.Equal(p.got, want) })
	large := strings.Repeat("x", log.MaxBody())
	if rev, err := log.Append(t.Context(), head+5, later, []byte(large)); rev != head+6 || err != nil {
		t.Errorf("Append of the largest body: got %d, %v, want %d", rev, err, head+6)
	}
	p.await(t, "the reader has the largest batch", func() bool { return p.last == head+6 })

	if n, err := log.Noted(t.Context()); n != 0 || err != nil {
		t.Errorf("Noted of a log without notes: got %d, %v, want 0", n, err)
	}
	for i, covers := range []uint64{0, head + 1, 0, head + 3, 0} {
		if n, err := log.Note(t.Context(), covers, fmt.Appendf(nil, "n%d", i+1)); n != uint64(i+1) || err != nil {
			t.Errorf("note %d: got %d, %v, want %d", i+1, n, err, i+1)
		}
	}
	if n, err := log.Noted(t.Context()); n != head+3 || err != nil {
		t.Errorf("Noted = %d, %v, want %d", n, err, head+3)
	}
	for _, tt := range []struct {
		before uint64
		max    int
		want   string
	}{{0, 9, "5n5 4n4 3n3 2n2 1n1"}, {0, 2, "5n5 4n4"}, {3, 9, "2n2 1n1"}, {1, 9, ""}, {99, 1, "5n5"}} {
		var got []string
		err := log.Notes(t.Context(), tt.before, func(n uint64, at time.Time, b []byte) bool {
			if age := time.Since(at); age < -time.Minute || age > time.Minute {
				t.Errorf("note %d is of %v, want the present", n, at)
			}
			got = append(got, fmt.Sprintf("%d%s", n, b))
			return len(got) < tt.max
		})
		if s := strings.Join(got, " "); s != tt.want || err != nil {
			t.Errorf("notes before %d: %q, %v, want %q", tt.before, s, err, tt.want)
		}
	}
}
