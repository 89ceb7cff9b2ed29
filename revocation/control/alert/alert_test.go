package alert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"rescind/revocation/insight"
	"rescind/test/eventually"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, o Options) *Inbox {
	t.Helper()
	in, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func alertOf(d insight.Detector, key string) insight.Alert {
	now := time.Now().UTC()
	return insight.Alert{Detector: d, Key: key, Summary: "seen", First: now, Last: now, Count: 1, Issuer: "https://idp.example.com/"}
}

// reporter is a replica that accepts the issuer of alertOf.
func reporter(name string) Reporter {
	return Reporter{Replica: name, Credential: "replicas", Issuers: []string{"https://idp.example.com/"}}
}

func take(t testing.TB, in *Inbox, replica string, alerts ...insight.Alert) {
	t.Helper()
	if err := in.Take(t.Context(), reporter(replica), alerts); err != nil {
		t.Fatal(err)
	}
}

func keys(p Page) (out []string) {
	for _, a := range p.Items {
		out = append(out, a.Key)
	}
	return out
}

// told is a target that remembers.
type told struct {
	mu   sync.Mutex
	fail func(n int) error // of try n, from 0
	n    int
	got  []string // key×count
	at   []time.Time
}

func (d *told) target(name string, detectors ...insight.Detector) Target {
	return Target{Name: name, Detectors: detectors, Send: d.send}
}

func (d *told) send(_ context.Context, a insight.Alert) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.n
	d.n++
	d.at = append(d.at, time.Now())
	if d.fail != nil {
		if err := d.fail(n); err != nil {
			return err
		}
	}
	d.got = append(d.got, fmt.Sprintf("%s×%d", a.Key, a.Count))
	return nil
}

func (d *told) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

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
			t.Errorf("%+v", p.Items)
		}
		id := p.Items[1].ID
		time.Sleep(DefaultWindow) // the next window
		take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k"))
		synctest.Wait()
		p = in.List(Query{Limit: 10})
		if len(p.Items) != 3 || p.Items[0].ID == id || p.Items[0].Count != 1 {
			t.Errorf("in the next window: %+v", p.Items)
		}
		if got := d.list(); !slices.Equal(got, []string{"k×1", "other×1", "k×1"}) {
			t.Errorf("told %q", got)
		}
	})
}

// Another node, or this one without its memory, calls the same by the same ID.
func TestIDsFollowFromKeyAndWindow(t *testing.T) {
	a := alertOf(insight.RevokedTokenUsed, "k")
	one, two := open(t, Options{}), open(t, Options{})
	take(t, one, "x", alertOf(insight.SubjectRate, "o"), a)
	take(t, two, "y", a)
	if a, b := one.List(Query{Limit: 1}).Items[0].ID, two.List(Query{Limit: 1}).Items[0].ID; a != b || !strings.HasPrefix(a, "a") {
		t.Errorf("%s and %s", a, b)
	}
}

// An alert that another node keeps is known here, and delivered there.
func TestHeardOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	d := &told{}
	in := open(t, Options{File: file, Targets: []Target{d.target("a")}})
	in.Heard("replica-x", []insight.Alert{alertOf(insight.SubjectRate, "k"), alertOf("made_up", "y")})
	take(t, in, "replica-a", alertOf(insight.SubjectRate, "k"), alertOf(insight.SubjectRate, "z"))
	p := in.List(Query{Limit: 10})
	if len(p.Items) != 2 || p.Items[1].Count != 2 || fmt.Sprint(p.Items[1].Replicas) != "[replica-a replica-x]" {
		t.Errorf("%+v", p.Items)
	}
	eventually.True(t, "the target has an alert", func() bool { return len(d.list()) > 0 })
	in.Close()
	if got := d.list(); !slices.Equal(got, []string{"z×1"}) {
		t.Errorf("told %v", got)
	}
	in.Heard("replica-x", []insight.Alert{alertOf(insight.SubjectRate, "late")})
	if again := open(t, Options{File: file}).List(Query{Limit: 10}); len(again.Items) != 2 {
		t.Errorf("after a restart: %+v", again.Items)
	}
}

