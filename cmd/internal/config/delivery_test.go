package config

import (
	"path/filepath"
	"testing"
	"time"

	"rescind/revocation/insight"
)

func TestAlertDelivery(t *testing.T) {
	dir := folderOf(t)
	c := mustControl(t, filepath.Join(dir, "x.yaml"), whole("control", `
alerts:
  window: 30m
  external_url: https://control.example.com/
  webhooks:
    - {url: 'https://siem.example.com/hook?x=1', secret_file: replica.token, detectors: [revoked_token_used, subject_rate], ca_file: cert.pem}
    - {name: local, url: 'http://127.0.0.1:1/', secret_file: replica.token}
    - {name: far, url: 'http://far.example.com/', secret_file: replica.token, allow_http: true}
  alertmanagers: [{url: 'http://localhost:9093'}]
  actions:
    - {detector: revoked_token_used, revoke: session, block: true, dry_run: false, max_per_hour: 3, expires_in: 12h}
    - {detector: revoked_token_used, revoke: token}
limits: {share_of_traffic: 0.3, min_requests: 0, shapes_per_issuer: 8}
issuers:
  - {issuer: 'https://a/', revocation_endpoint: 'https://a/revoke', client_id: c, client_secret_file: replica.token, ca_file: cert.pem}
  - {issuer: 'https://b/', revocation_endpoint: 'http://[::1]:1/revoke'}
`))
	secret, cert := filepath.Join(dir, "replica.token"), filepath.Join(dir, "cert.pem")
	equal(t, c.Alerts, AlertDelivery{
		Window: 30 * time.Minute, ExternalURL: "https://control.example.com/",
		Webhooks: []Webhook{
			{"siem.example.com", "https://siem.example.com/hook?x=1", secret, cert, []insight.Detector{insight.RevokedTokenUsed, insight.SubjectRate}},
			{"local", "http://127.0.0.1:1/", secret, "", nil},
			{"far", "http://far.example.com/", secret, "", nil},
		},
		Alertmanagers: []Alertmanager{{"localhost", "http://localhost:9093", "", nil}},
		Actions: []Action{
			{insight.RevokedTokenUsed, "session", true, false, 3, 12 * time.Hour},
			{insight.RevokedTokenUsed, "token", false, true, 10, 0},
		},
	})
	equal(t, c.Limits, Limits{ShareOfTraffic: 0.3, ShapesPerIssuer: 8})
	if len(c.Issuers) != 2 || c.Issuers[0] != (Upstream{"https://a/", "https://a/revoke", "c", secret, cert}) {
		t.Errorf("got the issuers %+v, want 2, and first https://a/ with its endpoint, client, secret and authority", c.Issuers)
	}
}

func TestAlertDeliveryFaults(t *testing.T) { testFaults(t, "control", alertDeliveryFaults) }

const aWebhook = "url: https://a/, secret_file: replica.token"

var alertDeliveryFaults = []faulty{
	{"alerts: {window: §1s, external_url: §control, webhooks: §{}, §hooks: []}\n", []string{
		"alerts.window: 1s is too short; the least is 1m0s",
		`alerts.external_url: "control" is not a URL with a host; write it as https://idp.example.com/`,
		"alerts.webhooks: is a mapping (key: value); write a list ([one, two])",
		"alerts.hooks: there is no such key; the keys here are actions, alertmanagers, external_url, webhooks, window",
	}},
	{"alerts: {webhooks: [§§{}, {url: §'http://far.example.com/', secret_file: §empty.token}, {url: §'https://u:p@a/', secret_file: replica.token, detectors: §[]}]}\n", []string{
		"alerts.webhooks[0].secret_file: is missing: the secret that signs the alerts",
		"alerts.webhooks[0].url: is missing: where alerts are sent to, such as https://siem.example.com/hooks/rescind",
		"alerts.webhooks[1].url: alerts sent over http can be read and suppressed on the way; use https, or allow_http: true",
		"alerts.webhooks[1].secret_file: DIR/empty.token is empty; put the secret in it",
		"alerts.webhooks[2].url: has a user name or a password in it; remove them, because URLs appear in logs",
		"alerts.webhooks[2].detectors: is empty; name at least one",
	}},
	{"alerts: {webhooks: [{" + aWebhook + "}, §{" + aWebhook + "}], alertmanagers: [§{name: a, url: 'https://b/'}]}\n", []string{
		"alerts.webhooks[1]: has the name a, as the one on line 1; give it another name",
		"alerts.alertmanagers[0]: has the name a, as the one on line 1; give it another name",
	}},
	{"alerts: {webhooks: [{" + aWebhook + ", detectors: [§revoked_tokens], allow_http: §1}]}\n", []string{
		`alerts.webhooks[0].detectors[0]: "revoked_tokens" is not one of bad_signatures, distrusted_key_used, known_token_denied, revoked_token_used, subject_rate, token_from_many_networks, token_from_two_networks_at_once, token_lifetime, unknown_keys, wrong_algorithms`,
		`alerts.webhooks[0].allow_http: "1" is not true or false`,
	}},
	{"alerts: {alertmanagers: [§{}, {url: §'http://am.example.com'}]}\n", []string{
		"alerts.alertmanagers[0].url: is missing: of the Alertmanager, such as https://alertmanager.example.com",
		"alerts.alertmanagers[1].url: alerts sent over http can be read and suppressed on the way; use https, or allow_http: true",
	}},
	{"alerts: {actions: [§§{}, {detector: subject_rate, revoke: §all, max_per_hour: §0, expires_in: §0s}, {detector: subject_rate, revoke: token}, §{detector: subject_rate, revoke: token}]}\n", []string{
		"alerts.actions[0].detector: is missing: whose alerts it is for, such as revoked_token_used",
		"alerts.actions[0].revoke: is missing: token, session or subject",
		`alerts.actions[1].revoke: "all" is not one of session, subject, token`,
		`alerts.actions[1].max_per_hour: "0" is not a whole number from 1 to 10000`,
		"alerts.actions[1].expires_in: 0s must be above zero",
		"alerts.actions[3]: duplicate action, first used on line 1",
	}},
	{"limits: {share_of_traffic: §20, min_requests: §-1, shapes_per_issuer: §0}\n", []string{
		`limits.share_of_traffic: "20" is not a share from 0 (none) to 1 (all)`,
		`limits.min_requests: "-1" is not a whole number from 0 to 1000000000`,
		`limits.shapes_per_issuer: "0" is not a whole number from 1 to 100000`,
	}},
	{"issuers: [§§{}, {issuer: 'https://a/', revocation_endpoint: §'http://a/revoke', client_secret_file: §replica.token}, {issuer: §'https://a/', revocation_endpoint: 'https://a/r'}]\n", []string{
		"issuers[0].issuer: is missing: the iss of its tokens, such as https://idp.example.com/",
		"issuers[0].revocation_endpoint: is missing: its endpoint of RFC 7009, such as https://idp.example.com/revoke",
		"issuers[1].revocation_endpoint: tokens and secrets sent over http can be read on the way; use https, or allow_http: true",
		"issuers[1].client_secret_file: has no use without client_id",
		"issuers[2].issuer: duplicate value, first used on line 1",
	}},
}
