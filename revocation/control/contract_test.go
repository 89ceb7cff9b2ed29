package control

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

// The tests of this file follow the rows of the admin API's contract.

func TestPostRevocationsIs201(t *testing.T) {
	e := serve(t, ledgertest.New())
	before := time.Now()
	a := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"sub":"alice","n":1.50,"admin":true}`)).want(201)
	d := a.document()
	if d.ID != "r2.0" || d.Revision != 2 || a.Header().Get("Location") != "/v1/revocations/r2.0" {
		t.Errorf("id %s revision %d location %s", d.ID, d.Revision, a.Header().Get("Location"))
	}
	if d.CreatedBy != "revoker" || !d.Active || d.CreatedAt.Before(before.Add(-time.Millisecond)) {
		t.Errorf("%+v", d)
	}
	if got := fmt.Sprint(d.Claims); got != "map[admin:true n:1.5 sub:alice]" {
		t.Errorf("claims %s", got)
	}
	again := e.do("viewer", "GET", "/v1/revocations/r2.0", "").want(200).document()
	if fmt.Sprint(again.Claims, again.ExpiresAt, *again.IssuedBefore) != fmt.Sprint(d.Claims, d.ExpiresAt, *d.IssuedBefore) {
		t.Errorf("GET gives %+v, POST gave %+v", again, d)
	}
}

func TestPostTheSameAgainIs200(t *testing.T) {
	e := serve(t, ledgertest.New())
	body := claims(issuerA, `{"jti":"x"}`)
	first := e.revoke("revoker", body)
	second := e.do("operator", "POST", "/v1/revocations", body).want(200).document()
	if second.ID != first.ID || second.CreatedBy != "revoker" {
		t.Errorf("second %+v", second)
	}
	e.do("revoker", "DELETE", "/v1/revocations/"+first.ID, "").want(200)
	if third := e.revoke("revoker", body); third.ID == first.ID {
		t.Error("after the restoration the same ID came back")
	}
}

func TestDeleteRestores(t *testing.T) {
	e := serve(t, ledgertest.New())
	d := e.revoke("revoker", claims(issuerA, `{"sub":"alice"}`))
	var r, again Restoration
	e.do("revoker", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&r)
	if r.Revision != d.Revision+1 {
		t.Errorf("restored by revision %d", r.Revision)
	}
	e.do("operator", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&again)
	if again.Revision != r.Revision || again.RestoredBy != "revoker" {
		t.Errorf("again %+v, first %+v", again, r)
	}
	got := e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200).document()
	if got.Active || got.RestoredBy != "revoker" || got.RestoredRevision != r.Revision {
		t.Errorf("after the restoration %+v", got)
	}
	e.do("revoker", "DELETE", "/v1/revocations/r99.0", "").want(404)
	e.do("revoker", "DELETE", "/v1/revocations/garbage", "").want(404)
}

func TestPostNDJSONIsAllOrNone(t *testing.T) {
	e := serve(t, ledgertest.New())
	var b strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&b, `{"issuer":%q,"claims":{"jti":"j%d"}}`+"\n", issuerA, i)
	}
	var in Import
	e.do("revoker", "POST", "/v1/revocations", b.String(), "Content-Type", "application/x-ndjson").want(201).json(&in)
	if in.Accepted != 2500 || in.Revision != 2 || e.ledger.Len() != 2500 {
		t.Errorf("%+v, %d in force", in, e.ledger.Len())
	}
	e.do("revoker", "POST", "/v1/revocations", b.String(), "Content-Type", "application/x-ndjson").want(201).json(&in)
	if in.Accepted != 2500 || in.Revision != 2 || e.ledger.Len() != 2500 {
		t.Errorf("again: %+v, %d in force", in, e.ledger.Len())
	}
	p := e.do("revoker", "POST", "/v1/revocations", b.String()+"\n{}\n{\"x\":1}\n", "Content-Type", "application/x-ndjson").want(422).problem()
	if len(p.Errors) != 3 || p.Errors[0].Line != 2502 || p.Errors[2].Line != 2503 || p.Errors[2].Member != "x" {
		t.Errorf("faults %+v", p.Errors)
	}
}

func jwt(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature"))
}

func TestPostEachForm(t *testing.T) {
	e := serve(t, ledgertest.New())
	exp := time.Now().Add(time.Hour).Unix()
	withID := jwt(fmt.Sprintf(`{"iss":%q,"jti":"j1","exp":%d}`, issuerA, exp))
	without := jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, exp))
	sum := sha256.Sum256([]byte(without[:strings.LastIndexByte(without, '.')]))
	tests := []struct {
		name, body, target string
		before             bool // there is an issued_before
	}{
		{"claims", claims(issuerA, `{"sub":"a"}`), "{map[sub:a]   false}", true},
		{"claims with jti", claims(issuerA, `{"jti":"a"}`), "{map[jti:a]   false}", false},
		{"kid", fmt.Sprintf(`{"issuer":%q,"kid":"k1"}`, issuerA), "{map[] k1  false}", false},
		{"all", fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA), "{map[]   true}", true},
		{"block", fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"b"},"block":true}`, issuerA), "{map[sub:b]   false}", false},
		{"token with jti", fmt.Sprintf(`{"token":%q}`, withID), "{map[jti:j1]   false}", false},
		{"token without jti", fmt.Sprintf(`{"token":%q}`, without), "{map[]  " + hex.EncodeToString(sum[:]) + " false}", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e.t = t
			a := e.do("operator", "POST", "/v1/revocations?confirm=true", tt.body).want(201)
			d := a.document()
			if got := fmt.Sprint(d.Target); got != tt.target {
				t.Errorf("target %s, want %s", got, tt.target)
			}
			if (d.IssuedBefore != nil) != tt.before {
				t.Errorf("issued_before %v", d.IssuedBefore)
			}
			if d.Issuer != issuerA {
				t.Errorf("issuer %q", d.Issuer)
			}
			if strings.HasPrefix(tt.name, "token") {
				if !d.ExpiresAt.Equal(time.Unix(exp+60, 0)) {
					t.Errorf("expires at %v, the token at %v", d.ExpiresAt, time.Unix(exp, 0))
				}
			}
		})
	}
	e.t = t
}

