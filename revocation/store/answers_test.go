package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestAnswersOfJetStream has each kind of answer that an append can get, in the
// log's own server and in a NATS elsewhere. A conflict is no error and no
// revision. Every other error says that the log takes no writes.
func TestAnswersOfJetStream(t *testing.T) {
	elsewhere := natsElsewhere(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	code := func(c jetstream.ErrorCode) error { return &jetstream.APIError{Code: 400, ErrorCode: c} }
	for name, o := range map[string]Options{
		"embedded":  {Dir: t.TempDir()},
		"elsewhere": {NATS: &NATS{URL: elsewhere.ClientURL(), Name: "n1"}},
	} {
		l := mustOpen(t, o)
		for _, c := range []struct {
			name     string
			err      error
			conflict bool
		}{
			{"wrong last sequence", code(jetstream.JSErrCodeStreamWrongLastSequence), true},
			{"wrong last sequence, in its other form", code(jetstream.JSErrCodeStreamWrongLastSequenceConstant), true},
			{"the store failed", code(jetstream.ErrorCode(server.JSStreamStoreFailedF)), false},
			{"no room", code(jetstream.ErrorCode(server.JSInsufficientResourcesErr)), false},
			{"sealed", code(jetstream.ErrorCode(server.JSStreamSealedErr)), false},
			{"no stream", code(jetstream.JSErrCodeStreamNotFound), false},
			{"not enabled", code(jetstream.JSErrCodeJetStreamNotEnabled), false},
		} {
			sent := 0
			l.withPublication(func(func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) { sent++; return nil, c.err })
			rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("b"))
			if rev != 0 || c.conflict != (err == nil) || errors.Is(err, ErrUnavailable) == c.conflict || sent != 1 {
				t.Errorf("%s: %s: got revision %d, %v after %d attempts, want a conflict: %v, after 1", name, c.name, rev, err, sent, c.conflict)
			}
			if state := l.Err(); c.conflict && state != nil {
				t.Errorf("%s: %s: got that the log takes no writes: %v, want that it does", name, c.name, state)
			}
			var api *jetstream.APIError
			if !c.conflict && (!errors.As(err, &api) || errors.Is(err, ErrDamaged)) {
				t.Errorf("%s: %s: got %v, want an error that has the answer and no damage in it", name, c.name, err)
			}
			l.withPublication(func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) { return publish() })
			l.add(t, time.Hour, "the append after it")
		}
	}
}

// TestAnswersOfANATSElsewhereThatAreLost loses the first acknowledgement, or has
// an election begin. The message is sent again and counts once.
func TestAnswersOfANATSElsewhereThatAreLost(t *testing.T) {
	elsewhere := natsElsewhere(t, &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true})
	l := mustOpen(t, Options{NATS: &NATS{URL: elsewhere.ClientURL(), Name: "n1"}})
	lost := func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		l.withPublication(func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) { return publish() })
		if _, err := publish(); err != nil {
			t.Errorf("the first attempt: got %v, want no error", err)
		}
		return nil, context.DeadlineExceeded
	}
	l.withPublication(lost)
	first, err := l.Note(t.Context(), 0, []byte("a note"))
	if first != 1 || err != nil {
		t.Errorf("a note without its first acknowledgement: got number %d, %v, want 1", first, err)
	}
	l.add(t, time.Hour, "b")
	if notes := l.listed(t); len(notes) != 2 {
		t.Errorf("after two notes: got the notes %q, want 2", notes)
	}

	l.withPublication(lost)
	rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("once"))
	if rev != 0 || err != nil {
		t.Errorf("an append without its first acknowledgement: got revision %d, %v, want no revision, so that the caller reads on", rev, err)
	}
	if rev, err := l.put(t, "after"); rev != l.head+2 || err != nil {
		t.Errorf("the append after that: got revision %d, %v, want %d", rev, err, l.head+2)
	}
	again := mustOpen(t, Options{NATS: &NATS{URL: elsewhere.ClientURL(), Name: "n2"}})
	if want := []string{"2:b", "3:once", "4:after"}; !slices.Equal(again.got, want) {
		t.Errorf("another node: got %q, want %q", again.got, want)
	}

	attempts := 0
	l.withPublication(func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error) {
		if attempts++; attempts < 3 {
			return nil, &jetstream.APIError{ErrorCode: noQuorum}
		}
		return publish()
	})
	if rev, err := l.put(t, "elected"); rev != l.head+3 || err != nil || attempts != 3 {
		t.Errorf("an append during an election: got revision %d, %v after %d attempts, want %d after 3", rev, err, attempts, l.head+3)
	}
	if err := l.Err(); err != nil {
		t.Errorf("after the election: got %v, want that the log takes writes", err)
	}
}

// jetStreamOf is JetStream with a publication of the test's own.
type jetStreamOf struct {
	jetstream.JetStream
	publication func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)
}

func (j *jetStreamOf) PublishMsg(ctx context.Context, m *nats.Msg, o ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	return j.publication(func() (*jetstream.PubAck, error) { return j.JetStream.PublishMsg(ctx, m, o...) })
}

