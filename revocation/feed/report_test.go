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
