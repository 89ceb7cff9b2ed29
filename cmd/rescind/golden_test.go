package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rivo/uniseg"

	"rescind/revocation/control"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

var updateGolden = flag.Bool("update", false, "write the golden files of this package again")

// noon is the time of the golden outputs.
var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time { t := noon.Add(-d); return &t }

const day = 24 * time.Hour

// recorded has answers of the API by path, with usual, long and hostile texts.
var recorded = map[string]any{
	"/v1/revocations": items(
		control.Document{ID: "r18.0", Issuer: idp, Target: control.Target{Claims: map[string]any{"sub": "mallory", "tenant": 17}}, Block: true,
			CreatedAt: *ago(3 * time.Minute), ExpiresAt: noon.Add(30*day - 3*time.Minute), CreatedBy: "soc", Active: true, Reason: "token theft, see the report of the incident team of this morning"},
		aliceLeft,
		control.Document{ID: "r16.99999", Issuer: "https://login.a-very-long-name-of-a-company.example/realms/customers-europe", Target: control.Target{KeyID: "2026-10"},
			CreatedAt: *ago(40 * day), ExpiresAt: noon.Add(20 * time.Hour), CreatedBy: "rotation-of-the-signing-keys", Active: true, Reason: "key rotated"},
		control.Document{ID: "r15.0", Issuer: idp, Target: control.Target{TokenSHA256: strings.Repeat("9f86d081", 8)},
			CreatedAt: *ago(50 * day), ExpiresAt: noon.Add(time.Minute), CreatedBy: "alice", RestoredAt: ago(day), RestoredBy: "bob"},
		control.Document{ID: "r14.0", Issuer: idp, Target: control.Target{All: true}, IssuedBefore: ago(60 * day),
			CreatedAt: *ago(60 * day), ExpiresAt: noon.Add(5 * day), CreatedBy: "退職した人の担当者", Active: true, Reason: "\x1b[2Jhostile \u202etxet"},
	),
	"/v1/revocations/r17.0": aliceLeft,
	"/v1/replicas": items(
		control.Replica{Name: "rescind-authz-7d9f8b6c5-x2x9z", Credential: "replicas", Connected: true, Revision: 18, Entries: 5, LastAck: ago(time.Second), Version: "v2.0.0", Issuers: []string{idp, "https://login.example.com/realms/a"}},
		control.Replica{Name: "replica-b", Credential: "replicas", Connected: true, Revision: 16, Behind: 2, Entries: 3, LastAck: ago(4 * time.Second), Version: "v2.0.0", Issuers: []string{}},
		control.Replica{Name: "replica-\x1b[31mc", Credential: "replicas", Revision: 9, Behind: 9, Entries: 1, LastAck: ago(50 * time.Second)},
		control.Replica{Name: "replica-d", Credential: "replicas", Connected: true, Revision: 18, Entries: 4, Version: "v2.0.0", Issuers: []string{idp}, Incomplete: true},
	),
	"/v1/audit": items(
		ledger.AuditEntry{At: *ago(3 * time.Minute), By: "soc", Action: ledger.ActRevoke, Outcome: ledger.Accepted, ID: "r18.0", Issuers: []string{idp}, Target: &ledger.Target{Claims: map[string]any{"sub": "mallory"}}, Reason: "token theft, see the report of the incident team of this morning", From: "203.0.113.9"},
		ledger.AuditEntry{At: *ago(time.Hour), By: "viewer", Action: ledger.ActRevoke, Outcome: ledger.Denied, Issuers: []string{idp}, Detail: "this takes the role revoker or operator"},
		ledger.AuditEntry{At: *ago(2 * day), By: "hr-sync-of-the-whole-company", Action: ledger.ActImport, Outcome: ledger.Accepted, Count: 100_000, Issuers: []string{idp, "https://other.example/"}, IssuersOmitted: 3},
		ledger.AuditEntry{At: *ago(3 * day), Action: ledger.ActAuthenticate, Outcome: ledger.Denied, Count: 12, Detail: "the credential is not known", From: "198.51.100.7"},
		ledger.AuditEntry{At: *ago(4 * day), By: "alice", Action: ledger.ActIssuer, Outcome: ledger.Failed, Target: &ledger.Target{Claims: map[string]any{"sub": strings.Repeat("long ", 40) + "\u009b31m"}}, Reason: "\u202etxet"},
	),
	"/v1/alerts": items(
		insight.Alert{ID: "a4", Detector: insight.RevokedTokenUsed, Summary: "A revoked token was used 3 times, by the last count from the network 203.0.113.0/24", First: *ago(time.Hour), Last: *ago(3 * time.Minute), Count: 3,
			Issuer: idp, Subject: "al ice's", TokenID: "0c5f5aa1-3f6b-4ce3-9f0e-2f3f7a3b9d55", Session: "s1", Client: "web", Policy: "default", RevocationID: "r17.0", Networks: []string{"203.0.113.0/24", "198.51.100.0/24"}, Replicas: []string{"replica-a"}, Credentials: []string{"replicas"}},
		insight.Alert{ID: "a3", Detector: insight.BadSignatures, Summary: "120 tokens with a bad signature came from 203.0.113.0/24", Last: *ago(30 * time.Minute), Count: 120, Issuer: idp, Networks: []string{"203.0.113.0/24"}, Replicas: []string{"replica-a", "replica-b"}, Hearsay: true},
		insight.Alert{ID: "a2", Detector: insight.DistrustedKeyUsed, Summary: "A token of a revoked key was used", Last: *ago(2 * day), Count: 1, Issuer: idp, KeyID: "2026-10", RevocationID: "r16.0"},
		insight.Alert{ID: "a1", Detector: "detector_of_a_later_version", Summary: "hostile \x1b[2J \u202etxet", Last: *ago(9 * day), Count: 1, Subject: "x\x1b[2J", TokenID: "sha256:9f86d081"},
	),
	"/v1/intakes": items(
		control.Intake{Name: "keycloak", Kind: "keycloak", State: "ok", Issuers: []string{"https://login.example.com/realms/shop"}, May: []string{"token", "session", "subject", "client", "kid"},
			LastEvent: ago(3 * time.Minute), LastEventType: "UPDATE USER", LastSuccess: ago(time.Second), Lag: insight.Duration(640 * time.Millisecond), Held: 2,
			Events: map[string]uint64{"revoked": 1234, "already": 3, "held": 2, "undone": 1, "turned": 0}},
		control.Intake{Name: "okta", Kind: "global_token_revocation", State: "failing", DryRun: true, Issuers: []string{idp, "https://login.example.com/realms/a"}, May: []string{"subject"},
			Error: "the log takes no writes: \x1b[2J \u202etxet there is no majority of the control nodes", ErrorSince: ago(2 * time.Minute), Events: map[string]uint64{"failed": 7, "turned": 100}},
		control.Intake{Name: "hr", Kind: "webhook", State: "waiting", Issuers: []string{}, May: []string{"subject", "block"}, Events: map[string]uint64{}},
	),
	"/v1/intakes/held": items(
		control.HeldEvent{ID: "0123456789abcdef", Intake: "keycloak", Type: "UPDATE USER", Event: "4d3559ec-67504aaba", At: *ago(3 * time.Minute), Received: *ago(3*time.Minute - 640*time.Millisecond), Effects: []control.HeldEffect{
			{Issuer: "https://login.example.com/realms/shop", Target: control.Target{Claims: map[string]any{"sub": "service-account-of-the-shop"}}, IssuedBefore: ago(3 * time.Minute),
				Why: "it would deny 812 of the 2000 requests seen in the last 1h0m0s (40.6 %), with 3 tokens, as seen by 2 of 2 replicas, more than limits.share_of_traffic (20 %)"},
		}},
		control.HeldEvent{ID: "fedcba9876543210", Intake: "hr", Type: "left \u202etxet", Event: "-", At: *ago(2 * day), Received: *ago(2 * day), Effects: []control.HeldEffect{
			{Issuer: idp, Target: control.Target{Claims: map[string]any{"email": "al ice\x1b[2J@example.com"}}, Block: true, Why: "it matches every token of an issuer; this takes confirm=true by an operator"},
		}},
	),
	"/v1/activity": control.ActivityDocument{Replicas: control.Answered{Asked: 2, Answered: 1}, Activity: insight.Activity{
		Since: *ago(time.Hour), First: *ago(30 * time.Minute), Last: *ago(time.Minute), Count: 1234, Partial: true,
		Networks: map[string]uint64{"203.0.113.0/24": 1200, "2001:db8::/48": 34}, Outcomes: map[string]uint64{"ok": 1230, "revoked": 4},
		Policies: map[string]uint64{"default": 1000, strings.Repeat("a-very-long-name-of-a-policy-", 6): 234},
	}},
	"/v1/advice": control.AdviceDocument{Replicas: control.Answered{Asked: 2, Answered: 2}, Advice: insight.Advice{Since: *ago(time.Hour), Items: []insight.Recommendation{{
		Issuer: idp, Client: "web", Policy: "default", Requests: 12345, Tokens: 67, Holders: 8, RequestsPerHour: 12345.6, Recommended: insight.Duration(15 * time.Minute),
		Reason: "15m costs few refreshes more than an hour does, and a token that should be invalid is accepted for a quarter of the time while a replica is cut off.",
		Candidates: []insight.Candidate{
			{Lifetime: insight.Duration(5 * time.Minute), ExposureMean: insight.Duration(150 * time.Second), ExposureCutOff: insight.Duration(5 * time.Minute), RefreshesPerHour: 95.7, DeniedByMaxLifetime: 1, DeniedByMaxAge: .333},
			{Lifetime: insight.Duration(15 * time.Minute), ExposureMean: insight.Duration(450 * time.Second), ExposureCutOff: insight.Duration(15 * time.Minute), RefreshesPerHour: 31.9, DeniedByMaxLifetime: 1, DeniedByMaxAge: .0004},
			{Lifetime: insight.Duration(24 * time.Hour), ExposureMean: insight.Duration(12 * time.Hour), ExposureCutOff: insight.Duration(24 * time.Hour), RefreshesPerHour: .3},
		},
	}}}},
}