// An alert about an issuer that its replica does not accept is shown, and no
// action is told of it. A made-up alert cannot keep the action from being told
// of the real one either, and does not choose its token.
func TestHearsay(t *testing.T) {
	for name, issuers := range map[string][]string{"another issuer": {"https://other.example.com/"}, "no issuers reported": nil, "no issuer accepted": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				action, webhook := &told{}, &told{}
				target := action.target("action")
				target.NoHearsay, target.OncePerKey = true, true
				in := open(t, Options{Targets: []Target{target, webhook.target("webhook")}})
				madeUp := alertOf(insight.RevokedTokenUsed, "k")
				madeUp.Subject, madeUp.Hearsay, madeUp.Credentials = "victim", false, []string{"ops"}
				if err := in.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen", Issuers: issuers}, []insight.Alert{madeUp}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				got := in.List(Query{Limit: 1}).Items[0]
				if !got.Hearsay || fmt.Sprint(got.Credentials, got.Replicas) != "[stolen] [replica-x]" {
					t.Errorf("made up: got %+v, want hearsay of replica-x with the credential stolen", got)
				}
				if len(action.list()) != 0 || len(webhook.list()) != 1 {
					t.Errorf("made up: the action was told %v and the webhook %v, want the webhook alone", action.list(), webhook.list())
				}
				honest := alertOf(insight.RevokedTokenUsed, "k")
				honest.Subject = "mallory"
				take(t, in, "replica-a", honest)
				synctest.Wait()
				got = in.List(Query{Limit: 1}).Items[0]
				if got.Hearsay || got.Subject != "mallory" || got.Count != 2 || fmt.Sprint(got.Credentials) != "[replicas stolen]" {
					t.Errorf("then an honest report: got %+v, want its subject and both credentials", got)
				}
				if !slices.Equal(action.list(), []string{"k×2"}) || len(webhook.list()) != 1 {
					t.Errorf("then an honest report: the action was told %v and the webhook %v, want each once", action.list(), webhook.list())
				}
				time.Sleep(2 * DefaultWindow) // a later window, with the same key
				if err := in.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen", Issuers: issuers}, []insight.Alert{alertOf(insight.RevokedTokenUsed, "k2")}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * DefaultWindow)
				take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k2"))
				synctest.Wait()
				if got := action.list(); len(got) != 2 || got[1] != "k2×1" {
					t.Errorf("hearsay in an earlier window: the action was told %v, want the honest report too", got)
				}
			})
		})
	}
}

// Another node says which alerts are hearsay, and is asked for nothing more.
func TestHearsayOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		action := &told{}
		target := action.target("action")
		target.NoHearsay = true
		in := open(t, Options{Targets: []Target{target}})
		madeUp := []insight.Alert{alertOf(insight.RevokedTokenUsed, "k")}
		elsewhere := open(t, Options{})
		if err := elsewhere.Take(t.Context(), Reporter{Replica: "replica-x", Credential: "stolen"}, madeUp); err != nil {
			t.Fatal(err)
		}
		in.Heard("replica-x", madeUp)
		if got := in.List(Query{Limit: 1}).Items[0]; !got.Hearsay || fmt.Sprint(got.Credentials) != "[stolen]" {
			t.Errorf("heard of: got %+v, want hearsay by the credential stolen", got)
		}
		take(t, in, "replica-a", alertOf(insight.RevokedTokenUsed, "k"))
		synctest.Wait()
		if got := action.list(); !slices.Equal(got, []string{"k×2"}) {
			t.Errorf("an honest report here: the action was told %v, want it once", got)
		}
	})
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
		t.Errorf("kept: %+v", p.Items)
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
		t.Errorf("%+v", got)
	}
	if n := testutil.ToFloat64(in.metrics.refused); n != 3 {
		t.Errorf("%v refused", n)
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
		t.Errorf("%d alerts, %v", len(p.Items), keys(p))
	}
	in.mu.Lock()
	if len(in.byID) != 100 || len(in.targets[0].queue) > 201 {
		t.Errorf("%d by ID, %d in the queue", len(in.byID), len(in.targets[0].queue))
	}
	in.mu.Unlock()
	if n := testutil.ToFloat64(in.metrics.deliveries.WithLabelValues("stuck", resultDropped)); n != 901 {
		t.Errorf("%v are counted as dropped", n)
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
		t.Fatalf("%v", keys(all))
	}
	var paged []string
	q := Query{Limit: 7}
	for n := 0; ; n++ {
		p := in.List(q)
		paged = append(paged, keys(p)...)
		if n == 0 { // a page stays where it is, whatever comes and grows
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
		t.Errorf("in pages %v", paged)
	}
	for what, c := range map[string]struct {
		q    Query
		want int
	}{
		"detector":          {Query{Detector: insight.Detectors[1]}, 12},
		"one issuer":        {Query{Issuers: []string{"https://a/"}}, 9},
		"no issuer":         {Query{Issuers: []string{}}, 0},
		"since":             {Query{Since: began.Add(-5*time.Minute - time.Second)}, 6},
		"after":             {Query{After: all.Items[3].ID}, 4},
		"after what is not": {Query{After: "a00"}, 26},
	} {
		c.q.Limit = 100
		if p := in.List(c.q); len(p.Items) != c.want || p.Next != 0 {
			t.Errorf("%s: %d, want %d", what, len(p.Items), c.want)
		}
	}
}

