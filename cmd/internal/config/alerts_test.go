package config

import (
	"path/filepath"
	"testing"
	"time"

	"rescind/authz/watch"
)

func TestAlerts(t *testing.T) {
	path := filepath.Join(folderOf(t), "x.yaml")
	got := mustAuthz(t, path, baseIssuers+baseRevocation+`
policies: {a: {mode: observe, max_age: 5m}, b: {mode: enforce}}
alerts:
  {enabled: false, window: 2h, tokens: 5000, networks_per_token: 0, at_once: 0s, failures: 7, failures_within: 30s,
   subject_rate: 3, subject_at_least: 0, lifetime_factor: 2, lifetime_at_least: 10m}
`)
	want := watch.Settings{
		Window: 2 * time.Hour, Tokens: 5000, Failures: 7, FailuresWithin: 30 * time.Second,
		SubjectRate: 3, LifetimeFactor: 2, LifetimeAtLeast: 10 * time.Minute,
	}
	if got.Alerts != want {
		t.Errorf("alerts are %+v, want %+v", got.Alerts, want)
	}
	if !got.Policies["a"].Observe || got.Policies["b"].Observe || got.Policies["default"].Observe {
		t.Errorf("policies are %+v, want a alone to observe", got.Policies)
	}
}

func TestAlertFaults(t *testing.T) { testFaults(t, "authz", alertFaults) }

var alertFaults = []faulty{
	{"alerts: {window: §30s, tokens: §10, networks_per_token: §-1, at_once: §2m, failures: §1.5, failures_within: §0s, §windows: 1h}\n", []string{
		"alerts.window: 30s is too short; the least is 1m0s",
		`alerts.tokens: "10" is not a whole number from 1000 to 8000000`,
		`alerts.networks_per_token: "-1" is not a whole number from 0 to 60`,
		"alerts.at_once: 2m is too long; the most is 1m0s",
		`alerts.failures: "1.5" is not a whole number from 0 to 1000000000`,
		"alerts.failures_within: 0s must be above zero",
		"alerts.windows: there is no such key; did you mean window?",
	}},
	{"policies: {a: {mode: §dry-run}}\n", []string{`policies.a.mode: "dry-run" is not one of enforce, observe`}},
}