var aliceLeft = control.Document{ID: "r17.0", Revision: 17, Issuer: idp, Target: control.Target{Claims: map[string]any{"sub": "alice", "client_id": "phone"}}, IssuedBefore: ago(2*time.Hour - 400*time.Millisecond),
	CreatedAt: *ago(2 * time.Hour), ExpiresAt: noon.Add(30*day - 2*time.Hour), CreatedBy: "hr-sync", Active: true, Reason: "left the company; the manager confirmed it by telephone, and asked for all sessions to end today"}

// items returns a page of a list.
func items(of ...any) any { return map[string]any{"items": of} }

// onScreen runs the program against the recorded answers, at noon, on a terminal
// of that width (0: none).
func onScreen(t testing.TB, width int, env map[string]string, args ...string) said {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(recorded[r.URL.Path])
	}))
	defer api.Close()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(""), out: &out, errs: &errs, now: func() time.Time { return noon }, width: func(any) int { return width },
		getenv: func(name string) string {
			return map[string]string{"RESCIND_CONTROL": api.URL, "RESCIND_TOKEN": "secret", "NO_COLOR": env["NO_COLOR"], "TERM": env["TERM"]}[name]
		}}
	status := a.run(t.Context(), args)
	return said{t, args, status, out.String(), errs.String()}
}

