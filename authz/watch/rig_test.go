package watch

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

const idp, other = "https://idp.example/", "https://other.example/"

// rig is a watcher with the alerts that it has handed out.
type rig struct {
	*Watcher
	t        testing.TB
	registry *prometheus.Registry

	mu     sync.Mutex
	handed []insight.Alert
}

func newRig(t testing.TB, change func(*Settings)) *rig {
	t.Helper()
	s := Defaults()
	if change != nil {
		change(&s)
	}
	r := &rig{t: t, registry: prometheus.NewRegistry()}
	w, err := New(Options{Settings: s, Registerer: r.registry})
	if err != nil {
		t.Fatal(err)
	}
	r.Watcher = w
	w.SetSink(func(a insight.Alert) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.handed = append(r.handed, a)
	})
	t.Cleanup(func() { _ = w.Close() })
	return r
}

// bubble runs test on a clock that jumps.
func bubble(t *testing.T, change func(*Settings), test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		test(r)
		if err := r.Close(); err != nil {
			t.Errorf("closing the watcher: got the error %v, want none", err)
		}
	})
}

// seen is one decision. The zero fields are those of a good request.
type seen struct {
	issuer, subject, jti, session, client, kid, policy string
	authorized                                         string // azp

	claims  map[string]any // nil: not known
	from    string
	reason  authz.Reason
	life    time.Duration
	issued  time.Time
	noIat   bool
	by      revocation.Kind
	repeat  int
	nothing bool // no facts
}

func (s seen) decision(at time.Time) (*authz.Request, *authz.Decision) {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&s.issuer, idp)
	def(&s.policy, "default")
	def(&s.from, "192.0.2.1")
	if s.reason == "" {
		s.reason = authz.OK
	}
	d := &authz.Decision{Allow: s.reason == authz.OK, Reason: s.reason, Policy: s.policy, Issuer: s.issuer}
	if s.reason == authz.Revoked {
		d.RevocationID = revocation.ID{Revision: 7, Index: 1}
		d.RevokedBy = revocation.KindClaims
		if s.by != 0 {
			d.RevokedBy = s.by
		}
	}
	if !s.nothing {
		d.Subject, d.TokenID = s.subject, s.jti
		d.Facts = &authz.Facts{Claims: s.claims, KeyID: s.kid, Session: s.session, Clients: authz.Clients{s.client, s.authorized}, Hash: sha256.Sum256([]byte(s.issuer + s.jti + s.subject + s.client))}
		if s.issued.IsZero() {
			s.issued = at
		}
		if s.life == 0 {
			s.life = 5 * time.Minute
		}
		if !s.noIat {
			d.Facts.IssuedAt = revocation.MicrosOf(s.issued)
		}
		d.Facts.Expires = revocation.MicrosOf(s.issued.Add(s.life))
	}
	return &authz.Request{Source: netip.MustParseAddr(s.from)}, d
}

func (r *rig) see(all ...seen) {
	for _, s := range all {
		for range max(s.repeat, 1) {
			at := time.Now()
			req, d := s.decision(at)
			r.Observe(req, d, at)
		}
	}
}

// settle lets the watcher handle the observed decisions.
func (r *rig) settle() {
	time.Sleep(2 * rest)
	synctest.Wait()
}

// alerts returns the alerts of one detector that the watcher has handed out so far.
func (r *rig) alerts(d insight.Detector) []insight.Alert {
	r.settle()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []insight.Alert
	for _, a := range r.handed {
		if a.Detector == d {
			out = append(out, a)
		}
	}
	return out
}

// wants fails the test unless these detectors, and no others, have raised alerts.
func (r *rig) wants(detectors ...insight.Detector) {
	r.t.Helper()
	for _, d := range insight.Detectors {
		if got := r.alerts(d); (len(got) > 0) != slices.Contains(detectors, d) {
			r.t.Errorf("detector %s: got the alerts %+v, want some: %v", d, got, slices.Contains(detectors, d))
		}
	}
}

// figure returns the sum of a metric.
func (r *rig) figure(name string) (sum float64) {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
