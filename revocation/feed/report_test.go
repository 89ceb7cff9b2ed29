package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
	"rescind/test/eventually"
)

func alertOf(d insight.Detector, key string) insight.Alert {
	now := time.Now().UTC()
	return insight.Alert{Detector: d, Key: key, Summary: "seen", First: now, Last: now, Count: 1}
}

// desk is where alerts arrive.
type desk struct {
	mu   sync.Mutex
	fail error
	hold chan struct{} // not nil: nothing is kept before it is closed
	got  []string      // replica/key×count
	most int           // alerts in one message
}

func (d *desk) take(ctx context.Context, from Replica, alerts []insight.Alert) error {
	d.mu.Lock()
	hold := d.hold
	d.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail; err != nil {
		d.fail = nil
		return err
	}
	d.most = max(d.most, len(alerts))
	for _, a := range alerts {
		d.got = append(d.got, fmt.Sprintf("%s/%s×%d", from.Name, a.Key, a.Count))
	}
	return nil
}

func (d *desk) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func (d *desk) has(what string) func() bool {
	return func() bool { return slices.Contains(d.list(), what) }
}

// reporting is a replica that follows and reports.
func reporting(t testing.TB, name, addr string, o ReporterOptions) *Reporter {
	t.Helper()
	r := NewReporter(o)
	c := options(addr)
	c.Name, c.Reporter = name, r
	following(t, openFollower(t), c)
	return r
}