// withPublication makes the log publish as publication does, which may call
// publish.
func (o *opened) withPublication(publication func(publish func() (*jetstream.PubAck, error)) (*jetstream.PubAck, error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	js := o.conn.js
	if own, ok := js.(*jetStreamOf); ok {
		js = own.JetStream
	}
	o.conn.js = &jetStreamOf{js, publication}
}

// streamOf is a stream that reports a state of the test's own.
type streamOf struct {
	jetstream.Stream
	info *jetstream.StreamInfo
	err  error
}

func (s streamOf) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return s.info, s.err
}

// TestAgreementNeedsAMajority has the states in which a leader may report
// itself. A leader that has heard no majority knows nothing of the present.
func TestAgreementNeedsAMajority(t *testing.T) {
	peer := func(active time.Duration) *jetstream.PeerInfo { return &jetstream.PeerInfo{Active: active} }
	offline := &jetstream.PeerInfo{Active: time.Second, Offline: true}
	for _, c := range []struct {
		name   string
		leader string
		peers  []*jetstream.PeerInfo
		age    time.Duration // -1: no majority
	}{
		{"alone", "n1", nil, 0},
		{"two of three", "n1", []*jetstream.PeerInfo{peer(time.Second), peer(time.Hour)}, time.Second},
		{"two of three, in the other order", "n1", []*jetstream.PeerInfo{peer(time.Hour), peer(time.Second)}, time.Second},
		{"three of three", "n1", []*jetstream.PeerInfo{peer(2 * time.Second), peer(time.Second)}, time.Second},
		{"one of three", "n1", []*jetstream.PeerInfo{peer(heartbeatLimit), peer(time.Hour)}, -1},
		{"three of five", "n1", []*jetstream.PeerInfo{peer(time.Hour), peer(2 * time.Second), peer(time.Hour), peer(time.Second)}, 2 * time.Second},
		{"two of five", "n1", []*jetstream.PeerInfo{peer(time.Hour), peer(time.Second), peer(time.Hour), peer(time.Hour)}, -1},
		{"one of two", "n1", []*jetstream.PeerInfo{peer(time.Hour)}, -1},
		{"offline", "n1", []*jetstream.PeerInfo{offline, offline}, -1},
		{"not heard yet", "n1", []*jetstream.PeerInfo{peer(0), peer(0)}, -1},
		{"heard in the future", "n1", []*jetstream.PeerInfo{peer(-time.Second), peer(-time.Second)}, -1},
		{"no leader", "", []*jetstream.PeerInfo{peer(time.Second), peer(time.Second)}, -1},
	} {
		info := &jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: 7}, Cluster: &jetstream.ClusterInfo{Leader: c.leader, Replicas: c.peers}}
		before := time.Now()
		got, err := askLeader(t.Context(), streamOf{info: info})
		after := time.Now()
		switch {
		case c.age < 0 && !errors.Is(err, errNoMajority):
			t.Errorf("%s: got %+v, %v, want %v", c.name, got.agreement, err, errNoMajority)
		case c.age >= 0 && (err != nil || got.head != 7 || got.at.Before(before.Add(-c.age)) || got.at.After(after.Add(-c.age))):
			t.Errorf("%s: got revision %d at %v, %v, want 7 at %v before now", c.name, got.head, got.at, err, c.age)
		}
	}
	if got, err := askLeader(t.Context(), streamOf{err: context.DeadlineExceeded}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: got %+v, %v, want %v", got.agreement, err, context.DeadlineExceeded)
	}
}

// TestAuditsThatAreDamaged has the states of the audit stream that the log
// refuses.
func TestAuditsThatAreDamaged(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir()})
	l.add(t, time.Hour, "b") // revision 2, note 1 covers it
	l.add(t, time.Hour, "c")
	audit := l.conn.audit
	own := map[string]uint64{l.auditSubject(): 2}
	for _, c := range []struct {
		name    string
		head    uint64
		state   jetstream.StreamState
		damaged bool
	}{
		{"as it is", 3, jetstream.StreamState{Msgs: 2, FirstSeq: 1, LastSeq: 2, Subjects: own}, false},
		{"empty", 3, jetstream.StreamState{}, false},
		{"the oldest notes are gone", 3, jetstream.StreamState{Msgs: 2, FirstSeq: 8, LastSeq: 9, Subjects: own}, false},
		{"a note in the middle is gone", 3, jetstream.StreamState{Msgs: 2, FirstSeq: 1, LastSeq: 3, Subjects: own}, true},
		{"a note is deleted", 3, jetstream.StreamState{Msgs: 2, FirstSeq: 1, LastSeq: 2, NumDeleted: 1, Subjects: own}, true},
		{"it acknowledges a later revision", 2, jetstream.StreamState{Msgs: 2, FirstSeq: 1, LastSeq: 2, Subjects: own}, true},
	} {
		conn := &connection{audit: streamOf{Stream: audit, info: &jetstream.StreamInfo{State: c.state}}}
		if err := l.inspectAudit(t.Context(), conn, c.head); errors.Is(err, ErrDamaged) != c.damaged || !c.damaged && err != nil {
			t.Errorf("%s: got %v, want damage: %v", c.name, err, c.damaged)
		}
	}
	if err := l.inspectAudit(t.Context(), &connection{audit: streamOf{err: context.DeadlineExceeded}}, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: got %v, want %v", err, context.DeadlineExceeded)
	}
	for noted, damaged := range map[uint64]bool{1: false, 2: false, 3: true} {
		if err := l.auditReaches(noted); errors.Is(err, ErrDamaged) != damaged || !damaged && err != nil {
			t.Errorf("a batch names note %d of 2: got %v, want damage: %v", noted, err, damaged)
		}
	}
	for first, want := range map[uint64]uint64{1: 0, 2: math.MaxUint64} {
		conn := &connection{audit: streamOf{Stream: audit, info: &jetstream.StreamInfo{State: jetstream.StreamState{FirstSeq: first}}}}
		other := &Log{id: l.id, writer: "another writer"}
		if covered, err := other.notedBy(t.Context(), conn); covered != want || err != nil {
			t.Errorf("a writer without notes, in an audit that begins at %d: got %d, %v, want %d", first, covered, err, want)
		}
	}
}

