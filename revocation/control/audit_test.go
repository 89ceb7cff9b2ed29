package control

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/revocation/ledger/ledgertest"
)

// auditPages returns the entries of all pages, each as its caller and its outcome.
func (e *endpoint) auditPages(who string, q url.Values) []string {
	e.t.Helper()
	got := []string{}
	for {
		var page AuditPage
		e.do(who, "GET", "/v1/audit?"+q.Encode(), "").want(200).json(&page)
		for _, it := range page.Items {
			got = append(got, it.By+" "+it.Outcome)
		}
		if page.NextCursor == "" {
			return got
		}
		q.Set("cursor", page.NextCursor)
	}
}

func TestAuditFilters(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.do("operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"a"}`)).want(201)
	e.do("viewer", "POST", "/v1/revocations", claims(issuerB, `{"jti":"b"}`)).want(403)
	var page AuditPage
	e.do("viewer", "GET", "/v1/audit?limit=1", "").want(200).json(&page)
	middle := page.Items[0].At
	e.do("bound", "POST", "/v1/revocations", claims(issuerB, `{"jti":"b"}`)).want(201)
	e.do("operator", "POST", "/v1/revocations", claims(issuerA, `{"jti":"c"}`)+"\n"+claims(issuerB, `{"jti":"c"}`), "Content-Type", typeNDJSON).want(201)
	e.do("bound", "POST", "/v1/revocations", claims(issuerA, `{"jti":"d"}`)).want(403)
	east := middle.In(time.FixedZone("", 2*60*60)).Format(time.RFC3339Nano)
	for _, tt := range []struct{ who, query, want string }{
		{"viewer", "", "bound denied, operator accepted, bound accepted, viewer denied, operator accepted"},
		{"viewer", "by=operator", "operator accepted, operator accepted"},
		{"viewer", "by=Operator", ""},
		{"viewer", "issuer=" + issuerA, "bound denied, operator accepted, operator accepted"},
		{"viewer", "issuer=" + issuerB, "operator accepted, bound accepted"},
		{"viewer", "issuer=" + issuerB + "&by=bound", "bound accepted"},
		{"viewer", "issuer=https://nobody.example/", ""},
		{"viewer", "after=" + middle.Format(time.RFC3339Nano), "bound denied, operator accepted, bound accepted"},
		{"viewer", "after=" + url.QueryEscape(east), "bound denied, operator accepted, bound accepted"},
		{"viewer", "after=" + middle.Add(-time.Microsecond).Format(time.RFC3339Nano), "bound denied, operator accepted, bound accepted, viewer denied"},
		{"viewer", "after=" + middle.Format(time.RFC3339Nano) + "&by=operator&issuer=" + issuerA, "operator accepted"},
		{"viewer", "after=2999-01-01T00:00:00Z", ""},
		// A filter shows a credential for one issuer no more than it sees without.
		{"boundviewer", "", "bound accepted"},
		{"boundviewer", "by=operator", ""},
		{"boundviewer", "issuer=" + issuerA, ""},
		{"boundviewer", "issuer=" + issuerB, "bound accepted"},
		{"boundviewer", "after=" + middle.Format(time.RFC3339Nano), "bound accepted"},
	} {
		for _, limit := range []int{1, 2, 1000} {
			q, err := url.ParseQuery(tt.query)
			if err != nil {
				t.Fatal(err)
			}
			q.Set("limit", fmt.Sprint(limit))
			if got := strings.Join(e.auditPages(tt.who, q), ", "); got != tt.want {
				t.Errorf("%s ?%s with pages of %d: %q, want %q", tt.who, tt.query, limit, got, tt.want)
			}
		}
	}
}

func TestAuditFiltersRefuseBadInput(t *testing.T) {
	e := serve(t, ledgertest.New())
	for query, member := range map[string]string{
		"after=yesterday": "after", "after=30d": "after", "after=": "after", "after=2026-11-24": "after",
		"after=2026-11-24T07:00:01Z&after=2026-11-24T07:00:02Z": "after",
		"by=": "by", "by=a&by=b": "by", "by=" + strings.Repeat("x", 257): "by",
		"issuer=": "issuer", "issuer=" + strings.Repeat("x", 1025): "issuer", "since=2026-11-24T07:00:01Z": "since",
	} {
		p := e.do("viewer", "GET", "/v1/audit?"+query, "").want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member || p.Errors[0].Message == "" {
			t.Errorf("?%.60s: faults %+v, want one of %s", query, p.Errors, member)
		}
	}
	p := e.do("viewer", "GET", "/v1/audit?after=yesterday", "").want(422).problem()
	if want := "2026-11-24T07:00:01Z"; len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, want) {
		t.Errorf("after=yesterday: faults %+v, want an example such as %s", p.Errors, want)
	}
}
