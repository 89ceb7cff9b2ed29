package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"rescind/revocation/control"
	"rescind/revocation/ledger"
)

// A revision that several callers share is listed with the command that goes on.
func TestRestoreOfARevisionOfSeveralWrites(t *testing.T) {
	e := serve(t)
	at := time.Date(2026, 11, 24, 7, 0, 1, 0, time.UTC)
	url, _ := e.hinder(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Method != http.MethodDelete || r.URL.Path != "/v1/revocations" || r.URL.RawQuery != "revision=3" {
			t.Errorf("got %s %s, want DELETE /v1/revocations?revision=3", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(control.Problem{Status: http.StatusConflict, Detail: "several", Writes: []ledger.Write{
			{ID: "r3.0", CreatedBy: "hr-sync", CreatedAt: at, Count: 100_000}, {ID: "r3.100000", CreatedBy: "ali\x1bce", CreatedAt: at, Count: 1}}})
		return false
	})
	env := map[string]string{"RESCIND_CONTROL": url, "RESCIND_TOKEN": tokenOf("operator")}
	got := rescind(t, env, "", "restore", "--revision", "3").want(1,
		"rescind restore: nothing is restored: revision 3 holds 2 writes, and --write must name one:\n",
		"  r3.0  100,000 revocations by hr-sync at 2026-11-24T07:00:01Z\n",
		"  r3.100000  1 revocation by \"ali\\x1bce\" at 2026-11-24T07:00:01Z\n",
		"for example: rescind restore --revision 3 --write r3.0\n")
	if strings.ContainsRune(got.errs, '\x1b') {
		t.Errorf("a name with U+001B: got %q, want it escaped", got.errs)
	}
}

// The restoration of a write waits for the replicas, and an import that stops says
// how to undo the parts before.
func TestRestoreOfAWriteWaits(t *testing.T) {
	e := serve(t)
	i, out, _ := importing(t, e, e.url, lineFor("1")+"\n"+lineFor("2")+"\n"+lineFor("3")+"\n{}\n")
	status, text := finish(i.run(t.Context()))
	const undo = "to undo lines 1 to 2: rescind restore --revision 2 --write r2.0\n"
	if status != statusFailed || !strings.Contains(text, undo) || strings.Count(text, "to undo") != 1 {
		t.Errorf("an import whose second part is faulty: got status %d, %s and %s, want %d and the command that undoes the first part", status, text, out, statusFailed)
	}
	e.follows(control.Replica{Name: "a", Revision: 1})
	e.rescind("restore", "--revision", "2", "--wait", "--timeout", "50ms").want(3, "restored 2 revocations of write r2.0, at revision 3", "not confirmed within 50ms by a")
	e.follows(control.Replica{Name: "a", Revision: 3})
	e.rescind("restore", "--revision", "2", "--wait").want(0, "write r2.0 was restored already, at revision 3", "in force on 1 of 1 replicas")
}

// A revocation that somebody restored before is named as that.
func TestRestoreOfARestoredRevocation(t *testing.T) {
	e := serve(t)
	url, _ := e.hinder(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		_ = json.NewEncoder(w).Encode(control.Restoration{ID: "r3.0", Revision: 9, RestoredAt: time.Now().Add(-time.Hour), RestoredBy: "ali\x1bce"})
		return false
	})
	env := map[string]string{"RESCIND_CONTROL": url, "RESCIND_TOKEN": tokenOf("operator")}
	rescind(t, env, "", "restore", "r3.0").want(0, `r3.0 was restored already, 60m ago by "ali\x1bce", at revision 9`+"\n")
	e.rescind("revoke", "--issuer", idp, "--jti", "t1").want(0)
	e.rescind("restore", "r2.0").want(0, "restored r2.0, at revision 3\n")
}
