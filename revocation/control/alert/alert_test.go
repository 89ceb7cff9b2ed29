package alert

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/revocation/insight"
	"rescind/test/eventually"
)

func TestOneKeyIsOneAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &told{}
		in := open(t, Options{Targets: []Target{d.target("a")}})
		first := alertOf(insight.RevokedTokenUsed, "k")
		first.Networks = []string{"10.0.0.0/24"}
		take(t, in, "replica-b", first)
		synctest.Wait()
		again := alertOf(insight.RevokedTokenUsed, "k")
		again.Count, again.Networks = 4, []string{"10.1.0.0/24"}
		take(t, in, "replica-a", again, alertOf(insight.SubjectRate, "other"))
		p := in.List(Query{Limit: 10})
		if got := p.Items[1]; len(p.Items) != 2 || got.Count != 5 || fmt.Sprint(got.Replicas, got.Networks) != "[replica-a replica-b] [10.0.0.0/24 10.1.0.0/24]" {
			t.Errorf("one key of two replicas: got %+v, want 2 alerts, the second with 5 sightings of both replicas and networks", p.Items)
		}
		id := p.Items[1].ID
		time.Sleep(DefaultWindow) // the next window
		take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k"))
		synctest.Wait()
		p = in.List(Query{Limit: 10})
		if len(p.Items) != 3 || p.Items[0].ID == id || p.Items[0].Count != 1 {
			t.Errorf("the same key in the next window: got %+v, want a third alert with another ID and 1 sighting", p.Items)
		}
		if got, want := d.list(), []string{"k×1", "other×1", "k×1"}; !slices.Equal(got, want) {
			t.Errorf("three alerts: the target was told %q, want %q", got, want)
		}
	})
}

// TestIDsFollowFromKeyAndWindow compares two nodes: both give an alert one ID.
func TestIDsFollowFromKeyAndWindow(t *testing.T) {
	a := alertOf(insight.RevokedTokenUsed, "k")
	one, two := open(t, Options{}), open(t, Options{})
	take(t, one, "x", alertOf(insight.SubjectRate, "o"), a)
	take(t, two, "y", a)
	if a, b := one.List(Query{Limit: 1}).Items[0].ID, two.List(Query{Limit: 1}).Items[0].ID; a != b || !strings.HasPrefix(a, "a") {
		t.Errorf("one alert in two inboxes: got the IDs %s and %s, want one ID that begins with a", a, b)
	}
}

// TestHeardOf hears of an alert that another node keeps. This node lists the
// alert, and the other node delivers it.
func TestHeardOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	d := &told{}
	in := open(t, Options{File: file, Targets: []Target{d.target("a")}})
	in.TakeFromNode("replica-x", []insight.Alert{alertOf(insight.SubjectRate, "k"), alertOf("made_up", "y")})
	take(t, in, "replica-a", alertOf(insight.SubjectRate, "k"), alertOf(insight.SubjectRate, "z"))
	p := in.List(Query{Limit: 10})
	if len(p.Items) != 2 || p.Items[1].Count != 2 || fmt.Sprint(p.Items[1].Replicas) != "[replica-a replica-x]" {
		t.Errorf("an alert heard of and reported, and one made up: got %+v, want 2 alerts, the second with 2 sightings of both replicas", p.Items)
	}
	eventually.True(t, "the target has an alert", func() bool { return len(d.list()) > 0 })
	in.Close()
	if got := d.list(); !slices.Equal(got, []string{"z×1"}) {
		t.Errorf("an alert that another node keeps and one of this node: the target was told %v, want [z×1]", got)
	}
	in.TakeFromNode("replica-x", []insight.Alert{alertOf(insight.SubjectRate, "late")})
	if again := open(t, Options{File: file}).List(Query{Limit: 10}); len(again.Items) != 2 {
		t.Errorf("after a restart: got %+v, want the 2 alerts from before", again.Items)
	}
}

