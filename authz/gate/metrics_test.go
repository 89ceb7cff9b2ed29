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
		m.observe(&Observation{Decision: &authz.Decision{Allow: true, Reason: authz.OK, Policy: "reports", WouldDeny: would}, Took: time.Millisecond}, 1)
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "rescind_would_deny_total"); err != nil {
			t.Errorf("would deny %q: got other metrics than wanted: %v", would, err)
		}
	}
}

// A token that the issuer has dated ahead is counted by its issuer. Another token
// that is not valid yet is not.
func TestMetricsCountAnIssuersClockAhead(t *testing.T) {
	const family = `
		# HELP rescind_issuer_clock_ahead_total Tokens that were refused because their iat is ahead of this replica's clock by more than iat_leeway, by issuer.
		# TYPE rescind_issuer_clock_ahead_total counter
		rescind_issuer_clock_ahead_total{issuer="https://idp/"} 1
	`
	for detail, want := range map[string]string{"nbf is ahead": "", authz.ClockAhead: family} {
		m, r := newMetrics(), prometheus.NewRegistry()
		if err := m.register(r); err != nil {
			t.Fatal(err)
		}
		m.observe(&Observation{Decision: &authz.Decision{Reason: authz.NotYetValid, Issuer: "https://idp/", Detail: detail}, Took: time.Millisecond}, 1)
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "rescind_issuer_clock_ahead_total"); err != nil {
			t.Errorf("detail %q: got other metrics than wanted: %v", detail, err)
		}
	}
}
