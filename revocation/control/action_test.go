package control

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// acting returns an endpoint and the target of one action.
func acting(t testing.TB, a Action) (*endpoint, alert.Target) {
	t.Helper()
	e := serve(t, ledgertest.New())
	return e, a.Target(e.authority, slog.New(slog.DiscardHandler))
}

func ofToken() insight.Alert {
	a := alertOf(insight.RevokedTokenUsed, "k")
	a.ID, a.TokenID, a.Session, a.Subject = "a0123", "t1", "s1", "alice"
	return a
}

func TestActions(t *testing.T) {
	for _, c := range []struct {
		revoke, claim string
	}{{"token", "map[jti:t1]"}, {"session", "map[sid:s1]"}, {"subject", "map[sub:alice]"}} {
		e, target := acting(t, Action{Detector: insight.RevokedTokenUsed, Revoke: c.revoke, Block: c.revoke == "session", MaxPerHour: 10, ExpiresIn: time.Hour})
		for range 2 { // a second time changes nothing
			if err := target.Send(t.Context(), ofToken()); err != nil {
				t.Fatal(err)
			}
		}
		items, _ := e.ledger.List(ledger.Query{Limit: 10})
		d := documentOf(&items[0])
		if fmt.Sprint(d.Claims) != c.claim || d.CreatedBy != "alert:revoked_token_used" || d.Block != (c.revoke == "session") ||
			d.Reason != "alert a0123: revoked_token_used" || time.Until(d.ExpiresAt) > time.Hour {
			t.Errorf("action %s: got the revocation %+v, want the claims %s, created by alert:revoked_token_used, its reason, at most 1h, and block for a session alone", c.revoke, d, c.claim)
		}
		if n := e.audited(func(a ledger.AuditEntry) bool {
			return a.By == "alert:revoked_token_used" && a.Outcome == ledger.Accepted && a.Action == ledger.ActRevoke && a.ID == d.ID
		}); n < 1 {
			t.Errorf("action %s: got %d lines of the audit about %s, want at least 1", c.revoke, n, d.ID)
		}
		if !target.OncePerKey || fmt.Sprint(target.Detectors) != "[revoked_token_used]" || target.Name != "action:revoked_token_used:"+c.revoke {
			t.Errorf("action %s: got the target %+v, want it named after the action, once per key, for revoked_token_used", c.revoke, target)
		}
	}
}

func TestRefusedActions(t *testing.T) {
	for name, c := range map[string]struct {
		revoke string
		change func(*insight.Alert)
	}{
		"no jti":           {"token", func(a *insight.Alert) { a.TokenID = "sha256:0123456789abcdef" }},
		"no token":         {"token", func(a *insight.Alert) { a.TokenID = "" }},
		"no session":       {"session", func(a *insight.Alert) { a.Session = "" }},
		"no issuer":        {"session", func(a *insight.Alert) { a.Issuer = "" }},
		"cut off":          {"subject", func(a *insight.Alert) { a.Subject = insight.Text(strings.Repeat("x", 300)) }},
		"replaced":         {"subject", func(a *insight.Alert) { a.Subject = insight.Text("al\x00ice") }},
		"no proper issuer": {"subject", func(a *insight.Alert) { a.Issuer = "non: sense" }},
	} {
		e, target := acting(t, Action{Detector: insight.RevokedTokenUsed, Revoke: c.revoke, MaxPerHour: 10})
		a := ofToken()
		c.change(&a)
		if err := target.Send(t.Context(), a); err != nil {
			t.Errorf("%s: got the error %v, want none", name, err)
		}
		if n := e.audited(func(a ledger.AuditEntry) bool { return a.Outcome == ledger.Refused && a.Detail != "" }); n != 1 || e.ledger.Len() != 0 {
			t.Errorf("%s: got %d in force and %d refusals with a detail in the audit, want 0 and 1", name, e.ledger.Len(), n)
		}
	}
}

