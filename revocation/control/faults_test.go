package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

// Errors are problem documents, and change nothing.
func TestProblems(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	ok := claims(issuerA, `{"jti":"x"}`)
	tests := []struct {
		name, who, method, path, body string
		header                        []string
		status                        int
		member                        string
	}{
		{"no credential", "", "GET", "/v1/revocations", "", nil, 401, ""},
		{"unknown credential", "nobody", "GET", "/v1/revocations", "", nil, 401, ""},
		{"another scheme", "", "GET", "/v1/revocations", "", []string{"Authorization", "Basic dG9rZW4tb3BlcmF0b3I="}, 401, ""},
		{"no credential, unknown path", "", "GET", "/v1/x", "", nil, 401, ""},
		{"unknown path", "operator", "GET", "/v1/x", "", nil, 404, ""},
		{"unknown path outside", "operator", "GET", "/x", "", nil, 404, ""},
		{"unknown revocation", "operator", "GET", "/v1/revocations/r9.0", "", nil, 404, "id"},
		{"no id", "operator", "GET", "/v1/revocations/alice", "", nil, 404, "id"},
		{"wrong method", "operator", "PUT", "/v1/revocations", ok, nil, 405, ""},
		{"wrong method on one", "operator", "POST", "/v1/revocations/r1.0", ok, nil, 405, ""},
		{"wrong method of a viewer", "viewer", "PATCH", "/v1/revocations", ok, nil, 405, ""},
		{"wrong method, wrong type", "viewer", "POST", "/v1/replicas", ok, []string{"Content-Type", "text/plain"}, 405, ""},
		{"wrong method, empty parameter", "viewer", "DELETE", "/v1/audit?by=", "", nil, 405, ""},
		{"wrong method of the description", "operator", "POST", "/openapi.json", ok, nil, 405, ""},
		{"wrong method without a credential", "", "PUT", "/v1/revocations", ok, nil, 401, ""},
		{"an option", "operator", "OPTIONS", "/v1/revocations", "", nil, 405, ""},
		{"unknown path of a viewer", "viewer", "POST", "/v1/x", ok, nil, 404, ""},
		{"wrong type", "operator", "POST", "/v1/revocations", ok, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ""},
		{"garbled type", "operator", "POST", "/v1/revocations", ok, []string{"Content-Type", ";;"}, 415, ""},
		{"body too large", "operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"`+strings.Repeat("x", maxBody)+`"}`), nil, 413, ""},
		{"no body", "operator", "POST", "/v1/revocations", "", nil, 422, ""},
		{"not JSON", "operator", "POST", "/v1/revocations", "{", nil, 422, ""},
		{"unknown member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"x":1}`, nil, 422, "x"},
		{"duplicate member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"all":true}`, nil, 422, "all"},
		{"wrong type of a member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":"yes"}`, nil, 422, "all"},
		{"unknown issuer form", "operator", "POST", "/v1/revocations", `{"issuer":":idp","all":true}`, nil, 422, "issuer"},
		{"past", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"expires_at":"2020-01-01T00:00:00Z"}`, nil, 422, "expires_at"},
		{"beyond the retention", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"expires_at":"2999-01-01T00:00:00Z"}`, nil, 422, "expires_at"},
		{"deep", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","claims":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5001), nil, 422, "claims.a"},
		{"nothing to import", "operator", "POST", "/v1/revocations", "\n\n", []string{"Content-Type", typeNDJSON}, 422, ""},
		{"too many lines", "operator", "POST", "/v1/revocations", strings.Repeat("{}\n", maxLines+1), []string{"Content-Type", typeNDJSON}, 413, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e.t = t
			a := e.do(tt.who, tt.method, tt.path, tt.body, tt.header...).want(tt.status)
			p := a.problem()
			if p.Status != tt.status || p.Type != "about:blank" || p.Title == "" || p.Detail == "" || a.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("problem %+v as %s, want every member set for status %d, as application/problem+json", p, a.Header().Get("Content-Type"), tt.status)
			}
			if tt.member != "" && (len(p.Errors) == 0 || p.Errors[0].Member != tt.member || p.Errors[0].Message == "") {
				t.Errorf("errors %+v, want %s named", p.Errors, tt.member)
			}
			if challenge := a.Header().Get("WWW-Authenticate"); (tt.status == 401) != strings.HasPrefix(challenge, "Bearer ") {
				t.Errorf("status %d has WWW-Authenticate %q, want a challenge with 401 alone", tt.status, challenge)
			}
			if (tt.status == 405) != (a.Header().Get("Allow") != "") {
				t.Errorf("status %d has Allow %q, want it with 405 alone", tt.status, a.Header().Get("Allow"))
			}
			if a.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q, want no-store", a.Header().Get("Cache-Control"))
			}
		})
	}
	e.t = t
	if e.ledger.Len() != 0 || len(log.Batches) != 1 {
		t.Errorf("%d revocations in force at revision %d, want none at revision 1", e.ledger.Len(), len(log.Batches))
	}
}

// A log that fails is a 503, and loses nothing that was acknowledged.
func TestTheLogFails(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	first := e.revoke("revoker", claims(issuerA, `{"jti":"1"}`))
	set := func(f func() error, n func() error) {
		log.Lock()
		defer log.Unlock()
		log.FailAppend, log.FailNote = f, n
	}
	broken := func() error { return ledgertest.ErrDisk }
	set(broken, nil)
	a := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"2"}`)).want(503)
	if a.Header().Get("Retry-After") == "" || strings.Contains(a.Body.String(), ledgertest.ErrDisk.Error()) {
		t.Errorf("POST while the log fails: got headers %v and body %s, want Retry-After and no cause", a.Header(), a.Body)
	}
	e.do("revoker", "DELETE", "/v1/revocations/"+first.ID, "").want(503)
	e.do("revoker", "GET", "/v1/revocations/"+first.ID, "").want(200)
	// A revocation without its entry in the audit is not acknowledged. It is in
	// force all the same, and its entry is written once the log takes it.
	set(nil, broken)
	e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"3"}`)).want(503)
	set(nil, nil)
	third := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"3"}`)).want(200).document()
	var page AuditPage
	e.do("viewer", "GET", "/v1/audit", "").want(200).json(&page)
	found := slices.ContainsFunc(page.Items, func(e ledger.AuditEntry) bool { return e.ID == third.ID && e.Outcome == ledger.Accepted })
	if !found {
		t.Errorf("after the log recovered: got the audit %+v, want that %s was accepted", page.Items, third.ID)
	}
	if e.ledger.Ready() != nil {
		t.Errorf("Ready() = %v after the log recovered, want nil", e.ledger.Ready())
	}
	e.stop()
	e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"4"}`)).want(503)
	e.do("revoker", "GET", "/v1/revocations", "").want(503)
}

func TestTooManyBadCredentials(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	last := answer{}
	for range 100 {
		last = e.do("guess", "GET", "/v1/revocations", "")
	}
	last.want(429)
	if last.Header().Get("Retry-After") == "" {
		t.Error("a 429 without Retry-After, want one")
	}
	e.do("viewer", "GET", "/v1/revocations", "").want(200)
	if n := len(log.Lines); n > 30 {
		t.Errorf("100 guesses made %d entries in the audit, want at most 30", n)
	}
}

// No body makes the API fail. An accepted revocation is listed.
func FuzzPost(f *testing.F) {
	e := serve(f, ledgertest.New())
	f.Add(claims(issuerA, `{"sub":"a","n":1e400}`), false)
	f.Add(`{"issuer":"https://a.example/","all":true,"block":true}`+"\n{}", true)
	f.Add(`{"issuer":"0","all":true}`, false) // 409: an operator has to confirm it
	f.Fuzz(func(t *testing.T, body string, lines bool) {
		header := []string{"Content-Type", typeJSON}
		if lines {
			header[1] = typeNDJSON
		}
		e.t = t
		a := e.do("operator", "POST", "/v1/revocations", body, header...)
		if !slices.Contains([]int{200, 201, 409, 413, 422}, a.Code) {
			t.Fatalf("the body %q as lines %v: got status %d, want 200, 201, 409, 413 or 422: %s", body, lines, a.Code, a.Body)
		}
		if a.Code == 201 && !lines {
			e.do("viewer", "GET", a.Header().Get("Location"), "").want(200)
		}
	})
}

// A denied import of many issuers writes a short entry into the audit.
func TestDeniedImportWritesAShortEntry(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	var body strings.Builder
	for i := range 200 {
		body.WriteString(claims(fmt.Sprintf("https://%d.example/%s", i, strings.Repeat("x", 900)), `{"sub":"a"}`) + "\n")
	}
	e.do("bound", "POST", "/v1/revocations", body.String(), "Content-Type", typeNDJSON).want(403)
	if n := len(log.Lines[len(log.Lines)-1]); n > 5000 {
		t.Errorf("a denied import of 200 issuers wrote %d bytes into the audit, want at most 4 KiB and the brackets", n)
	}
}

// A parameter that is empty or given twice is refused, so a slip makes no change.
func TestEmptyParametersAreRefused(t *testing.T) {
	e := serve(t, ledgertest.New())
	body := claims(issuerA, `{"sub":"alice"}`)
	for query, member := range map[string]string{
		"dry_run=": "dry_run", "dry_run": "dry_run", "confirm=": "confirm", "wait=": "wait", "timeout=&wait=all": "timeout",
		"dry_run=1": "dry_run", "confirm=maybe": "confirm", "dry_run=false&dry_run=true": "dry_run",
	} {
		p := e.do("operator", "POST", "/v1/revocations?"+query, body).want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("?%s: errors %+v, want %s named", query, p.Errors, member)
		}
	}
	if e.ledger.Len() != 0 {
		t.Errorf("%d revocations in force, want none", e.ledger.Len())
	}
	for _, query := range []string{"dry_run=false", "confirm=true", "confirm=false", "confirm=yes"} {
		if code := e.do("operator", "POST", "/v1/revocations?"+query, body).Code; code != 200 && code != 201 {
			t.Errorf("?%s: %d, want 200 or 201", query, code)
		}
	}
}

func TestCredentialsAreChecked(t *testing.T) {
	a, b := credential("a", nil, ledger.Viewer), credential("b", nil, ledger.Viewer)
	same := b
	same.SHA256 = a.SHA256
	for want, list := range map[string][]Credential{
		"have the same sha256":       {a, same},
		"two tokens have the name a": {a, a},
		"has no role":                {credential("c", nil)},
		`has the role "root"`:        {credential("c", nil, "root")},
		"has no name":                {credential("", nil, ledger.Viewer)},
	} {
		if _, err := NewServer(Options{Credentials: list}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewServer = %v, want an error that says %q", err, want)
		}
	}
}
