package alert

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"rescind/revocation/insight"
)

// AlertmanagerOptions of an [Alertmanager].
type AlertmanagerOptions struct {
	Name      string
	URL       string // its root: /api/v2/alerts is added
	TLS       func() (*tls.Config, error)
	Detectors []insight.Detector // nil: all
	// Window is for how long an alert fires after its last sighting.
	Window time.Duration
	// Source is the URL at which people find this control endpoint; empty:
	// alerts have no link.
	Source string
}

// Severity returns the severity label of a detector's alerts.
func Severity(d insight.Detector) string {
	switch d {
	case insight.RevokedTokenUsed, insight.DistrustedKeyUsed:
		return "critical"
	case insight.TokenLifetime:
		return "info"
	}
	return "warning"
}

type posted struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Alertmanager returns a target that speaks the v2 API. Its labels are the same
// for one key in every window, so an alert that goes on keeps firing. Subjects
// and other names from tokens are annotations.
func Alertmanager(o AlertmanagerOptions) Target {
	p := newPoster(strings.TrimSuffix(o.URL, "/")+"/api/v2/alerts", o.TLS)
	window := cmp.Or(o.Window, DefaultWindow)
	return Target{Name: o.Name, Detectors: o.Detectors, Send: func(ctx context.Context, a insight.Alert) error {
		body, err := json.Marshal([]posted{{
			Labels: labels(&a), Annotations: annotations(&a),
			StartsAt: a.First, EndsAt: latest(a.Last, time.Now().UTC().Add(-window)).Add(window), GeneratorURL: source(o.Source, &a),
		}})
		if err != nil {
			return Permanent(err)
		}
		return p.post(ctx, body, nil)
	}}
}

// latest returns last, but at least a minute after least, so that an alert that
// comes late fires for a moment.
func latest(last, least time.Time) time.Time {
	least = least.Add(time.Minute)
	if last.Before(least) {
		return least
	}
	return last
}

func labels(a *insight.Alert) map[string]string {
	return present(map[string]string{
		"alertname": "rescind_" + string(a.Detector), "severity": Severity(a.Detector), "detector": string(a.Detector),
		"issuer": a.Issuer, "policy": a.Policy, "key": a.Key, "service": "rescind",
	})
}

func annotations(a *insight.Alert) map[string]string {
	lines := []string{fmt.Sprintf("Seen %d times until %s.", a.Count, a.Last.Format(time.RFC3339))}
	for _, fact := range []struct{ name, value string }{
		{"subject", a.Subject}, {"token", a.TokenID}, {"session", a.Session}, {"client", a.Client}, {"kid", a.KeyID},
		{"revocation", a.RevocationID}, {"networks", strings.Join(a.Networks, ", ")}, {"replicas", strings.Join(a.Replicas, ", ")},
	} {
		if fact.value != "" {
			lines = append(lines, fact.name+": "+fact.value)
		}
	}
	return present(map[string]string{"summary": a.Summary, "description": strings.Join(lines, "\n"), "alert_id": a.ID})
}

// present removes the empty values.
func present(m map[string]string) map[string]string {
	for name, value := range m {
		if value == "" {
			delete(m, name)
		}
	}
	return m
}

func source(root string, a *insight.Alert) string {
	if root == "" {
		return ""
	}
	return strings.TrimSuffix(root, "/") + "/v1/alerts?detector=" + url.QueryEscape(string(a.Detector))
}