func TestAnActionThatIsOnlyNoted(t *testing.T) {
	e, target := acting(t, Action{Detector: insight.RevokedTokenUsed, Revoke: "session", DryRun: true, MaxPerHour: 10})
	if err := target.Send(t.Context(), ofToken()); err != nil {
		t.Fatal(err)
	}
	var p AuditPage
	e.do("viewer", "GET", "/v1/audit", "").want(200).json(&p)
	if e.ledger.Len() != 0 || len(p.Items) != 1 || p.Items[0].Outcome != ledger.DryRun || fmt.Sprint(p.Items[0].Target.Claims) != "map[sid:s1]" {
		t.Errorf("an action with dry_run: got %d in force and the audit %+v, want 0 and one dry run about the session s1", e.ledger.Len(), p.Items)
	}
}

// The limit counts revocations of an earlier process too, and a flood does not
// fill the audit.
func TestNoMoreThanSoManyAnHour(t *testing.T) {
	clock := ledgertest.NewClock()
	l, stop := run(t, ledgertest.New(), clock.Now)
	defer stop()
	action := Action{Detector: insight.RevokedTokenUsed, Revoke: "token", MaxPerHour: 3}
	flood := func(from int) {
		target := action.Target(ledger.NewAuthority(l, ledger.AuthorityOptions{}), slog.New(slog.DiscardHandler)) // as after a restart
		for i := range 30 {
			a := ofToken()
			a.TokenID = fmt.Sprint("t", from+i)
			if err := target.Send(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	flood(0)
	if l.Len() != 3 {
		t.Fatalf("30 alerts, at most 3 an hour: got %d revoked, want 3", l.Len())
	}
	flood(100)
	if l.Len() != 3 {
		t.Errorf("30 more alerts after a restart, at most 3 an hour: got %d revoked, want 3", l.Len())
	}
	e := &endpoint{t: t, ledger: l}
	if n := e.audited(func(ledger.AuditEntry) bool { return true }); n > 30 {
		t.Errorf("60 alerts, at most 3 revocations an hour: got %d lines of the audit, want at most 30", n)
	}
	clock.Advance(time.Hour)
	flood(200)
	if l.Len() != 6 {
		t.Errorf("30 more alerts an hour later, at most 3 an hour: got %d revoked, want 6", l.Len())
	}
}

// The use of a token that an action has revoked triggers no action. The use of a
// token that a person has revoked does.
func TestActionsDoNotBringForthActions(t *testing.T) {
	e, target := acting(t, Action{Detector: insight.RevokedTokenUsed, Revoke: "session", Block: true, MaxPerHour: 10})
	a := ofToken()
	a.RevocationID = e.revoke("operator", claims(issuerA, `{"jti":"t1"}`)).ID
	if err := target.Send(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	items, _ := e.ledger.List(ledger.Query{Limit: 1})
	again := ofToken()
	again.RevocationID, again.Session, again.TokenID = items[0].ID.String(), "s2", "t2"
	if err := target.Send(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if e.ledger.Len() != 2 || e.audited(func(a ledger.AuditEntry) bool {
		return strings.Contains(a.Detail, "a token that an action has revoked")
	}) != 1 {
		t.Errorf("tokens that a person and an action revoked: got %d in force, want 2 and one line of the audit that names the action", e.ledger.Len())
	}
}

// TestAnActionWaitsForTheLog fails the log's appends. The inbox tries the action again until it succeeds.
func TestAnActionWaitsForTheLog(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	log.Lock()
	log.FailAppend = func() error { return ledgertest.ErrDisk }
	log.Unlock()
	in := inbox(t, Action{Detector: insight.RevokedTokenUsed, Revoke: "token", MaxPerHour: 10}.Target(e.authority, slog.New(slog.DiscardHandler)))
	if err := in.Take(t.Context(), reporter("replica-a"), []insight.Alert{ofToken()}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the audit says that the action failed", func() bool {
		return e.audited(func(a ledger.AuditEntry) bool { return a.Outcome == ledger.Failed }) > 0
	})
	log.Lock()
	log.FailAppend = nil
	log.Unlock()
	eventually.True(t, "the action has revoked the token", func() bool { return e.ledger.Len() > 0 })
}

func TestNoCredentialIsAnAction(t *testing.T) {
	if _, err := NewServer(Options{Credentials: []Credential{credential("alert:x", nil, ledger.Viewer)}}); err == nil {
		t.Error("a credential named alert:x: got a server, want an error")
	}
}
