package store

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/test/eventually"
)

// delivered records the deliveries of Read.
type delivered struct {
	mu     sync.Mutex
	bodies map[uint64]string // by revision, without the revisions that have no body
	last   uint64
}

func (d *delivered) take(revision uint64, body []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if revision <= d.last {
		return fmt.Errorf("got revision %d after revision %d, want rising revisions", revision, d.last)
	}
	if d.last = revision; body != nil {
		d.bodies[revision] = string(body)
	}
	return nil
}

func (d *delivered) snapshot() (map[uint64]string, uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.bodies), d.last
}

// batch is an appended batch of the model.
type batch struct {
	body string
	hour uint32 // after which it is given up
}

// logModel is the expected content of the log, in plain maps.
type logModel struct {
	t       testing.TB
	dir     string
	log     *Log
	reading *delivered

	last    uint64
	batches map[uint64]batch
	givenUp uint32
	notes   []string
	covered uint64
}

// open opens the log and reads it to its end. It must read exactly the batches
// that were appended and are not given up.
func (m *logModel) open(rt *rapid.T) {
	l, err := Open(context.Background(), Options{Dir: m.dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		rt.Fatalf("open: got %v, want no error", err)
	}
	m.log, m.reading = l, &delivered{bodies: map[uint64]string{}}
	whole, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- l.Read(context.Background(), 0, m.reading.take, func() { close(whole) }) }()
	select {
	case <-whole:
	case err := <-ended:
		rt.Fatalf("read: got the end %v, want the whole log", err)
	}
	if m.last == 0 { // a new log begins with a revision of its own
		_, m.last = m.reading.snapshot()
		m.givenUp = hourOf(time.Now().Add(-margin)) - 1
	}
	want := map[uint64]string{}
	for revision, b := range m.batches {
		if b.hour > m.givenUp {
			want[revision] = b.body
		}
	}
	if got, last := m.reading.snapshot(); !maps.Equal(got, want) || last != m.last {
		rt.Fatalf("after a start the log has %v up to revision %d, want %v up to %d", got, last, want, m.last)
	}
}

// wait waits until Read has delivered the last revision.
func (m *logModel) wait() {
	eventually.True(m.t, fmt.Sprintf("revision %d is delivered", m.last), func() bool { _, last := m.reading.snapshot(); return last == m.last })
}

func (m *logModel) append(rt *rapid.T) {
	hours := rapid.IntRange(-2, 50).Draw(rt, "hours")
	body := rapid.StringMatching(`[a-z]{1,300}`).Draw(rt, "body")
	lasts := time.Now().Add(time.Duration(hours) * time.Hour)
	got, err := m.log.Append(context.Background(), m.last, lasts, []byte(body))
	if err != nil || got != m.last+1 {
		rt.Fatalf("append of %q after %d: got revision %d, %v, want %d", body, m.last, got, err, m.last+1)
	}
	m.last = got
	m.batches[got] = batch{body, max(hourOf(lasts), m.givenUp+1)}
}

// appendElsewhere follows a revision that is not the last one: nothing happens.
func (m *logModel) appendElsewhere(rt *rapid.T) {
	after := rapid.Uint64Range(0, m.last+3).Filter(func(n uint64) bool { return n != m.last }).Draw(rt, "after")
	if got, err := m.log.Append(context.Background(), after, time.Now(), []byte("x")); got != 0 || err != nil {
		rt.Fatalf("append after %d, where %d is the last: revision %d, %v, want none", after, m.last, got, err)
	}
}

func (m *logModel) note(rt *rapid.T) {
	body, covers := fmt.Sprintf("note %d", len(m.notes)), uint64(0)
	if rapid.Bool().Draw(rt, "covers") {
		covers = m.last
	}
	number, err := m.log.Note(context.Background(), covers, []byte(body))
	if err != nil || number != uint64(len(m.notes)+1) {
		rt.Fatalf("note: number %d, %v, want %d", number, err, len(m.notes)+1)
	}
	m.notes = append(m.notes, body)
	m.covered = max(m.covered, covers)
}

// audit lists the notes before one of them, as a page of the API does.
func (m *logModel) audit(rt *rapid.T) {
	before := rapid.IntRange(0, len(m.notes)+2).Draw(rt, "before")
	n := len(m.notes)
	if before > 0 {
		n = min(n, before-1)
	}
	var got, want []string
	for i := n; i > 0; i-- {
		want = append(want, m.notes[i-1])
	}
	err := m.log.Notes(context.Background(), uint64(before), func(_ uint64, _ time.Time, body []byte) bool { got = append(got, string(body)); return true })
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		rt.Fatalf("notes before %d: %v, %v, want %v", before, got, err, want)
	}
	if covered, err := m.log.Noted(context.Background()); err != nil || covered != m.covered {
		rt.Fatalf("the notes cover revision %d, %v, want %d", covered, err, m.covered)
	}
}

func (m *logModel) expire(rt *rapid.T) {
	m.wait() // Expire counts the delivered revisions
	now := time.Now().Add(time.Duration(rapid.IntRange(-1, 60).Draw(rt, "hours")) * time.Hour)
	passed := hourOf(now.Add(-margin)) - 1
	if err := m.log.Expire(context.Background(), now); err != nil {
		rt.Fatalf("expire at %v: got %v, want no error", now, err)
	}
	for _, b := range m.batches {
		if b.hour > m.givenUp && b.hour <= passed {
			m.givenUp = passed
			m.last++ // a revision gives the hours up
			return
		}
	}
	if _, head := m.log.Agreed(); head == m.last+1 { // the log's own first revision has passed
		m.givenUp, m.last = passed, head
	}
}

func (m *logModel) restart(rt *rapid.T) {
	if err := m.log.Close(); err != nil {
		rt.Fatalf("close: got %v, want no error", err)
	}
	m.open(rt)
}

// TestLogAgainstAModel appends, notes, expires and restarts in any order. The
// log always has exactly the acknowledged batches that are not given up.
func TestLogAgainstAModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	if checks.Value.String() == checks.DefValue { // each check starts real servers
		_ = checks.Value.Set("12")
		defer func() { _ = checks.Value.Set(checks.DefValue) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		m := &logModel{t: t, dir: dir, batches: map[uint64]batch{}}
		defer func() { _ = m.log.Close() }()
		m.open(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "append again": m.append, "append elsewhere": m.appendElsewhere,
			"note": m.note, "audit": m.audit, "expire": m.expire, "restart": m.restart,
		})
		m.restart(rt)
	})
}