// A raw token is nowhere: not in an answer, the audit or the log.
func TestRawTokenIsNeverStored(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	signature := "U2VjcmV0U2lnbmF0dXJl"
	raw := jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix()))
	raw = raw[:strings.LastIndexByte(raw, '.')+1] + signature
	for _, body := range []string{
		fmt.Sprintf(`{"token":%q}`, raw),
		fmt.Sprintf(`{"token":%q,"kid":"x"}`, raw),
		fmt.Sprintf(`{"token":%q,"issuer":"https://other.example/"}`, raw),
		fmt.Sprintf(`{"token":%q,"token":%q}`, raw, raw),
		fmt.Sprintf(`{"token":"x%s"}`, raw),
	} {
		if a := e.do("operator", "POST", "/v1/revocations", body); strings.Contains(a.Body.String(), signature) {
			t.Errorf("answered: %s", a.Body)
		}
	}
	log.Lock()
	defer log.Unlock()
	for _, b := range slices.Concat(log.Batches, log.Lines) {
		if strings.Contains(string(b), signature) {
			t.Errorf("stored: %q", b)
		}
	}
}

func TestPostWaitAll(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.replicas = []Replica{{Name: "a", Connected: true, Revision: 100}, {Name: "b", Revision: 3}}
	d := e.do("revoker", "POST", "/v1/revocations?wait=all&timeout=50ms", claims(issuerA, `{"jti":"1"}`)).want(201).document()
	if d.Replicas == nil || d.Replicas.Applied != 2 || d.Replicas.Total != 2 || len(d.Replicas.Pending) != 0 {
		t.Errorf("replicas %+v", d.Replicas)
	}
	e.revoke("revoker", claims(issuerA, `{"jti":"2"}`))
	d = e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"3"}`)).want(202).document()
	if d.Replicas == nil || d.Replicas.Applied != 1 || !slices.Equal(d.Replicas.Pending, []string{"b"}) {
		t.Errorf("replicas %+v", d.Replicas)
	}
	e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200) // durable all the same
	// The one that is there already is waited for, too.
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"3"}`)).want(202)
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"1"}`)).want(200)
	// And so with the others that change something.
	var r Restoration
	e.do("revoker", "DELETE", "/v1/revocations/"+d.ID+"?wait=all", "").want(202).json(&r)
	if r.Replicas == nil || !slices.Equal(r.Replicas.Pending, []string{"b"}) {
		t.Errorf("replicas %+v", r.Replicas)
	}
	var in Import
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"4"}`), "Content-Type", typeNDJSON).want(202).json(&in)
	if in.Replicas == nil || in.Replicas.Total != 2 {
		t.Errorf("replicas %+v", in.Replicas)
	}
	for query, member := range map[string]string{"wait=some": "wait", "wait=all&timeout=x": "timeout", "wait=all&timeout=-1s": "timeout",
		"wait=all&timeout=2m": "timeout", "timeout=1s": "timeout", "wiat=all": "wiat"} {
		p := e.do("revoker", "POST", "/v1/revocations?"+query, claims(issuerA, `{"jti":"5"}`)).want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	if e.ledger.Len() != 3 { // 1, 2, 4
		t.Errorf("%d in force", e.ledger.Len())
	}
}