func TestTheFileSurvives(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	down := &told{fail: func(int) error { return errors.New("down") }}
	up := &told{}
	in := open(t, Options{File: file, Targets: []Target{up.target("up"), down.target("down"), down.target("gone")}})
	for i := range 20 {
		take(t, in, "a", alertOf(insight.SubjectRate, fmt.Sprint("k", i)))
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"k19"`) {
		t.Fatalf("taken, and not in the file: %v", err)
	}
	eventually.True(t, "the target has 20 alerts", func() bool { return len(up.list()) >= 20 })
	before := in.List(Query{Limit: 100})
	in.Close()
	if err := in.Take(t.Context(), reporter("a"), nil); !errors.Is(err, errClosed) {
		t.Errorf("taken when closed: %v", err)
	}
	again := &told{}
	fresh := &told{}
	in = open(t, Options{File: file, Targets: []Target{up.target("up"), again.target("down"), fresh.target("new")}})
	eventually.True(t, "the target that was down has 20 alerts", func() bool { return len(again.list()) >= 20 })
	if after := in.List(Query{Limit: 100}); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("after the restart %v, before %v", after, before)
	}
	if len(up.list()) != 20 || len(fresh.list()) != 0 || again.list()[0] != "k0×1" || again.list()[19] != "k19×1" {
		t.Errorf("told again: %v, %v, %v", up.list(), again.list(), fresh.list())
	}
	take(t, in, "a", alertOf(insight.SubjectRate, "k0"))
	if p := in.List(Query{Limit: 100}); len(p.Items) != 20 || p.Items[19].Count != 2 {
		t.Errorf("%+v", p.Items[19])
	}
}

func TestAFileThatIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"cut off": `{"version":1,"alerts":[{"num`, "another version": `{"version":9}`, "empty": "",
	} {
		file := filepath.Join(t.TempDir(), "alerts.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		in := open(t, Options{File: file})
		take(t, in, "a", alertOf(insight.SubjectRate, "k"))
		if b, err := os.ReadFile(file + ".unreadable"); string(b) != text || err != nil {
			t.Errorf("%s: put aside: %q, %v", name, b, err)
		}
	}
	// of a file that is wrong in parts, the other parts are used
	file := filepath.Join(t.TempDir(), "alerts.json")
	text := `{"version":1,"last":3,"alerts":[{"number":2,"alert":{"id":"x","detector":"made_up","key":"k","count":1}},` +
		`{"number":2,"alert":{"id":"y","detector":"subject_rate","key":"k\u001b","count":1},"pending":["nobody"]},{"number":1,"alert":{"id":"z","detector":"subject_rate","key":"z","count":1}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := open(t, Options{File: file}).List(Query{Limit: 10}); len(p.Items) != 1 || p.Items[0].Key != "k\uFFFD" {
		t.Errorf("%+v", p)
	}
}

func TestAFileThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &told{}
	in := open(t, Options{File: filepath.Join(dir, "alerts.json"), Targets: []Target{d.target("a")}})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := in.Take(t.Context(), reporter("a"), []insight.Alert{alertOf(insight.SubjectRate, "k")}); err == nil {
		t.Error("it is said to be kept")
	}
	eventually.True(t, "the target has the alert all the same", func() bool { return len(d.list()) > 0 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	take(t, in, "a", alertOf(insight.SubjectRate, "k2"))
}