func TestAlertsAreTaken(t *testing.T) {
	d := &desk{}
	s := serve(t, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	a := reporting(t, "replica-a", s.addr, ReporterOptions{})
	b := reporting(t, "replica-b", s.addr, ReporterOptions{})
	for i := range 300 {
		a.Add(alertOf(insight.BadSignatures, fmt.Sprint("k", i)))
	}
	b.Add(alertOf(insight.RevokedTokenUsed, "x"))
	a.Flush(t.Context())
	b.Flush(t.Context())
	b.Flush(t.Context())
	if a.Reported().Taken != 300 || b.Reported().Taken != 1 {
		t.Errorf("%+v, %+v", a.Reported(), b.Reported())
	}
	if got := d.list(); len(got) != 301 || !slices.Contains(got, "replica-b/x×1") || d.most > maxAlerts {
		t.Errorf("%d alerts, at most %d at once", len(got), d.most)
	}
	if r := a.Reported(); r.Pending != 0 || r.Dropped != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAlertsWaitForTheControlEndpoint(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := reporting(t, "replica-a", lis.Addr().String(), ReporterOptions{})
	first := alertOf(insight.RevokedTokenUsed, "x")
	r.Add(first)
	later := first // the same thing again
	later.Count, later.Last = 5, first.Last.Add(time.Second)
	r.Add(later)
	if got := r.Reported(); got.Pending != 1 {
		t.Errorf("%+v", got)
	}
	d := &desk{fail: errors.New("the disk is full")}
	serveOn(t, lis, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	eventually.True(t, "it is told again", d.has("replica-a/x×6"))
	eventually.True(t, "it is taken", func() bool { return r.Reported() == Reported{Taken: 1} })
}

// What was kept, and the word of it lost, comes again; what came in between is
// not lost.
func TestAtLeastOnce(t *testing.T) {
	d := &desk{}
	s := serve(t, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	for seed := range uint64(3) {
		addr, cuts := cutter(t, s.addr, seed)
		r := reporting(t, fmt.Sprint("replica-", seed), addr, ReporterOptions{})
		for i := range 500 {
			r.Add(alertOf(insight.SubjectRate, fmt.Sprint("k", i)))
		}
		eventually.True(t, "all are taken", func() bool { return r.Reported().Taken == 500 })
		once := map[string]int{}
		for _, what := range d.list() {
			once[what]++
		}
		for i := range 500 {
			if what := fmt.Sprintf("replica-%d/k%d×1", seed, i); once[what] != 1 {
				t.Errorf("%s came %d times", what, once[what])
			}
		}
		t.Logf("cut %d times", cuts.Load())
	}
}

func TestTheOutboxIsBounded(t *testing.T) {
	r := NewReporter(ReporterOptions{})
	for i := range 10 {
		r.Add(alertOf(insight.RevokedTokenUsed, fmt.Sprint("early", i)))
	}
	for i := range 3 * maxPending {
		r.Add(alertOf(insight.BadSignatures, fmt.Sprint("flood", i)))
	}
	for i := range 10 {
		r.Add(alertOf(insight.RevokedTokenUsed, fmt.Sprint("late", i)))
	}
	if got := r.Reported(); got.Pending != maxPending || got.Dropped != 2*maxPending+20 {
		t.Errorf("%+v", got)
	}
	r.outbox.mu.Lock()
	defer r.outbox.mu.Unlock()
	for _, key := range []string{"early0", "early9", "late0", "late9", "flood0"} {
		if r.outbox.pending[key] == nil {
			t.Errorf("%s was washed away", key)
		}
	}
	if len(r.outbox.order) != maxPending {
		t.Errorf("%d in order", len(r.outbox.order))
	}
}

func echo(name string) func(string, []byte) ([]byte, error) {
	return func(kind string, query []byte) ([]byte, error) {
		switch kind {
		case "fail":
			return nil, errors.New("no such kind\n\x1b[2J")
		case "large":
			return make([]byte, maxReport), nil
		}
		return []byte(name + ":" + kind + ":" + string(query)), nil
	}
}

func TestAsk(t *testing.T) {
	l := &lines{}
	s := serve(t, newLog("log-1"), ServerOptions{Logger: l.logger()})
	if answers, asked, answered := s.Ask(t.Context(), "activity", nil); answers != nil || asked != 0 || answered != 0 {
		t.Errorf("without replicas: %q %d %d", answers, asked, answered)
	}
	following(t, openFollower(t), options(s.addr)) // one that does not report
	for _, name := range []string{"replica-b", "replica-c"} {
		reporting(t, name, s.addr, ReporterOptions{Answer: echo(name)})
	}
	eventually.True(t, "all are there", func() bool {
		_, asked, answered := s.Ask(t.Context(), "ping", nil)
		return asked == 3 && answered == 2
	})
	answers, asked, answered := s.Ask(t.Context(), "activity", []byte(`{"by":"sub"}`))
	var got []string
	for _, a := range answers {
		got = append(got, string(a))
	}
	slices.Sort(got)
	if asked != 3 || answered != 2 || !slices.Equal(got, []string{`replica-b:activity:{"by":"sub"}`, `replica-c:activity:{"by":"sub"}`}) {
		t.Errorf("%q, %d asked", got, asked)
	}
	for _, kind := range []string{"fail", "large", strings.Repeat("x", maxKind+1)} {
		if answers, asked, answered := s.Ask(t.Context(), kind, nil); len(answers) != 0 || asked != 3 || answered != 0 {
			t.Errorf("%.10s: %d %d", kind, asked, answered)
		}
	}
	if _, _, answered := s.Ask(t.Context(), "x", make([]byte, maxQuery+1)); answered != 0 {
		t.Error("a query beyond the bound was put")
	}
	var all sync.WaitGroup
	for range 4 * maxAsking {
		all.Go(func() { s.Ask(t.Context(), "ping", nil) })
	}
	all.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := strings.Join(l.all, ""); strings.ContainsRune(text, '\x1b') {
		t.Errorf("a replica writes into the log as it likes: %q", text)
	}
}

// A replica that does not answer a brief query holds it up for 100 ms, once. The
// replica is waited for again after it has answered something.
func TestLateReplicaIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		wire := &bus{hear: map[string]func(string, []byte){}}
		here, near := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		_, far := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		var hold atomic.Pointer[chan struct{}]
		slow := func(name string) func(string, []byte) ([]byte, error) {
			return func(string, []byte) ([]byte, error) {
				if c := hold.Load(); c != nil {
					<-*c
				}
				return []byte(name), nil
			}
		}
		for name, net := range map[string]*wires{"near": near, "far": far} {
			for _, r := range []*Reporter{NewReporter(ReporterOptions{Answer: echo("quick " + name)}), NewReporter(ReporterOptions{Answer: slow(name)})} {
				o := options("memory")
				o.Name, o.dial, o.Reporter = fmt.Sprintf("%s-%p", name, r), net.dial, r
				following(t, openFollower(t), o)
			}
		}
		time.Sleep(time.Second)
		ask := func(what string, wantAnswers int, wantTime time.Duration) {
			t.Helper()
			began := time.Now()
			_, asked, answered := here.AskBriefly(t.Context(), "ping", nil)
			if d := time.Since(began); asked != 4 || answered != wantAnswers || d != wantTime {
				t.Errorf("%s: got %d of %d answers after %v, want %d of 4 after %v", what, answered, asked, d, wantAnswers, wantTime)
			}
		}
		ask("all answer", 4, 0)
		stuck := make(chan struct{})
		hold.Store(&stuck)
		ask("two are stuck", 2, briefTime)
		for range 2 * maxAsking {
			began := time.Now()
			here.AskBriefly(t.Context(), "ping", nil)
			if d := time.Since(began); d != 0 {
				t.Fatalf("a replica that missed an answer is waited for again: got %v, want no wait", d)
			}
		}
		if _, _, answered := here.Ask(t.Context(), "ping", nil); answered != 2 {
			t.Errorf("a patient query: got %d answers, want the 2 of those that answer", answered)
		}
		hold.Store(nil)
		close(stuck)
		time.Sleep(time.Second) // the late answers arrive
		ask("the two are back", 4, 0)
		wire.cut("n2") // the other node says nothing any more, and is not lost yet
		ask("the other node is silent", 2, briefTime)
		ask("the other node is late", 2, 0)
	})
}

// Slow queries of people do not use up the room of brief ones.
func TestBriefQueriesHaveTheirOwnRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		stuck := make(chan struct{})
		for name, answer := range map[string]func(string, []byte) ([]byte, error){
			"stuck": func(string, []byte) ([]byte, error) { <-stuck; return nil, nil }, "quick": echo("quick"),
		} {
			o := options("memory")
			o.Name, o.dial, o.Reporter = name, net.dial, NewReporter(ReporterOptions{Answer: answer})
			following(t, openFollower(t), o)
		}
		synctest.Wait()
		var all sync.WaitGroup
		for range 2 * maxAsking {
			all.Go(func() { s.Ask(t.Context(), "slow", nil) })
		}
		synctest.Wait()
		if _, _, answered := s.AskBriefly(t.Context(), "ping", nil); answered != 1 {
			t.Errorf("beside %d slow queries: got %d answers, want the one of the quick replica", 2*maxAsking, answered)
		}
		close(stuck)
		all.Wait()
	})
}

