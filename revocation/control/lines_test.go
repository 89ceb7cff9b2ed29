package control

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"rescind/revocation/insight"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// lines returns the lines of the log, each as its message and its attributes in
// their order, without the time.
func (e *endpoint) lines() (all []string) {
	e.t.Helper()
	for l := range strings.Lines(e.logged.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			e.t.Fatalf("got the line %s, want JSON: %v", l, err)
		}
		text := fmt.Sprint(m["msg"])
		if text == "log read" { // of the start
			continue
		}
		for _, key := range []string{"operation", "by", "from", "issuer", "more_issuers", "id", "count", "revision", "fault", "suppressed"} {
			if v, ok := m[key]; ok {
				text += fmt.Sprintf(" %s=%v", key, v)
			}
		}
		if all = append(all, text); m["level"] != "INFO" {
			e.t.Errorf("got the line %s, want the level INFO", l)
		}
	}
	return all
}

// wantLine waits for a line that begins with one text and contains another one.
func (e *endpoint) wantLine(door, begins, contains string) {
	e.t.Helper()
	eventually.True(e.t, door+": a line "+begins+" … "+contains+" in "+strings.Join(e.lines(), "\n"), func() bool {
		return slices.ContainsFunc(e.lines(), func(l string) bool { return strings.HasPrefix(l, begins) && strings.Contains(l, contains) })
	})
}

// Every change, every refusal and every failed login has one info line, at every
// door.
func TestEveryDoorIsLogged(t *testing.T) {
	e := serve(t, ledgertest.New())
	const from = " from=192.0.2.1"
	bulk := claims(issuerA, `{"jti":"a"}`) + "\n" + claims(issuerB, `{"jti":"b"}`) + "\n" + claims(issuerB, `{"jti":"c"}`)
	for _, c := range []struct {
		door, who, method, path, body, contentType string
		status                                     int
		begins, contains                           string
	}{
		{"single", "operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"x"}`), "", 201, "change accepted operation=revoke by=operator" + from + " issuer=" + issuerA + " id=r2.0 revision=2", ""},
		{"repeated", "revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"x"}`), "", 200, "change in force already operation=revoke by=revoker" + from, "id=r2.0"},
		{"bulk", "operator", "POST", "/v1/revocations", bulk, typeNDJSON, 201, "change accepted operation=import by=operator" + from + " issuer=" + issuerA + " more_issuers=1 count=3 revision=3", ""},
		{"delete", "operator", "DELETE", "/v1/revocations/r2.0", "", "", 200, "change accepted operation=restore by=operator" + from, "id=r2.0 revision=4"},
		{"a whole write", "operator", "DELETE", "/v1/revocations?revision=3", "", "", 200, "change accepted operation=restore by=operator" + from, "revision=5"},
		{"faulty", "revoker", "POST", "/v1/revocations", `{"issuer":"https://a.example/","clams":{}}`, "", 422, "request refused operation=revoke by=revoker" + from, "fault=clams"},
		{"faulty bulk", "operator", "POST", "/v1/revocations", bulk + "\n{}", typeNDJSON, 422, "request refused operation=import by=operator" + from, "count=4 fault="},
		{"no role", "viewer", "POST", "/v1/revocations", claims(issuerA, `{"jti":"y"}`), "", 403, "request refused operation=revoke by=viewer" + from + " fault=this takes the role", ""},
		{"no role to restore", "viewer", "DELETE", "/v1/revocations/r3.0", "", "", 403, "request refused operation=restore by=viewer", "fault="},
		{"another issuer", "bound", "POST", "/v1/revocations", claims(issuerA, `{"jti":"z"}`), "", 403, "request refused operation=revoke by=bound" + from + " issuer=" + issuerA, "fault=the credential is not for this issuer"},
		{"unknown ID", "operator", "DELETE", "/v1/revocations/r99.0", "", "", 404, "request refused operation=restore by=operator" + from + " fault=the ID is not known", ""},
		{"a parameter", "operator", "POST", "/v1/revocations?nosuch=1", claims(issuerA, `{"jti":"w"}`), "", 422, "request refused operation=revoke by=operator" + from + " fault=answered 422", ""},
		{"an empty parameter", "operator", "DELETE", "/v1/revocations/r3.0?wait=", "", "", 422, "request refused operation=restore by=operator" + from + " fault=answered 422", ""},
		{"a type", "operator", "POST", "/v1/revocations", "x", "text/plain", 415, "request refused operation=revoke by=operator" + from + " fault=the body must be", ""},
		{"everything", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true}`, "", 409, "request refused operation=revoke by=operator", "fault="},
		{"a stranger", "nobody", "POST", "/v1/revocations", claims(issuerA, `{"jti":"v"}`), "", 401, "login failed operation=authenticate" + from + " fault=POST without a valid credential", ""},
		{"a read by a stranger", "", "GET", "/v1/revocations", "", "", 401, "login failed operation=authenticate" + from + " fault=GET without a valid credential", ""},
	} {
		before := len(e.lines())
		header := []string{}
		if c.contentType != "" {
			header = append(header, "Content-Type", c.contentType)
		}
		e.do(c.who, c.method, c.path, c.body, header...).want(c.status)
		e.wantLine(c.door, c.begins, c.contains)
		if more := e.lines()[before:]; len(more) != 1 {
			t.Errorf("%s: lines %q, want one", c.door, more)
		}
	}
	before := len(e.lines())
	e.do("viewer", "GET", "/v1/revocations", "").want(200)
	if err := (Action{Detector: insight.RevokedTokenUsed, Revoke: "token", MaxPerHour: 1}).Target(e.authority, slog.New(slog.DiscardHandler)).Send(t.Context(), ofToken()); err != nil {
		t.Fatal(err)
	}
	e.wantLine("an action", "change accepted operation=revoke by=alert:revoked_token_used issuer="+issuerA, "id=")
	if more := e.lines()[before:]; len(more) != 1 {
		t.Errorf("a read and an action: lines %q, want that of the action alone", more)
	}
}

// Failed logins have ten lines a second, and the refusals of one credential a
// hundred. The lines and the summaries have each of them.
func TestFailedLoginsAndRefusalsAreBounded(t *testing.T) {
	for _, c := range []struct {
		who, message string
		most         int
	}{{"nobody", "login failed", 10}, {"viewer", "request refused", 100}} {
		e := serve(t, ledgertest.New())
		const n = 400
		for range n {
			e.do(c.who, "POST", "/v1/revocations", "{}")
		}
		e.ledger.CloseLines()
		lines, suppressed, seconds := 0, 0, 1
		for _, l := range e.lines() {
			var more int
			if _, after, ok := strings.Cut(l, " suppressed="); ok {
				if _, err := fmt.Sscan(after, &more); err != nil {
					t.Fatal(err)
				}
				seconds++
			} else {
				lines++
			}
			if suppressed += more; !strings.HasPrefix(l, c.message) {
				t.Errorf("%s: line %q, want %q", c.who, l, c.message)
			}
		}
		if lines+suppressed != n || lines > c.most*seconds {
			t.Errorf("%s: %d lines and %d suppressed, want %d together, and at most %d lines a second", c.who, lines, suppressed, n, c.most)
		}
	}
}
