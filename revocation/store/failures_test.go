package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rescind/test/eventually"
)

// flakyJetStream is JetStream with an answer of the test's own to a publication.
type flakyJetStream struct {
	jetstream.JetStream
	publish func(m *nats.Msg) (*jetstream.PubAck, error)
}

func (f *flakyJetStream) PublishMsg(ctx context.Context, m *nats.Msg, o ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := f.JetStream.PublishMsg(ctx, m, o...)
	if err != nil {
		return ack, err
	}
	return f.publish(m)
}

// withPublish makes the log answer publications as publish does. It ends when
// the log opens its server again.
func (o *opened) withPublish(publish func(m *nats.Msg) (*jetstream.PubAck, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn.js = &flakyJetStream{o.conn.js, publish}
}

// An append whose acknowledgement is lost fails, and its batch is there all the
// same. The log opens its server again, reads the batch, and the next append
// follows it. Were the batch forgotten, a revocation would be.
func TestBatchWithoutItsAcknowledgement(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	l.add(t, time.Hour, "first")
	l.withPublish(func(*nats.Msg) (*jetstream.PubAck, error) { return nil, context.DeadlineExceeded })
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("second")); rev != 0 || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("an append without its acknowledgement: revision %d, %v, want %v", rev, err, ErrUnavailable)
	}
	eventually.True(t, "the batch is read", func() bool { return l.Last() == l.head+1 })
	eventually.Succeeds(t, "an append that follows the batch", func() error {
		rev, err := l.Append(t.Context(), l.head+1, time.Now().Add(time.Hour), []byte("third"))
		if err == nil && rev != l.head+2 {
			err = fmt.Errorf("revision %d, want %d", rev, l.head+2)
		}
		return err
	})
	_ = l.Close()
	l = mustOpen(t, Options{Dir: dir})
	if got, want := strings.Join(l.got, " "), "2:first 3:second 4:third"; got != want {
		t.Errorf("after a restart the log has %q, want %q", got, want)
	}
}

// An acknowledgement of another revision than the one that follows means that
// something else is in the log. Nothing is appended to it any more.
func TestAcknowledgementOfAnotherRevision(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir()})
	l.withPublish(func(*nats.Msg) (*jetstream.PubAck, error) { return &jetstream.PubAck{Sequence: l.head + 7}, nil })
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("b")); rev != 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("an append that got another revision: revision %d, %v, want %v", rev, err, ErrDamaged)
	}
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("c")); rev != 0 || err == nil {
		t.Errorf("the append after that: revision %d, %v, want an error", rev, err)
	}
	if err := l.Err(); !errors.Is(err, ErrDamaged) {
		t.Errorf("the log says %v, want %v", err, ErrDamaged)
	}
}

// A log that nobody has read takes no appends: its writer does not know the
// revision that it follows.
func TestNoAppendBeforeTheLogIsRead(t *testing.T) {
	l, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for after := range uint64(3) {
		if rev, err := l.Append(t.Context(), after, time.Now().Add(time.Hour), []byte("b")); rev != 0 || err != nil {
			t.Errorf("append after %d to a log that was not read: revision %d, %v, want none", after, rev, err)
		}
	}
}

// While the log is down somebody puts an older copy in its place. An acknowledged
// batch is missing from it, so the log stays shut.
func TestOlderCopyWhileTheLogIsDown(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	l.add(t, time.Hour, "old")
	_ = l.Close()
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, Options{Dir: dir})
	l.add(t, time.Hour, "new")
	k := l.conn
	k.close() // as a crash of JetStream would
	remove(t, filepath.Join(dir, dataName))
	if err := os.CopyFS(filepath.Join(dir, dataName), os.DirFS(filepath.Join(older, dataName))); err != nil {
		t.Fatal(err)
	}
	l.detach(k, errors.New("the test took it down"))
	eventually.True(t, "the log calls itself damaged", func() bool { return errors.Is(l.Err(), ErrDamaged) })
	if !strings.Contains(l.Err().Error(), fmt.Sprintf("revision %d was acknowledged", l.head)) {
		t.Errorf("the error is %q, want the acknowledged revision %d in it", l.Err(), l.head)
	}
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("b")); rev != 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("an append to it: revision %d, %v, want %v", rev, err, ErrDamaged)
	}
}

