package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
	"rescind/test/eventually"
)

// rawReporter is a replica that reports, by hand.
type rawReporter struct {
	feedpb.Feed_ReportClient
	t testing.TB
}

func callReport(t testing.TB, addr string, h *feedpb.Hello) *rawReporter {
	t.Helper()
	ctx, cancel := context.WithCancel(withToken(context.Background(), secret))
	t.Cleanup(cancel)
	client := feedpb.NewFeedClient(dial(t, addr))
	follow, err := client.Follow(ctx)
	if err != nil {
		t.Fatalf("opening a Follow stream to %s: got %v, want no error", addr, err)
	}
	_ = follow.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}})
	_, _ = follow.Recv() // the greeting, or the refusal of a hello that the report is refused for too
	stream, err := client.Report(ctx)
	if err != nil {
		t.Fatalf("opening a Report stream to %s: got %v, want no error", addr, err)
	}
	r := &rawReporter{stream, t}
	r.say(&feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Hello{Hello: h}})
	return r
}

func (r *rawReporter) say(m *feedpb.ReplicaMessage) {
	r.t.Helper()
	if err := r.Send(m); err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatalf("sending %v: got %v, want no error", m, err)
	}
}

func (r *rawReporter) alerts(number uint64, alerts ...string) {
	r.t.Helper()
	r.say(newAlerts(number, alerts...))
}

func newAlerts(number uint64, alerts ...string) *feedpb.ReplicaMessage {
	m := &feedpb.Alerts{Number: number}
	for _, a := range alerts {
		m.Alerts = append(m.Alerts, []byte(a))
	}
	return &feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Alerts{Alerts: m}}
}

func newAnswer(id uint64, answer string) *feedpb.ReplicaMessage {
	return &feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Answer{Answer: &feedpb.Answer{Id: id, Answer: []byte(answer)}}}
}

func (r *rawReporter) receive() *feedpb.ControlMessage {
	r.t.Helper()
	m, err := r.Recv()
	if err != nil {
		r.t.Fatalf("receiving the next message: got %v, want a message", err)
	}
	return m
}

func TestReportsThatDoNotFit(t *testing.T) {
	d := &desk{}
	s := serve(t, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	good := reporting(t, "replica-a", s.addr, ReporterOptions{Answer: echo("a")})
	hello := newHello("replica-x", "", 0)
	for name, c := range map[string]struct {
		hello    *feedpb.Hello
		messages []*feedpb.ReplicaMessage
		want     codes.Code
	}{
		"no name":          {newHello("", "", 0), nil, codes.InvalidArgument},
		"a line feed":      {newHello("a\nb", "", 0), nil, codes.InvalidArgument},
		"no instance":      {&feedpb.Hello{Name: "a"}, nil, codes.InvalidArgument},
		"nothing":          {hello, []*feedpb.ReplicaMessage{{}}, codes.InvalidArgument},
		"a second hello":   {hello, []*feedpb.ReplicaMessage{{Kind: &feedpb.ReplicaMessage_Hello{Hello: hello}}}, codes.InvalidArgument},
		"too many at once": {hello, []*feedpb.ReplicaMessage{newAlerts(1, make([]string, maxAlerts+1)...)}, codes.InvalidArgument},
		"too large":        {hello, []*feedpb.ReplicaMessage{newAnswer(1, string(make([]byte, maxReport)))}, codes.ResourceExhausted},
	} {
		r := callReport(t, s.addr, c.hello)
		for _, m := range c.messages {
			r.say(m)
		}
		var err error
		for err == nil {
			_, err = r.Recv()
		}
		if status.Code(err) != c.want {
			t.Errorf("a report with %s: got %v, want %v", name, err, c.want)
		}
	}
	// Unreadable alerts are acknowledged, because they would be as unreadable the next time.
	r := callReport(t, s.addr, hello)
	r.alerts(7, "", "{", `{"key":7}`, `{"key":"a","key":"b"}`, "{\"key\":\"\xff\"}", `{"key":"`+string(make([]byte, maxAlert))+`"}`, `{"key":"good","later":"unknown"}`)
	if n := r.receive().GetTaken().GetNumber(); n != 7 {
		t.Errorf("after alerts of which one is readable: got Taken %d, want 7", n)
	}
	if got := d.list(); len(got) != 1 || got[0] != "replica-x/good×0" {
		t.Errorf("kept alerts: got %q, want replica-x/good×0 alone", got)
	}
	// The replica sends answers that no query asked for, and two answers to one query.
	go func() {
		for {
			m, err := r.Recv()
			if err != nil {
				return
			}
			for range 2 {
				_ = r.Send(newAnswer(m.GetQuery().GetId(), "x"))
			}
			_ = r.Send(newAnswer(m.GetQuery().GetId()+1, "x"))
		}
	}()
	for range 10 {
		if _, asked, answered := s.Ask(t.Context(), "ping", nil); asked != 2 || answered != 2 {
			t.Errorf("beside answers that no query asked for: got %d of %d answers, want 2 of 2", answered, asked)
		}
	}
	good.Add(alertOf(insight.BadSignatures, "k"))
	eventually.True(t, "the others go on", func() bool { return good.Reported().Taken == 1 })
}

func TestNoHelloToAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		conn, _ := net.connect(t)
		mute, err := feedpb.NewFeedClient(conn).Report(withToken(t.Context(), secret))
		if err != nil {
			t.Fatalf("opening a Report stream: got %v, want no error", err)
		}
		began := time.Now()
		if _, err := mute.Recv(); status.Code(err) != codes.DeadlineExceeded || time.Since(began) != helloTimeout {
			t.Errorf("a stream without a hello: got %v after %v, want DeadlineExceeded after %v", err, time.Since(began), helloTimeout)
		}
	})
}