func TestGetRevocations(t *testing.T) {
	e := serve(t, ledgertest.New())
	for i := range 7 {
		e.revoke("operator", claims([]string{issuerA, issuerB}[i%2], fmt.Sprintf(`{"sub":"s%d","https://x/y:z":%d}`, i%3, i)))
	}
	e.do("operator", "DELETE", "/v1/revocations/r3.0", "").want(200)
	tests := []struct{ who, query, want string }{
		{"viewer", "", "r8.0 r7.0 r6.0 r5.0 r4.0 r3.0 r2.0"},
		{"viewer", "?active=true", "r8.0 r7.0 r6.0 r5.0 r4.0 r2.0"},
		{"viewer", "?active=false", "r3.0"},
		{"viewer", "?issuer=https://a.example/", "r8.0 r6.0 r4.0 r2.0"},
		{"viewer", "?issuer=https://nobody.example/", ""},
		{"viewer", "?claim=sub:s1", "r6.0 r3.0"},
		{"viewer", "?claim=sub:s1&issuer=https://b.example/", "r3.0"},
		{"viewer", "?claim=https://x/y:z:4", "r6.0"},
		{"viewer", "?claim=sub:s0&claim=https://x/y:z:6", "r8.0"},
		{"viewer", "?claim=nothing:x", ""},
		{"boundviewer", "", "r7.0 r5.0 r3.0"},
		{"boundviewer", "?issuer=https://a.example/", ""},
	}
	for _, tt := range tests {
		for _, limit := range []int{0, 1, 2, 1000} {
			path, got := "/v1/revocations"+tt.query, []string{}
			if limit > 0 {
				path += map[bool]string{true: "?", false: "&"}[tt.query == ""] + fmt.Sprint("limit=", limit)
			}
			for next := path; next != ""; {
				var page Page
				e.do(tt.who, "GET", next, "").want(200).json(&page)
				for _, d := range page.Items {
					got = append(got, d.ID)
				}
				if next = ""; page.NextCursor != "" {
					next = path + map[bool]string{true: "?", false: "&"}[!strings.Contains(path, "?")] + "cursor=" + page.NextCursor
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s %s: %q, want %q", tt.who, path, s, tt.want)
			}
		}
	}
	for query, member := range map[string]string{"limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "cursor=zzz": "cursor",
		"claim=sub": "claim", "claim=:x": "claim", "active=yes": "active", "isuser=x": "isuser"} {
		p := e.do("viewer", "GET", "/v1/revocations?"+query, "").want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
}

// What is revoked while somebody pages does not move what is to come.
func TestPagingIsStableUnderWrites(t *testing.T) {
	e := serve(t, ledgertest.New())
	for i := range 6 {
		e.revoke("operator", claims(issuerA, fmt.Sprintf(`{"jti":"%d"}`, i)))
	}
	var got []string
	cursor := ""
	for {
		var page Page
		e.do("viewer", "GET", "/v1/revocations?limit=2"+cursor, "").want(200).json(&page)
		for _, d := range page.Items {
			got = append(got, d.ID)
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
		e.revoke("operator", claims(issuerA, fmt.Sprintf(`{"jti":"new %s"}`, page.NextCursor)))
		e.do("operator", "DELETE", "/v1/revocations/"+got[len(got)-1], "").want(200)
	}
	if s := strings.Join(got, " "); s != "r7.0 r6.0 r5.0 r4.0 r3.0 r2.0" {
		t.Errorf("paged %s", s)
	}
}

func TestGetReplicas(t *testing.T) {
	e := serve(t, ledgertest.New())
	type list struct {
		Items []Replica `json:"items"`
	}
	var got list
	if e.do("viewer", "GET", "/v1/replicas", "").want(200).json(&got); got.Items == nil || len(got.Items) != 0 {
		t.Errorf("%+v", got)
	}
	at := time.Now().UTC()
	e.replicas = []Replica{{Name: "a", Connected: true, Revision: 5, Behind: 2, Entries: 9, LastAck: &at}, {Name: "b"}}
	e.do("boundviewer", "GET", "/v1/replicas", "").want(200).json(&got)
	if len(got.Items) != 2 || got.Items[0].Behind != 2 || !got.Items[0].LastAck.Equal(at) || got.Items[1].Connected {
		t.Errorf("%+v", got)
	}
}

// Every attempt is in the audit, whatever came of it.
func TestGetAudit(t *testing.T) {
	e := serve(t, ledgertest.New())
	a := e.revoke("operator", claims(issuerA, `{"jti":"x"}`))
	e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"x"}`)).want(200)
	e.do("revoker", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true}`).want(403)
	e.do("viewer", "POST", "/v1/revocations", claims(issuerA, `{"jti":"y"}`)).want(403)
	e.do("bound", "POST", "/v1/revocations", claims(issuerA, `{"jti":"y"}`)).want(403)
	e.do("revoker", "POST", "/v1/revocations", `{"issuer":"nobody","kid":5}`).want(422)
	e.do("", "POST", "/v1/revocations", claims(issuerA, `{"jti":"y"}`)).want(401)
	e.do("bound", "POST", "/v1/revocations", claims(issuerB, `{"jti":"y"}`), "Content-Type", typeNDJSON).want(201)
	e.do("boundviewer", "GET", "/v1/revocations/"+a.ID, "").want(404)
	e.do("bound", "DELETE", "/v1/revocations/"+a.ID, "").want(404)
	e.do("operator", "DELETE", "/v1/revocations/"+a.ID, "").want(200)
	e.do("operator", "DELETE", "/v1/revocations/"+a.ID, "").want(200)
	e.do("operator", "DELETE", "/v1/revocations/r99.9", "").want(404)
	want := []string{
		"operator restore refused", "operator restore existing r2.0", "operator restore accepted r2.0",
		"bound restore denied r2.0", "boundviewer read denied r2.0", "bound import accepted r3.0", " authenticate denied",
		"revoker revoke refused", "bound revoke denied", "viewer revoke denied", "revoker revoke denied", "revoker revoke existing r2.0",
		"operator revoke accepted r2.0",
	}
	for _, limit := range []int{1, 3, 1000} {
		var got []string
		cursor := ""
		for {
			var page AuditPage
			e.do("viewer", "GET", fmt.Sprintf("/v1/audit?limit=%d%s", limit, cursor), "").want(200).json(&page)
			for _, line := range page.Items {
				got = append(got, strings.TrimRight(fmt.Sprint(line.By, " ", line.Action, " ", line.Outcome, " ", line.ID), " "))
				if line.At.IsZero() || line.From == "" {
					t.Errorf("%+v", line)
				}
			}
			if page.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + page.NextCursor
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d:\n got %q\nwant %q", limit, got, want)
		}
	}
	// Who is bound to an issuer sees what was about it alone, and what he did.
	var page AuditPage
	e.do("boundviewer", "GET", "/v1/audit", "").want(200).json(&page)
	for _, line := range page.Items {
		if line.By != "boundviewer" && !slices.Equal(line.Issuers, []string{issuerB}) {
			t.Errorf("shown to a bound credential: %+v", line)
		}
	}
	if len(page.Items) != 2 {
		t.Errorf("%d lines", len(page.Items))
	}
}

func TestRoles(t *testing.T) {
	e := serve(t, ledgertest.New())
	block := fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"b"},"block":true}`, issuerB)
	kid := fmt.Sprintf(`{"issuer":%q,"kid":"k"}`, issuerB)
	all := fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerB)
	plain, other := claims(issuerB, `{"jti":"%s"}`), claims(issuerA, `{"jti":"%s"}`)
	tests := []struct {
		who, body string
		status    int
	}{
		{"viewer", plain, 403}, {"revoker", plain, 201}, {"operator", plain, 201}, {"bound", plain, 201}, {"boundviewer", plain, 403},
		{"bound", other, 403}, {"revoker", other, 201},
		{"revoker", block, 403}, {"revoker", kid, 403}, {"revoker", all, 403}, {"bound", all, 403},
	}
	for i, tt := range tests {
		body := strings.Replace(tt.body, "%s", fmt.Sprint(i), 1)
		e.do(tt.who, "POST", "/v1/revocations", body).want(tt.status)
		e.do(tt.who, "POST", "/v1/revocations", strings.Replace(tt.body, "%s", fmt.Sprint("n", i), 1), "Content-Type", typeNDJSON).want(tt.status)
	}
	// Restoring what only an operator may revoke takes an operator.
	for _, body := range []string{block, kid, all} {
		d := e.do("operator", "POST", "/v1/revocations?confirm=true", body).want(201).document()
		for _, who := range []string{"viewer", "revoker", "bound", "boundviewer"} {
			e.do(who, "DELETE", "/v1/revocations/"+d.ID, "").want(403)
		}
		if got := e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200).document(); !got.Active {
			t.Errorf("restored all the same: %+v", got)
		}
		e.do("operator", "DELETE", "/v1/revocations/"+d.ID, "").want(200)
	}
}

// Restoring one leaves the others.
func TestRestoringOneLeavesTheOthers(t *testing.T) {
	e := serve(t, ledgertest.New())
	one := e.revoke("operator", fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"a"},"block":true}`, issuerA))
	two := e.revoke("operator", fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"a"},"issued_before":"2026-11-01T00:00:00Z"}`, issuerA))
	e.do("operator", "DELETE", "/v1/revocations/"+one.ID, "").want(200)
	if d := e.do("operator", "GET", "/v1/revocations/"+two.ID, "").want(200).document(); !d.Active || e.ledger.Len() != 1 {
		t.Errorf("%+v, %d in force", d, e.ledger.Len())
	}
}

// Errors are problem documents, and nothing changes.
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
		{"wrong type", "operator", "POST", "/v1/revocations", ok, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, ""},
		{"garbled type", "operator", "POST", "/v1/revocations", ok, []string{"Content-Type", ";;"}, 415, ""},
		{"body too large", "operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"`+strings.Repeat("x", maxBody)+`"}`), nil, 413, ""},
		{"no body", "operator", "POST", "/v1/revocations", "", nil, 422, ""},
		{"not JSON", "operator", "POST", "/v1/revocations", "{", nil, 422, ""},
		{"unknown member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"x":1}`, nil, 422, "x"},
		{"duplicate member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":true,"all":true}`, nil, 422, "all"},
		{"wrong type of a member", "operator", "POST", "/v1/revocations", `{"issuer":"https://a.example/","all":"yes"}`, nil, 422, "all"},
		{"unknown issuer form", "operator", "POST", "/v1/revocations", `{"issuer":"idp","all":true}`, nil, 422, "issuer"},
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
				t.Errorf("%+v as %s", p, a.Header().Get("Content-Type"))
			}
			if tt.member != "" && (len(p.Errors) == 0 || p.Errors[0].Member != tt.member || p.Errors[0].Message == "") {
				t.Errorf("errors %+v, want %s named", p.Errors, tt.member)
			}
			if challenge := a.Header().Get("WWW-Authenticate"); (tt.status == 401) != strings.HasPrefix(challenge, "Bearer ") {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
			if (tt.status == 405) != (a.Header().Get("Allow") != "") {
				t.Errorf("Allow %q", a.Header().Get("Allow"))
			}
			if a.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be stored")
			}
		})
	}
	e.t = t
	if e.ledger.Len() != 0 || len(log.Batches) != 1 {
		t.Errorf("something changed: %d in force, %d revisions", e.ledger.Len(), len(log.Batches))
	}
}

// Concurrent callers share appends, and each learns its own fate.
func TestConcurrentCallersShareAppends(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	var all sync.WaitGroup
	ids := make([]string, 200)
	for i := range ids {
		all.Go(func() { ids[i] = e.revoke("revoker", claims(issuerA, fmt.Sprintf(`{"jti":"%d"}`, i))).ID })
	}
	all.Wait()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 200 {
		t.Errorf("%d distinct IDs for 200 revocations", n)
	}
	if e.ledger.Len() != 200 {
		t.Errorf("%d in force", e.ledger.Len())
	}
}

// A log that fails is a 503, and changes nothing that was acknowledged.
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
		t.Errorf("%v %s", a.Header(), a.Body)
	}
	e.do("revoker", "DELETE", "/v1/revocations/"+first.ID, "").want(503)
	e.do("revoker", "GET", "/v1/revocations/"+first.ID, "").want(200)
	// Without its line in the audit it is not acknowledged, but it is in force,
	// and the line is written as soon as that can be done.
	set(nil, broken)
	e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"3"}`)).want(503)
	set(nil, nil)
	third := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"3"}`)).want(200).document()
	var page AuditPage
	e.do("viewer", "GET", "/v1/audit", "").want(200).json(&page)
	found := slices.ContainsFunc(page.Items, func(e ledger.AuditEntry) bool { return e.ID == third.ID && e.Outcome == ledger.Accepted })
	if !found {
		t.Errorf("the audit lacks what was accepted: %+v", page.Items)
	}
	if e.ledger.Ready() != nil {
		t.Error(e.ledger.Ready())
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
		t.Error("no Retry-After")
	}
	e.do("viewer", "GET", "/v1/revocations", "").want(200)
	if n := len(log.Lines); n > 30 {
		t.Errorf("%d notes of 100 guesses", n)
	}
}

func TestFiguresOfTheControlEndpoint(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.revoke("revoker", claims(issuerA, `{"jti":"1"}`))
	e.revoke("revoker", claims(issuerA, `{"jti":"2"}`))
	e.ledger.Applied("a", 3)
	e.ledger.Applied("a", 77)
	e.replicas = []Replica{{Connected: true}, {Connected: true, Behind: 1}, {}}
	figures := prometheus.NewRegistry()
	figures.MustRegister(e.server.metrics, e.ledger)
	families, err := figures.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetName() + "=" + l.GetValue() + "}"
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"rescind_control_appends_total": 2, "rescind_control_revision": 3, "rescind_control_revocations": 2, "rescind_propagation_seconds": 1,
		"rescind_control_replicas{state=behind}": 1, "rescind_control_replicas{state=current}": 1, "rescind_control_replicas{state=lost}": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// No body makes the API fail, and what is accepted is listed.
func FuzzPost(f *testing.F) {
	e := serve(f, ledgertest.New())
	f.Add(claims(issuerA, `{"sub":"a","n":1e400}`), false)
	f.Add(`{"issuer":"https://a.example/","all":true,"block":true}`+"\n{}", true)
	f.Fuzz(func(t *testing.T, body string, lines bool) {
		header := []string{"Content-Type", typeJSON}
		if lines {
			header[1] = typeNDJSON
		}
		e.t = t
		a := e.do("operator", "POST", "/v1/revocations", body, header...)
		if !slices.Contains([]int{200, 201, 413, 422}, a.Code) {
			t.Fatalf("status %d: %s", a.Code, a.Body)
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

// An ID that does not exist and one of another issuer get the same answer, and
// the same entry in the audit.
func TestOtherIssuersIDsAreUnknown(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	d := e.revoke("revoker", claims(issuerA, `{"sub":"a"}`))
	for _, method := range []string{"GET", "DELETE"} {
		var answers, entries []string
		for _, id := range []string{d.ID, "r2.9"} {
			before := len(log.Lines)
			a := e.do("bound", method, "/v1/revocations/"+id, "").want(404)
			answers = append(answers, a.Body.String())
			if len(log.Lines) != before+1 {
				t.Fatalf("%s %s by another issuer's credential wrote %d entries, want 1", method, id, len(log.Lines)-before)
			}
			var lines []ledger.AuditEntry
			if err := json.Unmarshal(log.Lines[before], &lines); err != nil {
				t.Fatal(err)
			}
			lines[0].At, lines[0].ID = time.Time{}, ""
			entries = append(entries, fmt.Sprintf("%+v", lines))
		}
		if answers[0] != answers[1] || entries[0] != entries[1] {
			t.Errorf("%s of an ID of another issuer and of an ID that does not exist:\nanswers %q\nentries %q\nwant each pair equal", method, answers, entries)
		}
	}
}

// A repeated revocation is found only if the existing one lasts as long,
// within a minute. A repeated block is never shorter than asked for.
func TestRevokedAlreadyNeverWeakens(t *testing.T) {
	e := serve(t, ledgertest.New())
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339Nano) }
	body := func(expires string) string {
		return fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"mallory"},"block":true%s}`, issuerA, expires)
	}
	until := func(d time.Duration) string { return body(fmt.Sprintf(`,"expires_at":%q`, at(d))) }
	first := e.do("operator", "POST", "/v1/revocations", until(400*time.Hour)).want(201).document()
	for _, tt := range []struct {
		name, body string
		status     int
	}{
		{"the same", until(400 * time.Hour), 200},
		{"half a minute longer", until(400*time.Hour + 30*time.Second), 200},
		{"two minutes longer", until(400*time.Hour + 2*time.Minute), 201},
		{"as long as the retention", body(""), 201},
		{"as long as the retention, again", body(""), 200},
		{"shorter", until(time.Hour), 200},
	} {
		d := e.do("operator", "POST", "/v1/revocations", tt.body).want(tt.status).document()
		if d.ExpiresAt.Before(first.ExpiresAt) {
			t.Errorf("%s: ends at %v, before the first one at %v", tt.name, d.ExpiresAt, first.ExpiresAt)
		}
	}
}

// A parameter that is empty or given twice is refused, so that no change is
// made by a slip.
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