// The reader's own error ends Read as it is, and Read does not go on behind the
// batch that was not taken.
func TestReaderThatFails(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	for i := range 3 {
		l.add(t, time.Hour, fmt.Sprint("b", i))
	}
	_ = l.Close()
	again, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	full := errors.New("the reader is full")
	var calls atomic.Int32
	err = again.Read(t.Context(), 0, func(revision uint64, _ []byte) error {
		if calls.Add(1); revision == 4 { // the last one
			return full
		}
		return nil
	}, func() { t.Error("a reader that fails at revision 4: got the log called whole, want it not called so") })
	if !errors.Is(err, full) || errors.Is(err, ErrDamaged) || calls.Load() != 4 {
		t.Errorf("Read ended with %v after %d batches, want %v after 4", err, calls.Load(), full)
	}
	if rev, err := again.Append(t.Context(), 4, time.Now().Add(time.Hour), []byte("b")); rev != 0 || err != nil {
		t.Errorf("append to a log that was read in part: revision %d, %v, want none", rev, err)
	}
}

// Read from a revision that the log does not reach is another log, or an older
// copy of it.
func TestReadBeyondTheEnd(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir()})
	last := l.add(t, time.Hour, "b")
	err := l.Read(t.Context(), last+1, func(uint64, []byte) error { return nil }, func() {})
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("reading on after revision %d of a log that ends at %d: %v, want %v", last+1, last, err, ErrDamaged)
	}
}

// A message that is not the batch that was written there is found out.
func TestFramesOfOtherPlaces(t *testing.T) {
	const log, revision = "this log", 7
	whole := (&frame{givenUp: 5, before: 3, noted: 2, body: []byte("body")}).encode(log, revision)
	change := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 1
		return b
	}
	for _, c := range []struct {
		name     string
		log      string
		revision uint64
		frame    []byte
		damaged  bool
	}{
		{"nothing", log, revision, nil, true},
		{"the header alone, cut by a byte", log, revision, whole[:headerSize-1], true},
		{"cut by a byte", log, revision, whole[:len(whole)-1], true},
		{"a byte more", log, revision, append(append([]byte(nil), whole...), 'x'), true},
		{"another revision", log, revision + 1, whole, true},
		{"another log", "another log", revision, whole, true},
		{"other magic", log, revision, change(0), true},
		{"a later format", log, revision, change(2), false},
		{"other hours given up", log, revision, change(8), true},
		{"another count", log, revision, change(19), true},
		{"another note", log, revision, change(27), true},
		{"another body", log, revision, change(headerSize), true},
	} {
		if _, err := decodeFrame(c.log, c.revision, c.frame); err == nil || errors.Is(err, ErrDamaged) != c.damaged {
			t.Errorf("%s: %v, want an error that says damage: %v", c.name, err, c.damaged)
		}
	}
	f, err := decodeFrame(log, revision, whole)
	if err != nil || f.givenUp != 5 || f.before != 3 || f.noted != 2 || string(f.body) != "body" {
		t.Errorf("the frame itself: got %+v, %v, want givenUp 5, before 3, noted 2 and its body", f, err)
	}
	for _, subject := range []string{"", "rescind.log.", "rescind.log.x", "rescind.log.-1", "rescind.log.4294967296", "rescind.audit.7"} {
		if hour, err := subjectHour(subject); !errors.Is(err, ErrDamaged) {
			t.Errorf("the subject %q is hour %d, %v, want %v", subject, hour, err, ErrDamaged)
		}
	}
}