// TestAReplicaThatDoesNotRead shows that a replica that does not read its stream
// holds up no other replica.
func TestAReplicaThatDoesNotRead(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	deaf := callReport(t, s.addr, newHello("deaf", "", 0))
	deaf.alerts(1)
	good := reporting(t, "replica-a", s.addr, ReporterOptions{Answer: echo("a")})
	query := make([]byte, maxQuery)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	for range 50 {
		s.Ask(ctx, "ping", query)
	}
	good.Add(alertOf(insight.BadSignatures, "k"))
	eventually.True(t, "the others go on", func() bool { return good.Reported().Taken == 1 })
	if _, asked, answered := s.Ask(t.Context(), "ping", nil); asked != 2 || answered != 1 {
		t.Errorf("beside a replica that does not read: got %d of %d answers, want 1 of 2", answered, asked)
	}
}

// scripted is a stream of a replica that sends the messages of next.
type scripted struct {
	feedpb.Feed_ReportServer
	ctx  context.Context
	next func() (*feedpb.ReplicaMessage, error)
}

func (s *scripted) Context() context.Context              { return s.ctx }
func (s *scripted) Recv() (*feedpb.ReplicaMessage, error) { return s.next() }
func (s *scripted) Send(*feedpb.ControlMessage) error     { return nil }

// FuzzReport shows that no message of a replica makes the server panic, keep alerts
// beyond its bounds, or remember a replica that is gone.
func FuzzReport(f *testing.F) {
	seed := func(messages ...*feedpb.ReplicaMessage) {
		var b []byte
		for _, m := range messages {
			one, err := proto.Marshal(m)
			if err != nil {
				f.Fatalf("encoding the seed %v: got %v, want no error", m, err)
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(one))), one...)
		}
		f.Add(b)
	}
	h := &feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Hello{Hello: newHello("replica-a", "", 0)}}
	seed(h, newAlerts(1, `{"detector":"subject_rate","key":"k","first":"2026-11-24T07:00:00Z","count":3}`), newAnswer(1, "x"))
	seed(h, newAlerts(1, "{"), newAnswer(2, ""))
	seed(newAnswer(1, "x"))
	s := NewServer(newLog("log-1"), ServerOptions{Tokens: tokens()})
	f.Cleanup(s.Close)
	id, err := identityOf("replicas", h.GetHello())
	if err != nil {
		f.Fatalf("identityOf(%v): got %v, want no error", h.GetHello(), err)
	}
	if _, err := s.replicas.join(arrival{identity: id}, &session{}); err != nil {
		f.Fatalf("joining as %s: got %v, want no error", id.name, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var sent int
		s.reports.onAlerts = func(_ context.Context, from Replica, alerts []insight.Alert) error {
			if from.Name != "replica-a" || len(alerts) > maxAlerts {
				t.Errorf("got %d alerts of %q, want at most %d of replica-a", len(alerts), from.Name, maxAlerts)
			}
			return nil
		}
		stream := &scripted{ctx: context.WithValue(t.Context(), tokenKey{}, "replicas"), next: func() (*feedpb.ReplicaMessage, error) {
			if len(b) < 2 {
				return nil, io.EOF
			}
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			var m feedpb.ReplicaMessage
			err := proto.Unmarshal(b[2:2+n], &m)
			b = b[2+n:]
			sent++
			return &m, err
		}}
		done := make(chan error, 1)
		go func() { done <- s.Report(stream) }()
		s.Ask(t.Context(), "ping", nil)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("10s after the last message: Report goes on, want it to end with its stream")
		}
		if n := len(s.reports.all); n != 0 {
			t.Fatalf("after %d messages: got %d replicas remembered, want none", sent, n)
		}
	})
}

// FuzzControlMessage shows that no message of the control endpoint makes the
// replica lose an alert that was not taken.
func FuzzControlMessage(f *testing.F) {
	for _, m := range []*feedpb.ControlMessage{
		{Kind: &feedpb.ControlMessage_Taken{Taken: &feedpb.Taken{Number: 1}}},
		{Kind: &feedpb.ControlMessage_Query{Query: &feedpb.Query{Id: 1, Kind: "activity", Query: []byte("{}")}}},
		{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatalf("encoding the seed %v: got %v, want no error", m, err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m feedpb.ControlMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		r := NewReporter(ReporterOptions{Answer: echo("a")})
		r.Add(alertOf(insight.BadSignatures, "k"))
		r.outbox.next()
		heard := false
		queries := make(chan *feedpb.Query, maxQueries)
		stream := &dictated{next: func() (*feedpb.ControlMessage, error) {
			if heard {
				return nil, io.EOF
			}
			heard = true
			return &m, nil
		}}
		if err := r.receive(stream, queries); !errors.Is(err, errEnded) {
			t.Errorf("receiving %v: got %v, want errEnded", &m, err)
		}
		answers := make(chan *feedpb.Answer, maxQueries)
		r.work(t.Context(), queries, answers)
		if q := m.GetQuery(); q != nil {
			if a := <-answers; a.Id != q.Id {
				t.Errorf("query %v: got an answer to query %d, want %d", q, a.Id, q.Id)
			}
		}
		if got := r.Reported(); (got.Taken == 1) != (m.GetTaken().GetNumber() >= 1) || got.Taken+uint64(got.Pending) != 1 {
			t.Errorf("after %v: reported %+v, want one alert, taken only from number 1 on", &m, got)
		}
	})
}

// dictated is a stream of a control endpoint that sends the messages of next.
type dictated struct {
	feedpb.Feed_ReportClient
	next func() (*feedpb.ControlMessage, error)
}

func (d *dictated) Recv() (*feedpb.ControlMessage, error) { return d.next() }