func TestHostileAlerts(t *testing.T) {
	r := prometheus.NewRegistry()
	in := open(t, Options{Registerer: r})
	long := strings.Repeat("x", 8<<10)
	bad := alertOf("made_up", "k")
	none := alertOf(insight.SubjectRate, "")
	zero := alertOf(insight.SubjectRate, "zero")
	zero.Count = 0
	take(t, in, "replica-a", bad, none, zero)
	if p := in.List(Query{Limit: 10}); len(p.Items) != 0 {
		t.Errorf("an unknown detector, no key, no sighting: got %+v, want no alert", p.Items)
	}
	a := alertOf(insight.SubjectRate, "k\n")
	a.ID, a.Subject, a.Summary, a.Replicas = "chosen", long+"\x1b[2J\u202e", "one\ntwo", []string{"someone else"}
	a.First, a.Last = time.Now().Add(time.Hour), time.Now().Add(1000*time.Hour)
	for i := range 1000 {
		a.Networks = append(a.Networks, fmt.Sprint(i, "\r"))
	}
	take(t, in, "replica-a", a)
	got := in.List(Query{Limit: 1}).Items[0]
	if got.ID == "chosen" || len(got.Subject) > insight.MaxText || strings.ContainsAny(got.Summary+got.Key+got.Subject, "\n\x1b\u202e") ||
		len(got.Networks) > 64 || got.Last.After(time.Now()) || got.First.After(got.Last) || got.Replicas[0] != "replica-a" {
		t.Errorf("a hostile alert of replica-a: got %+v, want its own ID and replica, printable texts, at most 64 networks, and times in order until now", got)
	}
	if n := testutil.ToFloat64(in.metrics.refused); n != 3 {
		t.Errorf("an unknown detector, no key, no sighting: got %v refused, want 3", n)
	}
}

func TestTheInboxIsBounded(t *testing.T) {
	block := make(chan struct{})
	stuck := Target{Name: "stuck", Send: func(ctx context.Context, _ insight.Alert) error {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	r := prometheus.NewRegistry()
	in := open(t, Options{most: 100, Targets: []Target{stuck}, Registerer: r})
	take(t, in, "a", alertOf(insight.RevokedTokenUsed, "early"))
	for i := range 1000 {
		take(t, in, "a", alertOf(insight.BadSignatures, fmt.Sprint("flood", i)))
	}
	p := in.List(Query{Limit: 1000})
	if len(p.Items) != 100 || p.Items[99].Key != "early" || p.Items[0].Key != "flood999" || p.Items[98].Key != "flood901" {
		t.Errorf("1000 alerts of one kind after an early one, room for 100: got %d, %v, want flood999 to flood901 and early", len(p.Items), keys(p))
	}
	in.mu.Lock()
	if len(in.byID) != 100 || len(in.targets[0].queue) > 201 {
		t.Errorf("1001 alerts, room for 100: got %d by ID and %d in the queue, want 100 and at most 201", len(in.byID), len(in.targets[0].queue))
	}
	in.mu.Unlock()
	if n := testutil.ToFloat64(in.metrics.deliveries.WithLabelValues("stuck", resultDropped)); n != 901 {
		t.Errorf("1001 alerts, room for 100, a stuck target: got %v dropped, want 901", n)
	}
	close(block)
}

func TestList(t *testing.T) {
	in := open(t, Options{})
	began := time.Now()
	for i := range 25 {
		a := alertOf(insight.Detectors[i%2], fmt.Sprintf("k%02d", i))
		a.Issuer = []string{"https://a/", "https://b/", ""}[i%3]
		a.Last = began.Add(time.Duration(i-25) * time.Minute)
		a.First = a.Last
		take(t, in, "r", a)
	}
	all := in.List(Query{Limit: 100})
	if len(all.Items) != 25 || all.Next != 0 || all.Items[0].Key != "k24" {
		t.Fatalf("25 alerts: got the keys %v and the cursor %v, want 25 from k24 and no cursor", keys(all), all.Next)
	}
	var paged []string
	q := Query{Limit: 7}
	for n := 0; ; n++ {
		p := in.List(q)
		paged = append(paged, keys(p)...)
		if n == 0 { // new and growing alerts do not move a page
			take(t, in, "r", alertOf(insight.SubjectRate, "new"))
			grown := all.Items[20]
			grown.Replicas, grown.Last = nil, grown.Last.Add(time.Second)
			take(t, in, "r", grown)
		}
		if p.Next == 0 {
			break
		}
		q.Before = p.Next
	}
	if !slices.Equal(paged, keys(all)) {
		t.Errorf("in pages of 7: got %v, want %v", paged, keys(all))
	}
	for name, c := range map[string]struct {
		q    Query
		want int
	}{
		"detector":         {Query{Detector: insight.Detectors[1]}, 12},
		"one issuer":       {Query{Issuers: []string{"https://a/"}}, 9},
		"no issuer":        {Query{Issuers: []string{}}, 0},
		"since":            {Query{Since: began.Add(-5*time.Minute - time.Second)}, 6},
		"after":            {Query{After: all.Items[3].ID}, 4},
		"after an unknown": {Query{After: "a00"}, 26},
	} {
		c.q.Limit = 100
		if p := in.List(c.q); len(p.Items) != c.want || p.Next != 0 {
			t.Errorf("%s: got %d alerts and the cursor %v, want %d and no cursor", name, len(p.Items), p.Next, c.want)
		}
	}
}
