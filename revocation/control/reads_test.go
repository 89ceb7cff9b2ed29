package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

func TestGetRevocations(t *testing.T) {
	e := serve(t, ledgertest.New())
	for i := range 7 {
		e.revoke("operator", claims([]string{issuerA, issuerB}[i%2], fmt.Sprintf(`{"sub":"s%d","https://x/y:z":%d}`, i%3, i)))
	}
	e.do("operator", "DELETE", "/v1/revocations/r3.0", "").want(200)
	sixth := e.do("viewer", "GET", "/v1/revocations/r6.0", "").want(200).document().CreatedAt.Format(time.RFC3339Nano)
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
		{"viewer", "?claim=/sub=s1", "r6.0 r3.0"},
		{"viewer", "?claim=/sub:s1", "r6.0 r3.0"},
		{"viewer", "?claim=/https:~1~1x~1y:z=4", "r6.0"},
		{"viewer", "?claim=/https:~1~1x/y:z=4", ""},
		{"viewer", "?claim=sub=s1", "r6.0 r3.0"},
		{"viewer", "?claim=https://x/y:z=4", "r6.0"},
		{"viewer", "?claim=sub=s0&claim=https://x/y:z:6", "r8.0"},
		{"viewer", "?claim=https=//x/y:z:4", ""},
		{"viewer", "?claim=sub=s1=", ""},
		{"viewer", "?by=operator&claim=sub=s1", "r6.0 r3.0"},
		{"viewer", "?by=operato", ""},
		{"viewer", "?by=sub", ""},
		{"viewer", "?since=" + sixth, "r8.0 r7.0 r6.0"},
		{"viewer", "?active=true&claim=sub=s1&by=operator&since=" + sixth, "r6.0"},
		{"viewer", "?since=2999-01-01T00:00:00Z", ""},
		{"boundviewer", "?by=operator&since=" + sixth, "r7.0"},
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
				t.Errorf("%s %s: got %q, want %q", tt.who, path, s, tt.want)
			}
		}
	}
	for query, member := range map[string]string{"limit=0": "limit", "limit=1001": "limit", "limit=x": "limit", "cursor=zzz": "cursor",
		"claim=sub": "claim", "claim=:x": "claim", "claim==x": "claim", "claim=sub=": "claim",
		"since=30d": "since", "since=": "since", "by=": "by", "by=a&by=b": "by", "after=2026-11-24T07:00:01Z": "after", "active=yes": "active", "isuser=x": "isuser"} {
		p := e.do("viewer", "GET", "/v1/revocations?"+query, "").want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("?%s: faults %+v, want one of %s", query, p.Errors, member)
		}
	}
}

// A list is narrowed to a kind of target, to one key, and to one token.
func TestGetRevocationsByTarget(t *testing.T) {
	e := serve(t, ledgertest.New())
	withID := jwt(fmt.Sprintf(`{"iss":%q,"jti":"j1","exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix()))
	without := jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix()))
	var hash string
	for _, body := range []string{
		claims(issuerA, `{"sub":"alice"}`), fmt.Sprintf(`{"issuer":%q,"kid":"k1"}`, issuerA), fmt.Sprintf(`{"issuer":%q,"kid":"k1"}`, issuerB),
		fmt.Sprintf(`{"issuer":%q,"kid":"k10"}`, issuerA), fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA),
		fmt.Sprintf(`{"token":%q}`, withID), fmt.Sprintf(`{"token":%q}`, without), claims(issuerA, `{"sub":"k1","n":12345}`), claims(issuerA, `{"n":"12345"}`),
	} {
		d := e.do("operator", "POST", "/v1/revocations?confirm=true", body).want(201).document()
		hash = max(hash, d.TokenSHA256)
	}
	for query, want := range map[string]string{
		"kind=claims": "r10.0 r9.0 r7.0 r2.0", "kind=kid": "r5.0 r4.0 r3.0", "kind=all": "r6.0", "kind=token": "r8.0",
		"kid=k1": "r4.0 r3.0", "kid=k1&issuer=" + issuerB: "r4.0", "kid=k": "", "kid=k1&kind=all": "", "kid=k1&claim=sub=k1": "",
		"token_sha256=" + hash: "r8.0", "token_sha256=" + hash + "&issuer=" + issuerB: "", "token_sha256=" + strings.Repeat("0", 64): "",
		"kind=claims&claim=jti=j1": "r7.0", "kind=kid&claim=jti=j1": "", "claim=n=12345": "r10.0 r9.0",
	} {
		var page Page
		e.do("viewer", "GET", "/v1/revocations?"+query, "").want(200).json(&page)
		var got []string
		for _, d := range page.Items {
			got = append(got, d.ID)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("?%s: got %q, want %q", query, s, want)
		}
	}
	for query, member := range map[string]string{"kind=jti": "kind", "kind=": "kind", "kid=": "kid", "kid=" + strings.Repeat("k", 257): "kid",
		"claim=": "claim", strings.Repeat("claim=a=b&", 17) + "limit=1": "claim",
		"token_sha256=abc": "token_sha256", "token_sha256=" + strings.ToUpper(hash): "token_sha256", "token=" + without: "token"} {
		p := e.do("viewer", "GET", "/v1/revocations?"+query, "").want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("?%s: faults %+v, want one of %s", query, p.Errors, member)
		}
	}
}

// Revocations that are made between two pages do not move the later pages.
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
		t.Errorf("the pages have %s, want r7.0 to r2.0", s)
	}
}

func TestGetReplicas(t *testing.T) {
	e := serve(t, ledgertest.New())
	type list struct {
		Items []Replica `json:"items"`
	}
	var got list
	if e.do("viewer", "GET", "/v1/replicas", "").want(200).json(&got); got.Items == nil || len(got.Items) != 0 {
		t.Errorf("without replicas: %+v, want an empty list", got)
	}
	at := time.Now().UTC()
	e.replicas = []Replica{{Name: "a", Connected: true, Revision: 5, Behind: 2, Entries: 9, LastAck: &at}, {Name: "b"}}
	e.do("boundviewer", "GET", "/v1/replicas", "").want(200).json(&got)
	if len(got.Items) != 2 || got.Items[0].Behind != 2 || !got.Items[0].LastAck.Equal(at) || got.Items[1].Connected {
		t.Errorf("replicas %+v, want %+v", got.Items, e.replicas)
	}
}

// Every attempt is in the audit with its outcome.
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
					t.Errorf("limit %d: got the entry %+v, want one with its time and its address", limit, line)
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
	// A credential for one issuer sees its own entries, and those about this issuer
	// alone.
	var page AuditPage
	e.do("boundviewer", "GET", "/v1/audit", "").want(200).json(&page)
	for _, line := range page.Items {
		if line.By != "boundviewer" && !slices.Equal(line.Issuers, []string{issuerB}) {
			t.Errorf("a credential for %s: got the entry %+v, want its own or one about this issuer alone", issuerB, line)
		}
	}
	if len(page.Items) != 2 {
		t.Errorf("a credential for %s sees %d entries, want 2", issuerB, len(page.Items))
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
