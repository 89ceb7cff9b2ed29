package envoy

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
)

// What a policy that observes would have denied is said in the metadata, and
// counted.
func TestWouldDeny(t *testing.T) {
	for would, want := range map[authz.Reason]any{"": nil, authz.TooOld: "too_old"} {
		d := authz.Decision{Allow: true, Reason: authz.OK, Policy: "reports", WouldDeny: would}
		m := response(&d, false).DynamicMetadata.AsMap()
		if m["would_deny"] != want || m["decision"] != "allow" || m["reason"] != "ok" {
			t.Errorf("%q: %v", would, m)
		}
		f := newFigures()
		r := prometheus.NewRegistry()
		if err := f.register(r, nil, func() bool { return true }); err != nil {
			t.Fatal(err)
		}
		f.observe(&Observation{Decision: &d, Took: time.Millisecond})
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, family := range families {
			if family.GetName() == "rescind_would_deny_total" {
				for _, metric := range family.Metric {
					for _, l := range metric.Label {
						got = append(got, l.GetName()+"="+l.GetValue())
					}
				}
			}
		}
		if would == "" && got != nil || would != "" && (len(got) != 2 || got[0] != "policy=reports" || got[1] != "reason=too_old") {
			t.Errorf("%q: %v", would, got)
		}
	}
}