// Each command prints a golden file at 80 columns, at 120 columns, with -o wide and
// without a terminal. To write the files again: go test ./cmd/rescind -run Golden -update
func TestGoldenOutputs(t *testing.T) {
	for _, args := range []string{"list", "show r17.0", "replicas", "audit", "alerts", "activity --sub alice", "advise", "intakes", "intakes held"} {
		for _, c := range []struct {
			name  string
			width int
			args  []string
		}{{"80", 80, nil}, {"120", 120, nil}, {"wide", 80, []string{"-o", "wide"}}, {"pipe", 0, nil}} {
			words := append(strings.Fields(args), c.args...)
			got := onScreen(t, c.width, nil, words...).want(0).out
			of := words[0]
			if of == "intakes" {
				of = strings.ReplaceAll(args, " ", "-")
			}
			name := filepath.Join("testdata", "golden", of+"."+c.name+".txt")
			if *updateGolden {
				if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("rescind %s: got\n%s\nwant, as in %s,\n%s", strings.Join(words, " "), got, name, want)
			}
			for line := range strings.Lines(got) {
				if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); c.width > 0 && c.args == nil && columns > c.width {
					t.Errorf("rescind %s: got a line of %d columns, want at most %d: %s", strings.Join(words, " "), columns, c.width, line)
				}
			}
			if i := strings.IndexAny(got, "\x1b\u009b\u202e"); i >= 0 {
				t.Errorf("rescind %s: got the character %q of a hostile text, want it escaped", strings.Join(words, " "), got[i])
			}
		}
	}
}
