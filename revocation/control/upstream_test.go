package control

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/jwks/jwkstest"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// between stands before a real issuer and records each call.
type between struct {
	*httptest.Server
	mu     sync.Mutex
	forms  []url.Values
	basic  []string
	status []int // of the first answers, in the place of the issuer's
}

func standBefore(t *testing.T, issuer *jwkstest.Issuer) *between {
	t.Helper()
	b := &between{}
	to, err := url.Parse(issuer.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		id, secret, _ := r.BasicAuth()
		b.mu.Lock()
		b.forms, b.basic = append(b.forms, form), append(b.basic, id+":"+secret)
		status := 0
		if len(b.status) > 0 {
			status, b.status = b.status[0], b.status[1:]
		}
		b.mu.Unlock()
		if status != 0 {
			w.Header().Set("Location", "/elsewhere")
			http.Error(w, `{"error":"unsupported_token_type"}`, status)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *between) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.forms)
}

func TestIssuersAreTold(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	b := standBefore(t, issuer)
	b.status = []int{503} // at first
	forward := func(string, ledger.AuditEntry) {}
	e := serve(t, ledgertest.New(), func(p *parts) { p.authority.Forward = func(token string, a ledger.AuditEntry) { forward(token, a) } })
	logged := &strings.Builder{}
	u := NewUpstream(e.ledger, []IssuerEndpoint{{
		Issuer: issuer.URL(), URL: b.URL + "/revoke", ClientID: "resc:ind", Secret: func() (string, error) { return "s3cr&t", nil },
	}}, slog.New(slog.NewTextHandler(logged, nil)))
	t.Cleanup(func() { u.Close() })
	forward = u.Forward

	token, err := issuer.Mint(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := e.do("revoker", "POST", "/v1/revocations", fmt.Sprintf(`{"token":%q}`, token)).want(201).document()
	told := func(outcome string) func(ledger.AuditEntry) bool {
		return func(a ledger.AuditEntry) bool {
			return a.Action == ledger.ActIssuer && a.Outcome == outcome && a.ID == d.ID && a.By == "revoker"
		}
	}
	eventually.True(t, "the audit says that the issuer was told", func() bool { return e.audited(told(ledger.Accepted)) > 0 })
	if b.calls() != 2 || b.forms[1].Get("token") != token || b.forms[1].Get("token_type_hint") != "access_token" || b.basic[1] != "resc%3Aind:s3cr%26t" {
		t.Errorf("503 at first: got the forms %v with the credentials %q, want 2 calls, the second with the token and resc%%3Aind:s3cr%%26t", b.forms, b.basic)
	}
	// The issuer is not told of claims, of another issuer's token, or of a dry run.
	e.do("revoker", "POST", "/v1/revocations", claims(issuer.URL(), `{"jti":"x"}`)).want(201)
	e.do("revoker", "POST", "/v1/revocations", fmt.Sprintf(`{"token":%q}`, jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix())))).want(201)
	e.do("revoker", "POST", "/v1/revocations?dry_run=true", fmt.Sprintf(`{"token":%q}`, token)).want(200)
	next, err := issuer.Mint(map[string]any{"jti": "next"})
	if err != nil {
		t.Fatal(err)
	}
	e.do("revoker", "POST", "/v1/revocations", fmt.Sprintf(`{"token":%q}`, next)).want(201)
	eventually.True(t, "the issuer is told of the next token", func() bool { return b.calls() >= 3 })
	if b.calls() != 3 || b.forms[2].Get("token") != next {
		t.Errorf("claims, another issuer and a dry run: got %d calls of the issuer, want none between the 2 from before and the one of the next token", b.calls())
	}
	audit := e.do("viewer", "GET", "/v1/audit", "").want(200).Body.String()
	if strings.Contains(audit, token[:40]) || strings.Contains(logged.String(), token[:40]) {
		t.Errorf("the token: got it in the audit: %v, in the log: %v, want it in neither", strings.Contains(audit, token[:40]), strings.Contains(logged.String(), token[:40]))
	}
}

func TestAnIssuerThatRefuses(t *testing.T) {
	issuer, err := jwkstest.Start(jwkstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	for name, status := range map[string]int{"unsupported": 400, "another client": 401, "a redirect": 307, "gone": 404} {
		t.Run(name, func(t *testing.T) {
			b := standBefore(t, issuer)
			b.status = []int{status}
			forward := func(string, ledger.AuditEntry) {}
			e := serve(t, ledgertest.New(), func(p *parts) { p.authority.Forward = func(token string, a ledger.AuditEntry) { forward(token, a) } })
			u := NewUpstream(e.ledger, []IssuerEndpoint{{Issuer: issuer.URL(), URL: b.URL + "/revoke", ClientID: "public"}}, slog.New(slog.DiscardHandler))
			t.Cleanup(func() { u.Close() })
			forward = u.Forward
			token, _ := issuer.Mint(nil)
			e.do("revoker", "POST", "/v1/revocations", fmt.Sprintf(`{"token":%q}`, token)).want(201) // all the same
			refused := func(a ledger.AuditEntry) bool {
				return a.Action == ledger.ActIssuer && a.Outcome == ledger.Failed && strings.Contains(a.Detail, fmt.Sprint(status)) && !strings.Contains(a.Detail, b.URL)
			}
			eventually.True(t, "the audit says that the issuer refused", func() bool { return e.audited(refused) > 0 })
			if b.calls() != 1 || b.forms[0].Get("client_id") != "public" || b.basic[0] != ":" {
				t.Errorf("status %d: got the forms %v with the credentials %q, want one call of the client public without a secret", status, b.forms, b.basic)
			}
		})
	}
}

// TestTheEndComesBefore ends the control endpoint before the issuer was told. The audit says so.
func TestTheEndComesBefore(t *testing.T) {
	forward := func(string, ledger.AuditEntry) {}
	e := serve(t, ledgertest.New(), func(p *parts) { p.authority.Forward = func(token string, a ledger.AuditEntry) { forward(token, a) } })
	u := NewUpstream(e.ledger, []IssuerEndpoint{{Issuer: issuerA, URL: "http://127.0.0.1:1/revoke"}}, slog.New(slog.DiscardHandler))
	forward = u.Forward
	for i := range 10 {
		token := jwt(fmt.Sprintf(`{"iss":%q,"jti":"j%d","exp":%d}`, issuerA, i, time.Now().Add(time.Hour).Unix()))
		e.do("revoker", "POST", "/v1/revocations", fmt.Sprintf(`{"token":%q}`, token)).want(201)
	}
	u.Close()
	if n := e.audited(func(a ledger.AuditEntry) bool {
		return a.Action == ledger.ActIssuer && a.Outcome == ledger.Failed && strings.Contains(a.Detail, "stopped")
	}); n != 10 {
		t.Errorf("10 tokens before the end: got %d lines of the audit that the issuer was not told, want 10", n)
	}
}
