package gate

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/authz"
)

func TestMetricsCountWhatObserveWouldDeny(t *testing.T) {
	const family = `
		# HELP rescind_would_deny_total Allowed requests that their policy would have denied without mode: observe.
		# TYPE rescind_would_deny_total counter
		rescind_would_deny_total{policy="reports",reason="too_old"} 1
	`
	for would, want := range map[authz.Reason]string{"": "", authz.TooOld: family} {
		m, r := newMetrics(), prometheus.NewRegistry()
		if err := m.register(r); err != nil {
			t.Fatal(err)
		}
		m.observe(&Observation{Decision: &authz.Decision{Allow: true, Reason: authz.OK, Policy: "reports", WouldDeny: would}, Took: time.Millisecond})
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "rescind_would_deny_total"); err != nil {
			t.Errorf("would deny %q: got other metrics than wanted: %v", would, err)
		}
	}
}
