package intake

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/revocation/ledger"
	"rescind/test/eventually"
)

// Two nodes take events of one intake, and each reports those of both.
func TestReportsAreOfAllNodes(t *testing.T) {
	w := newWorld(t)
	a, b := w.door(nil), w.door(nil)
	onA, onB := NewDoors("a", w.shelf, a), NewDoors("b", w.shelf, b)
	w.wantState(a, w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("x"), Cutoff: w.clock.Now()}), Revoked)
	w.clock.Advance(time.Minute)
	w.wantState(b, w.event("e2", Act{Power: Subject, Issuer: idp, Claims: sub("y"), Cutoff: w.clock.Now()}), Revoked)
	b.Polled(3*time.Second, nil)
	w.hit(900)
	w.wantState(a, w.event("e3", Act{Power: Subject, Issuer: idp, Claims: sub("z"), Cutoff: w.clock.Now()}), Held)
	w.clock.Advance(time.Second)
	b.Polled(3*time.Second, errors.New("the sender answered 500"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running sync.WaitGroup
	for _, d := range []*Doors{onA, onB} {
		running.Go(func() { d.Run(ctx) })
	}
	for name, d := range map[string]*Doors{"a": onA, "b": onB} {
		eventually.True(t, "node "+name+" reports the events of both", func() bool {
			r := w.reports(d, &viewer)
			return len(r) == 1 && r[0].Counts["revoked"] == 2 && r[0].Counts["held"] == 1 && r[0].Held == 1 && r[0].LastEvent.Equal(begin.Add(time.Minute)) &&
				r[0].State == StateFailing && r[0].Error == "the sender answered 500" && r[0].Lag == 3*time.Second
		})
	}
	stop()
	running.Wait()
	for _, d := range []*Door{a, b} {
		if n := d.waiting.Load(); n != 1 {
			t.Errorf("the metric of held events: got %d, want 1 on each node", n)
		}
	}
	narrow := ledger.Caller{Name: "n", Roles: []ledger.Role{ledger.Viewer}, Issuers: []string{other}}
	if r := w.reports(onA, &narrow); len(r) != 0 {
		t.Errorf("a viewer of another issuer: got %+v, want no intake", r)
	}

	// A node that is gone for long counts no more.
	w.clock.Advance(8 * 24 * time.Hour)
	a.Polled(0, nil)
	if err := onA.share(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if r := w.reports(onA, &viewer); r[0].Counts["revoked"] != 1 || r[0].State != StateOK {
		t.Errorf("a week after the other node: got %+v, want the events of this one alone", r[0].Status)
	}
}

func (w *world) reports(d *Doors, c *ledger.Caller) []Report {
	w.t.Helper()
	all, err := d.Reports(context.Background(), c)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func TestIntakeWithoutEventsWaits(t *testing.T) {
	w := newWorld(t)
	if r := w.reports(NewDoors("a", w.shelf, w.door(nil)), &viewer); len(r) != 1 || r[0].State != StateWaiting {
		t.Errorf("got %+v, want it waiting", r)
	}
}

// The labels are names of the configuration and a fixed list.
func TestFiguresOfAnIntake(t *testing.T) {
	w := newWorld(t)
	figures := NewFigures()
	w.door(func(o *Options) { o.Name, o.Figures, o.Pulls = "poller", figures, true })
	d := w.door(func(o *Options) { o.Figures = figures })
	w.clock.Advance(5 * time.Second)
	e := w.event("e1", Act{Power: Subject, Issuer: idp, Claims: sub("x")})
	e.At = begin
	w.wantState(d, e, Revoked)
	w.wantState(d, e, Already)
	d.Turn(t.Context(), "192.0.2.1", errBroken)
	want := `
# HELP rescind_intake_held Events that wait until an operator releases or drops them, the same on all nodes.
# TYPE rescind_intake_held gauge
rescind_intake_held{intake="kc"} 0
rescind_intake_held{intake="poller"} 0
# HELP rescind_intake_lag_seconds How far behind its sender the intake was at the last event or poll on this node.
# TYPE rescind_intake_lag_seconds gauge
rescind_intake_lag_seconds{intake="kc"} 5
rescind_intake_lag_seconds{intake="poller"} 0
# HELP rescind_intake_last_event_timestamp_seconds When this node last took an event of the intake. 0: not since the start.
# TYPE rescind_intake_last_event_timestamp_seconds gauge
rescind_intake_last_event_timestamp_seconds{intake="kc"} 1.795503605e+09
rescind_intake_last_event_timestamp_seconds{intake="poller"} 0
# HELP rescind_intake_last_poll_timestamp_seconds When this node last polled the sender with success, for intakes that poll. 0: not since the start. One of the nodes polls.
# TYPE rescind_intake_last_poll_timestamp_seconds gauge
rescind_intake_last_poll_timestamp_seconds{intake="poller"} 0
`
	if err := testutil.CollectAndCompare(figures, strings.NewReader(want), "rescind_intake_held", "rescind_intake_lag_seconds",
		"rescind_intake_last_event_timestamp_seconds", "rescind_intake_last_poll_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	for outcome, n := range map[string]float64{"revoked": 1, "already": 1, "turned": 1, "failed": 0} {
		if got := testutil.ToFloat64(figures.events.WithLabelValues("kc", outcome)); got != n {
			t.Errorf("outcome %s: got %v, want %v", outcome, got, n)
		}
	}
	if n := testutil.CollectAndCount(figures, "rescind_intake_events_total"); n != 2*len(outcomes()) || !slices.Contains(outcomes(), "held") {
		t.Errorf("got %d series of outcomes, want %d", n, 2*len(outcomes()))
	}
}