// TestHoursOfBatches shows at which instant a batch may go, by plain arithmetic: a
// batch is never given up while it is wanted, and not for much longer.
func TestHoursOfBatches(t *testing.T) {
	hour := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		lasts time.Time
		ends  time.Time // of the hour
	}{
		{hour, hour.Add(time.Hour)},
		{hour.Add(time.Nanosecond), hour.Add(time.Hour)},
		{hour.Add(time.Hour - time.Nanosecond), hour.Add(time.Hour)},
		{hour.Add(time.Hour), hour.Add(2 * time.Hour)},
	} {
		if got := time.Unix(int64(hourOf(c.lasts))*3600, 0).UTC(); !got.Equal(c.ends) {
			t.Errorf("a batch that lasts until %v: got that its hour ends at %v, want %v", c.lasts, got, c.ends)
		}
	}
	l := mustOpen(t, Options{Dir: t.TempDir()})
	own := hourOf(time.Now().Add(-margin))
	begin := time.Now().Truncate(time.Hour).Add(5 * time.Hour)
	l.add(t, time.Until(begin)+time.Minute, "b") // lasts into the hour that ends an hour after begin
	goes := begin.Add(time.Hour + margin)
	for _, c := range []struct {
		now  time.Time
		head uint64
	}{{goes.Add(-time.Second), 2}, {goes, 3}, {goes.Add(time.Minute), 3}} {
		l.mu.Lock()
		delete(l.accounting.hours, own) // the log's own first revision, which goes earlier
		l.mu.Unlock()
		if err := l.Expire(t.Context(), c.now); err != nil || l.Last() != c.head {
			t.Errorf("Expire %v after the hour's end: got revision %d, %v, want %d", c.now.Sub(begin.Add(time.Hour)), l.Last(), err, c.head)
		}
	}
	info, err := l.conn.batches.Info(t.Context(), jetstream.WithSubjectFilter(batchSubjects+"*"))
	if err != nil || info.State.Subjects[hourSubject(hourOf(begin))] != 0 || info.State.Subjects[hourSubject(hourOf(begin)+1)] != 1 {
		t.Errorf("after the hour: got the hours %v, %v, want hour %d gone and the note of that in the next", info.State.Subjects, err, hourOf(begin))
	}
}

// TestTheLargestBatchSurvives appends a batch and a note of the largest size. The
// log reads both after a restart, also where it has to find them without an index.
func TestTheLargestBatchSurvives(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	for _, size := range []int{l.MaxBody() + 1, 2 * l.MaxBody()} {
		if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), make([]byte, size)); rev != 0 || !errors.Is(err, ErrTooLarge) {
			t.Errorf("a batch of %d bytes: got revision %d, %v, want %v", size, rev, err, ErrTooLarge)
		}
		if n, err := l.Note(t.Context(), 0, make([]byte, size)); n != 0 || !errors.Is(err, ErrTooLarge) {
			t.Errorf("a note of %d bytes: got number %d, %v, want %v", size, n, err, ErrTooLarge)
		}
	}
	largest := bytes.Repeat([]byte("x"), l.MaxBody())
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), largest); rev != 2 || err != nil {
		t.Fatalf("a batch of %d bytes: got revision %d, %v, want 2", len(largest), rev, err)
	}
	l.head = 2
	l.add(t, time.Hour, "after")
	_ = l.Close()
	remove(t, filepath.Join(stream(t, dir, batchStream), "msgs", "index.db"))
	l = mustOpen(t, Options{Dir: dir})
	if len(l.got) != 2 || l.got[0] != fmt.Sprintf("2:%s", largest) || l.got[1] != "3:after" {
		t.Errorf("after a restart: got %d batches, want the largest and the one after", len(l.got))
	}
}