// A replica that was lost moments ago makes a brief answer incomplete: the
// traffic that it saw is not known.
func TestLostReplicaCountsAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		o := options("memory")
		dial, sever := net.severable()
		o.Name, o.dial, o.Reporter = "replica-a", dial, NewReporter(ReporterOptions{Answer: echo("a")})
		following(t, openFollower(t), o)
		synctest.Wait()
		if _, asked, answered := s.AskBriefly(t.Context(), "ping", nil); asked != 1 || answered != 1 {
			t.Errorf("while it follows: got %d of %d answers, want 1 of 1", answered, asked)
		}
		sever()
		synctest.Wait()
		if _, asked, answered := s.AskBriefly(t.Context(), "ping", nil); asked != 1 || answered != 0 {
			t.Errorf("once it is lost: got %d of %d answers, want 0 of 1", answered, asked)
		}
		time.Sleep(lostTime + time.Second)
		if _, asked, _ := s.AskBriefly(t.Context(), "ping", nil); asked != 0 {
			t.Errorf("a minute later: got %d asked, want none", asked)
		}
	})
}

// A replica that does not answer costs a second, and its own answer alone.
func TestASlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{})
		release := make(chan struct{})
		start := func(name string, answer func(string, []byte) ([]byte, error)) {
			o := options("memory")
			o.Name, o.dial, o.Reporter = name, net.dial, NewReporter(ReporterOptions{Answer: answer})
			following(t, openFollower(t), o)
		}
		start("quick", echo("quick"))
		start("stuck", func(string, []byte) ([]byte, error) { <-release; return nil, nil })
		synctest.Wait()
		for range 2 * maxQueries {
			began := time.Now()
			answers, asked, answered := s.Ask(t.Context(), "ping", nil)
			if asked != 2 || answered != 1 || len(answers) != 1 || time.Since(began) > time.Second {
				t.Fatalf("%d of %d answered, after %v", answered, asked, time.Since(began))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		s.Ask(ctx, "ping", nil)
		if d := time.Since(began); d != 50*time.Millisecond {
			t.Errorf("it took %v, where 50 ms were allowed", d)
		}
		if a := s.WaitApplied(t.Context(), Wanted{Revision: log.revoke("alice")}); a.Applied != 2 {
			t.Errorf("the feed waits for an answer: %+v", a)
		}
		s.reports.mu.Lock()
		left := len(s.reports.pending)
		s.reports.mu.Unlock()
		if left != 0 {
			t.Errorf("%d queries are remembered", left)
		}
		close(release)
	})
}

