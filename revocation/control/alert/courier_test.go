package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/revocation/insight"
)

func TestATargetThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &told{fail: func(n int) error {
			if n < 12 {
				return errors.New("down")
			}
			return nil
		}}
		up := &told{}
		in := open(t, Options{Targets: []Target{down.target("down"), up.target("up")}})
		began := time.Now()
		for i := range 3 {
			take(t, in, "a", alertOf(insight.SubjectRate, fmt.Sprint("k", i)))
		}
		synctest.Wait()
		if len(up.list()) != 3 || time.Since(began) != 0 {
			t.Errorf("a target beside one that is down: was told %v after %v, want 3 alerts after 0s", up.list(), time.Since(began))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := down.list(); !slices.Equal(got, []string{"k0×1", "k1×1", "k2×1"}) {
			t.Errorf("a target that was down: was told %v, want [k0×1 k1×1 k2×1]", got)
		}
		var pauses []time.Duration
		for i := 1; i < 13; i++ {
			pauses = append(pauses, down.at[i].Sub(down.at[i-1]))
		}
		if pauses[0] > 300*time.Millisecond || pauses[11] < 30*time.Second || pauses[11] > 90*time.Second {
			t.Errorf("12 failed tries: got the pauses %v, want at most 300ms at first and 30s to 90s at last", pauses)
		}
		for result, want := range map[string]float64{resultDelivered: 3, resultFailed: 12, resultRefused: 0, resultDropped: 0} {
			if n := testutil.ToFloat64(in.metrics.deliveries.WithLabelValues("down", result)); n != want {
				t.Errorf("deliveries with the result %s: got %v, want %v", result, n, want)
			}
		}
	})
}

func TestGivenUpAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &told{fail: func(int) error { return errors.New("down") }}
		in := open(t, Options{Targets: []Target{d.target("down")}})
		take(t, in, "a", alertOf(insight.SubjectRate, "k"))
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		tries := len(d.at)
		time.Sleep(time.Hour)
		if last := d.at[tries-1].Sub(d.at[0]); len(d.at) != tries || last < 23*time.Hour || last > 24*time.Hour {
			t.Errorf("a target that stays down: got %d tries, the last after %v, and %d an hour later, want the last after 23h to 24h and no later try", tries, last, len(d.at))
		}
		if n := testutil.ToFloat64(in.metrics.deliveries.WithLabelValues("down", resultDropped)); n != 1 {
			t.Errorf("a target that stays down for a day: got %v dropped alerts, want 1", n)
		}
	})
}

func TestRefusedIsNotToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &told{fail: func(n int) error {
			if n == 0 {
				return fmt.Errorf("wrapped: %w", Permanent(errors.New("400")))
			}
			return nil
		}}
		in := open(t, Options{Targets: []Target{d.target("a")}})
		take(t, in, "a", alertOf(insight.SubjectRate, "k0"), alertOf(insight.SubjectRate, "k1"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := d.list(); d.n != 2 || !slices.Equal(got, []string{"k1×1"}) {
			t.Errorf("two alerts, the first refused: got %d tries and told %v, want 2 and [k1×1]", d.n, got)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		for _, r := range in.records {
			if len(r.pending) != 0 {
				t.Errorf("alert %s: got the pending targets %v, want none", r.alert.Key, r.pending)
			}
		}
	})
}

func TestTargetsOfDetectors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		some, all, once := &told{}, &told{}, &told{}
		act := once.target("once")
		act.Detectors, act.OncePerKey = nil, true
		in := open(t, Options{Targets: []Target{some.target("some", insight.RevokedTokenUsed), {Name: "all", Send: all.send}, act}})
		for range 3 { // in three windows
			take(t, in, "a", alertOf(insight.RevokedTokenUsed, "x"), alertOf(insight.SubjectRate, "y"))
			time.Sleep(DefaultWindow)
		}
		synctest.Wait()
		if len(some.list()) != 3 || len(all.list()) != 6 || !slices.Equal(once.list(), []string{"x×1", "y×1"}) {
			t.Errorf("two keys in three windows: the target of one detector was told %v, that of all %v, that of once a key %v, want 3, 6 and [x×1 y×1]",
				some.list(), all.list(), once.list())
		}
	})
}

// TestATargetThatHangs closes the inbox during a try that hangs. Both end.
func TestATargetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		hang := Target{Name: "hang", Send: func(ctx context.Context, _ insight.Alert) error {
			tries++
			<-ctx.Done()
			return ctx.Err()
		}}
		in := open(t, Options{Targets: []Target{hang}})
		take(t, in, "a", alertOf(insight.SubjectRate, "k"))
		time.Sleep(time.Minute)
		began := time.Now()
		in.Close()
		if tries < 3 || time.Since(began) != 0 {
			t.Errorf("a target that hangs: got %d tries in a minute and a Close of %v, want at least 3 tries and 0s", tries, time.Since(began))
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if p := in.records[0].pending; !slices.Equal(p, []string{"hang"}) {
			t.Errorf("after Close: got the pending targets %v, want [hang]", p)
		}
	})
}
