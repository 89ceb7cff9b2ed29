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

// teller is a replica that reports, by hand.
type teller struct {
	feedpb.Feed_ReportClient
	t testing.TB
}

func tell(t testing.TB, addr string, h *feedpb.Hello) *teller {
	t.Helper()
	ctx, cancel := context.WithCancel(withToken(context.Background(), secret))
	t.Cleanup(cancel)
	client := feedpb.NewFeedClient(dial(t, addr))
	follow, err := client.Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = follow.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}})
	_, _ = follow.Recv() // the greeting, or the refusal of a hello that the report is refused for too
	stream, err := client.Report(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := &teller{stream, t}
	r.say(&feedpb.ReplicaMessage{Kind: &feedpb.ReplicaMessage_Hello{Hello: h}})
	return r
}

func (r *teller) say(m *feedpb.ReplicaMessage) {
	r.t.Helper()
	if err := r.Send(m); err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
}

func (r *teller) alerts(number uint64, alerts ...string) {
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

func (r *teller) hear() *feedpb.ControlMessage {
	r.t.Helper()
	m, err := r.Recv()
	if err != nil {
		r.t.Fatal(err)
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
		r := tell(t, s.addr, c.hello)
		for _, m := range c.messages {
			r.say(m)
		}
		var err error
		for err == nil {
			_, err = r.Recv()
		}
		if status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// what cannot be read is taken: it would be no better the next time
	r := tell(t, s.addr, hello)
	r.alerts(7, "", "{", `{"key":7}`, `{"key":"a","key":"b"}`, "{\"key\":\"\xff\"}", `{"key":"`+string(make([]byte, maxAlert))+`"}`, `{"key":"good","later":"unknown"}`)
	if n := r.hear().GetTaken().GetNumber(); n != 7 {
		t.Errorf("taken %d", n)
	}
	if got := d.list(); len(got) != 1 || got[0] != "replica-x/good×0" {
		t.Errorf("%q", got)
	}
	// answers that nobody asked for, and two for one
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
			t.Errorf("%d of %d answered", answered, asked)
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
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := mute.Recv(); status.Code(err) != codes.DeadlineExceeded || time.Since(began) != helloTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// A replica that does not read what it is told is dropped, and waits for
// nobody but itself until then.
func TestAReplicaThatDoesNotRead(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	deaf := tell(t, s.addr, newHello("deaf", "", 0))
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
		t.Errorf("%d of %d answered", answered, asked)
	}
}

// scripted is a stream of a replica that says what it was given.
type scripted struct {
	feedpb.Feed_ReportServer
	ctx  context.Context
	next func() (*feedpb.ReplicaMessage, error)
}

func (s *scripted) Context() context.Context              { return s.ctx }
func (s *scripted) Recv() (*feedpb.ReplicaMessage, error) { return s.next() }
func (s *scripted) Send(*feedpb.ControlMessage) error     { return nil }

// Whatever a replica sends, the server does not panic, keeps nothing beyond its
// bounds, and remembers no replica that is gone.
func FuzzReport(f *testing.F) {
	seed := func(messages ...*feedpb.ReplicaMessage) {
		var b []byte
		for _, m := range messages {
			one, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
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
		f.Fatal(err)
	}
	if _, err := s.replicas.join(arrival{identity: id}, &session{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var sent int
		s.reports.onAlerts = func(_ context.Context, from Replica, alerts []insight.Alert) error {
			if from.Name != "replica-a" || len(alerts) > maxAlerts {
				t.Errorf("%d alerts of %q, want at most %d of replica-a", len(alerts), from.Name, maxAlerts)
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
			t.Fatal("it does not end")
		}
		if n := len(s.reports.all); n != 0 {
			t.Fatalf("%d replicas are remembered after %d messages", n, sent)
		}
	})
}

// Whatever the control endpoint says, the replica keeps what was not taken.
func FuzzControlMessage(f *testing.F) {
	for _, m := range []*feedpb.ControlMessage{
		{Kind: &feedpb.ControlMessage_Taken{Taken: &feedpb.Taken{Number: 1}}},
		{Kind: &feedpb.ControlMessage_Query{Query: &feedpb.Query{Id: 1, Kind: "activity", Query: []byte("{}")}}},
		{},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
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
			t.Error(err)
		}
		answers := make(chan *feedpb.Answer, maxQueries)
		r.work(t.Context(), queries, answers)
		if q := m.GetQuery(); q != nil && (<-answers).Id != q.Id {
			t.Error("the answer is to another query")
		}
		if got := r.Reported(); (got.Taken == 1) != (m.GetTaken().GetNumber() >= 1) || got.Taken+uint64(got.Pending) != 1 {
			t.Errorf("%+v after %v", got, &m)
		}
	})
}

// dictated is a stream of a control endpoint that says what it was given.
type dictated struct {
	feedpb.Feed_ReportClient
	next func() (*feedpb.ControlMessage, error)
}

func (d *dictated) Recv() (*feedpb.ControlMessage, error) { return d.next() }
