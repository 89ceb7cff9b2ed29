package alert

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rescind/revocation/insight"
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

// told is a target that records its alerts.
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