// Alerts that cannot be kept for a while hold up nothing but themselves.
func TestTheFeedDoesNotWaitForReports(t *testing.T) {
	d := &desk{hold: make(chan struct{})}
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{OnAlerts: d.take})
	a := reporting(t, "replica-a", s.addr, ReporterOptions{Answer: echo("a")})
	b := reporting(t, "replica-b", s.addr, ReporterOptions{Answer: echo("b")})
	eventually.True(t, "both follow", func() bool { return len(s.Replicas()) == 2 })
	for i := range 5000 {
		a.Add(alertOf(insight.BadSignatures, fmt.Sprint("k", i)))
	}
	b.Add(alertOf(insight.BadSignatures, "k"))
	for i := range 50 {
		everywhere(t, s.Server, log.revoke(fmt.Sprint("user-", i)), 2)
	}
	close(d.hold)
	eventually.True(t, "the rest is taken", func() bool { return a.Reported().Pending == 0 && b.Reported().Taken == 1 })
}

// old is a control endpoint that knows nothing of reports.
type old struct {
	feedpb.UnimplementedFeedServer
	s *Server
}

func (o old) Follow(stream feedpb.Feed_FollowServer) error { return o.s.Follow(stream) }

func TestAnOldControlEndpoint(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := newLog("log-1")
	s := NewServer(log, ServerOptions{Tokens: tokens()})
	g := grpc.NewServer(s.Options()...)
	feedpb.RegisterFeedServer(g, old{s: s})
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	defer func() { s.Close(); g.Stop(); <-done }()
	l := &lines{}
	r := reporting(t, "replica-a", lis.Addr().String(), ReporterOptions{Logger: l.logger()})
	r.Add(alertOf(insight.BadSignatures, "k"))
	eventually.True(t, "it says so", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.all) > 0 })
	everywhere(t, s, log.revoke("alice"), 1)
	if !strings.Contains(l.all[0], "takes no alerts") || len(l.all) != 1 || r.Reported().Pending != 1 {
		t.Errorf("%q, %+v", l.all, r.Reported())
	}
}

// The last stream of a replica is the one that speaks for it.
func TestAReplicaThatReportsAgain(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	h := newHello("replica-a", "", 0)
	first := tell(t, s.addr, h)
	first.alerts(1)
	if n := first.hear().GetTaken().GetNumber(); n != 1 {
		t.Errorf("taken %d", n)
	}
	second := tell(t, s.addr, h)
	second.alerts(2)
	if _, err := first.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the first one: %v", err)
	}
	if n := second.hear().GetTaken().GetNumber(); n != 2 {
		t.Errorf("taken %d", n)
	}
}
