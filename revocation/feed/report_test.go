package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
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

func (d *desk) has(alert string) func() bool {
	return func() bool { return slices.Contains(d.list(), alert) }
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
		t.Errorf("after 300 alerts and 1 alert: reported %+v and %+v, want 300 and 1 taken", a.Reported(), b.Reported())
	}
	if got := d.list(); len(got) != 301 || !slices.Contains(got, "replica-b/x×1") || d.most > maxAlerts {
		t.Errorf("got %d alerts, at most %d in a message, replica-b/x×1 among them: %v; want 301, at most %d, true", len(got), d.most, slices.Contains(got, "replica-b/x×1"), maxAlerts)
	}
	if r := a.Reported(); r.Pending != 0 || r.Dropped != 0 {
		t.Errorf("after 300 alerts were taken: reported %+v, want none pending and none dropped", r)
	}
}

func TestAlertsWaitForTheControlEndpoint(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
	}
	r := reporting(t, "replica-a", lis.Addr().String(), ReporterOptions{})
	first := alertOf(insight.RevokedTokenUsed, "x")
	r.Add(first)
	later := first // the same thing again
	later.Count, later.Last = 5, first.Last.Add(time.Second)
	r.Add(later)
	if got := r.Reported(); got.Pending != 1 {
		t.Errorf("two alerts of one key: reported %+v, want 1 pending", got)
	}
	d := &desk{fail: errors.New("the disk is full")}
	serveOn(t, lis, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	eventually.True(t, "it is told again", d.has("replica-a/x×6"))
	eventually.True(t, "it is taken", func() bool { return r.Reported() == Reported{Taken: 1} })
}

// TestAtLeastOnce shows that no alert is lost when connections are cut at random,
// and that a repeated alert counts once.
func TestAtLeastOnce(t *testing.T) {
	d := &desk{}
	s := serve(t, newLog("log-1"), ServerOptions{OnAlerts: d.take})
	for seed := range uint64(3) {
		addr, cuts := flakyProxy(t, s.addr, seed)
		r := reporting(t, fmt.Sprint("replica-", seed), addr, ReporterOptions{})
		for i := range 500 {
			r.Add(alertOf(insight.SubjectRate, fmt.Sprint("k", i)))
		}
		eventually.True(t, "all are taken", func() bool { return r.Reported().Taken == 500 })
		once := map[string]int{}
		for _, alert := range d.list() {
			once[alert]++
		}
		for i := range 500 {
			if alert := fmt.Sprintf("replica-%d/k%d×1", seed, i); once[alert] != 1 {
				t.Errorf("seed %d: alert %s came %d times, want once", seed, alert, once[alert])
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
		t.Errorf("after %d alerts too many: reported %+v, want %d pending and %d dropped", 2*maxPending+20, got, maxPending, 2*maxPending+20)
	}
	r.outbox.mu.Lock()
	defer r.outbox.mu.Unlock()
	for _, key := range []string{"early0", "early9", "late0", "late9", "flood0"} {
		if r.outbox.pending[key] == nil {
			t.Errorf("after a flood of bad signatures: alert %s is dropped, want it pending", key)
		}
	}
	if len(r.outbox.order) != maxPending {
		t.Errorf("after a flood: got %d keys in order, want %d", len(r.outbox.order), maxPending)
	}
}

// TestTheFeedDoesNotWaitForReports shows that alerts that are not kept yet do not
// hold up the feed.
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
		t.Fatalf("listening on 127.0.0.1: got %v, want no error", err)
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
		t.Errorf("an old control endpoint: log lines %q and reported %+v, want one line that it takes no alerts, and 1 pending", l.all, r.Reported())
	}
}

// TestAReplicaThatReportsAgain shows that the last stream of a replica speaks for
// the replica.
func TestAReplicaThatReportsAgain(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	h := newHello("replica-a", "", 0)
	first := callReport(t, s.addr, h)
	first.alerts(1)
	if n := first.receive().GetTaken().GetNumber(); n != 1 {
		t.Errorf("the first stream: got Taken %d, want 1", n)
	}
	second := callReport(t, s.addr, h)
	second.alerts(2)
	if _, err := first.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the first stream after the second: got %v, want Aborted", err)
	}
	if n := second.receive().GetTaken().GetNumber(); n != 2 {
		t.Errorf("the second stream: got Taken %d, want 2", n)
	}
}
