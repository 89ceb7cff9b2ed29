package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

// crowd answers as replicas would.
type crowd struct {
	mu      sync.Mutex
	silent  int // replicas that do not answer
	answers []any
	asked   []string // kind and query
}

func (c *crowd) ask(_ context.Context, kind string, query []byte) (answers [][]byte, asked, answered int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, kind+" "+string(query))
	for _, a := range c.answers {
		if i, ok := a.(insight.Impact); ok && kind == string(insight.AskWeights) {
			a = weightsOf(i, query)
		}
		b, _ := json.Marshal(a)
		if text, ok := a.(string); ok {
			b = []byte(text)
		}
		answers = append(answers, b)
	}
	return answers, len(answers) + c.silent, len(answers)
}

// weightsOf returns the answer to a question about several revocations, each of
// which hits the traffic of i.
func weightsOf(i insight.Impact, query []byte) insight.Weights {
	var queries []insight.ImpactQuery
	_ = json.Unmarshal(query, &queries) // no items otherwise, which fit no question
	w := insight.Weights{Since: i.Since, Total: i.Total, Partial: i.Partial}
	for range queries {
		w.Items = append(w.Items, insight.Weight{Tokens: i.Tokens, Requests: i.Requests})
	}
	return w
}

func (c *crowd) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) == 0 {
		return ""
	}
	return c.asked[len(c.asked)-1]
}

func (c *crowd) says(answers ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = answers
}

func asking(c *crowd) func(*parts) { return func(p *parts) { p.api.Ask = c.ask } }

func TestActivity(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	c := &crowd{silent: 1}
	e := serve(t, ledgertest.New(), asking(c))
	c.says(
		insight.Activity{Since: now.Add(-time.Hour), First: now.Add(-time.Minute), Last: now, Count: 3, Networks: map[string]uint64{"10.0.0.0/24": 3}, Policies: map[string]uint64{"default": 3}, Outcomes: map[string]uint64{"ok": 2, "revoked": 1}},
		insight.Activity{Since: now.Add(-time.Hour), Count: 1, Networks: map[string]uint64{"evil\x1b[2J": 1}, Outcomes: map[string]uint64{"ok": 1}},
		"nonsense",
	)
	var d ActivityDocument
	e.do("viewer", "GET", "/v1/activity?by=sub&value=alice&issuer="+url.QueryEscape(issuerA), "").want(200).json(&d)
	if d.Count != 4 || d.Outcomes["ok"] != 3 || d.Replicas != (Answered{Asked: 4, Answered: 2}) || !d.First.Equal(now.Add(-time.Minute)) {
		t.Errorf("two replicas, nonsense and silence: got %+v, want 4 requests, 3 of them ok, since a minute, 2 of 4 answered", d)
	}
	for name := range d.Networks {
		if strings.ContainsRune(name, '\x1b') {
			t.Errorf("a replica's network with an escape character: got %q, want none", name)
		}
	}
	if got, want := c.last(), `activity {"issuer":"https://a.example/","by":"sub","value":"alice"}`; got != want {
		t.Errorf("activity of alice: the replicas were asked %s, want %s", got, want)
	}
	for path, want := range map[string]int{
		"?by=sub":                  422,
		"?value=x":                 422,
		"?by=name&value=x":         422,
		"?by=sub&value=":           422,
		"?by=sub&value=x&zzz=1":    422,
		"?by=client&value=web%20x": 200,
		"?by=jti&value=" + strings.Repeat("x", 1025): 422,
	} {
		e.do("viewer", "GET", "/v1/activity"+path, "").want(want)
	}
	e.do("", "GET", "/v1/activity?by=sub&value=x", "").want(401)
}

func TestActivityOfABoundCredential(t *testing.T) {
	c := &crowd{}
	e := serve(t, ledgertest.New(), asking(c))
	const path = "/v1/activity?by=sub&value=alice"
	e.do("boundviewer", "GET", path, "").want(422)
	e.do("boundviewer", "GET", path+"&issuer="+url.QueryEscape(issuerA), "").want(403)
	if c.last() != "" {
		t.Errorf("a bound credential without its issuer: the replicas were asked %s, want no question", c.last())
	}
	e.do("boundviewer", "GET", path+"&issuer="+url.QueryEscape(issuerB), "").want(200)
	if !strings.Contains(c.last(), issuerB) {
		t.Errorf("a bound credential with its issuer: the replicas were asked %q, want a question about %s", c.last(), issuerB)
	}
	if found := e.audited(func(a ledger.AuditEntry) bool {
		return a.By == "boundviewer" && a.Outcome == ledger.Denied && a.Action == ledger.ActRead
	}); found != 1 {
		t.Errorf("a bound credential reads another issuer: got %d lines of the audit, want 1 that it was denied", found)
	}
}

// audited counts the lines of the audit that which accepts.
func (e *endpoint) audited(which func(ledger.AuditEntry) bool) (n int) {
	e.t.Helper()
	err := e.ledger.Audit(e.t.Context(), ledger.AuditCursor{}, time.Time{}, func(_ ledger.AuditCursor, a ledger.AuditEntry) bool {
		if which(a) {
			n++
		}
		return true
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

func TestAdvice(t *testing.T) {
	now := time.Now().UTC()
	group := func(issuer string) insight.AdviceGroup {
		n := len(insight.Lifetimes)
		return insight.AdviceGroup{Issuer: issuer, Client: "web", Policy: "default", Requests: 10,
			LivesLonger: make([]uint64, n), IsOlder: make([]uint64, n), Pauses: make([]uint64, n), Busy: make([]float64, n)}
	}
	c := &crowd{}
	c.says(insight.AdviceData{Since: now.Add(-time.Hour), Until: now, Groups: []insight.AdviceGroup{group(issuerA), group(issuerB)}}, insight.AdviceData{Since: now.Add(-time.Hour), Until: now, Groups: []insight.AdviceGroup{group(issuerA)}})
	e := serve(t, ledgertest.New(), asking(c))
	issuers := func(who string) (out []string) {
		var d AdviceDocument
		e.do(who, "GET", "/v1/advice", "").want(200).json(&d)
		for _, i := range d.Items {
			out = append(out, fmt.Sprintf("%s %d", i.Issuer, i.Requests))
			if i.Reason == "" || len(i.Candidates) != len(insight.Lifetimes) {
				t.Errorf("advice for %s: got %+v, want a reason and %d candidates", who, i, len(insight.Lifetimes))
			}
		}
		if d.Replicas != (Answered{Asked: 2, Answered: 2}) {
			t.Errorf("advice for %s: got the replicas %+v, want 2 asked and 2 answered", who, d.Replicas)
		}
		return out
	}
	if got := issuers("viewer"); !slices.Equal(got, []string{issuerA + " 20", issuerB + " 10"}) {
		t.Errorf("advice for the viewer: got %v, want 20 requests of %s and 10 of %s", got, issuerA, issuerB)
	}
	if got := issuers("boundviewer"); !slices.Equal(got, []string{issuerB + " 10"}) {
		t.Errorf("advice for the bound viewer: got %v, want 10 requests of %s", got, issuerB)
	}
}

func TestNobodyToAsk(t *testing.T) {
	e := serve(t, ledgertest.New())
	var a ActivityDocument
	e.do("viewer", "GET", "/v1/activity?by=sub&value=alice", "").want(200).json(&a)
	var d AdviceDocument
	e.do("viewer", "GET", "/v1/advice", "").want(200).json(&d)
	var i ImpactDocument
	e.do("revoker", "POST", "/v1/revocations?dry_run=true", claims(issuerA, `{"sub":"alice"}`)).want(200).json(&i)
	var p AlertPage
	e.do("viewer", "GET", "/v1/alerts", "").want(200).json(&p)
	if a.Replicas.Asked+d.Replicas.Asked+i.Replicas.Asked != 0 || a.Count != 0 || len(d.Items)+len(p.Items) != 0 || e.ledger.Len() != 0 {
		t.Errorf("no replicas: got activity %+v, advice %+v, impact %+v, %d alerts and %d revocations, want nobody asked and nothing found", a, d, i, len(p.Items), e.ledger.Len())
	}
}

func TestDryRun(t *testing.T) {
	c := &crowd{}
	c.says(insight.Impact{Tokens: 3, Subjects: 1, Sessions: 2, Requests: 30, Total: 100}, insight.Impact{Requests: 20, Total: 100})
	e := serve(t, ledgertest.New(), asking(c), func(p *parts) { p.authority.ShareOfTraffic = 0.2 })
	const path = "/v1/revocations?dry_run=true"
	var d ImpactDocument
	e.do("revoker", "POST", path, claims(issuerA, `{"sub":"alice","n":1}`)).want(200).json(&d)
	if d.Tokens != 3 || d.Requests != 50 || d.Total != 200 || d.Share != 0.25 || d.Limit != 0.2 || !d.Confirm || d.Replicas.Answered != 2 {
		t.Errorf("a dry run: got %+v, want 3 tokens, 50 of 200 requests, a share of 0.25 over the limit of 0.2, confirm, and 2 answers", d)
	}
	if got := c.last(); !strings.HasPrefix(got, `impact {"issuer":"https://a.example/","claims":{"n":1,"sub":"alice"},"issued_before":"`) {
		t.Errorf("a dry run with two claims: the replicas were asked %s, want both claims in order and issued_before", got)
	}
	token := jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix()))
	e.do("revoker", "POST", path, fmt.Sprintf(`{"token":%q}`, token)).want(200)
	if got := c.last(); strings.Contains(got, token[:20]) || !strings.Contains(got, `"hash":"`) {
		t.Errorf("a dry run with a token: the replicas were asked %s, want the hash and not the token", got)
	}
	// A caller that may not revoke may not make a dry run either.
	e.do("viewer", "POST", path, claims(issuerA, `{"sub":"alice"}`)).want(403)
	e.do("revoker", "POST", path, fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA)).want(403)
	e.do("bound", "POST", path, claims(issuerA, `{"sub":"alice"}`)).want(403)
	e.do("revoker", "POST", path, claims(issuerA, `{}`)).want(422)
	e.do("revoker", "POST", path+"&wait=all", claims(issuerA, `{"sub":"a"}`)).want(422)
	lines := strings.Repeat(claims(issuerA, `{"sub":"a"}`)+"\n", 3)
	e.do("revoker", "POST", path, lines, "Content-Type", "application/x-ndjson").want(200).json(&d)
	if d.Tokens != 9 || d.Requests != 150 || d.Total != 200 || !d.Confirm || !d.Operator {
		t.Errorf("three lines: got %+v, want the sum of three weights", d)
	}
	e.do("revoker", "POST", "/v1/revocations?dry_run=", claims(issuerA, `{"sub":"a"}`)).want(422)
	if e.ledger.Len() != 0 || e.ledger.Revision() != 1 {
		t.Errorf("dry runs alone: got %d in force at revision %d, want none at revision 1", e.ledger.Len(), e.ledger.Revision())
	}
}

func inbox(t testing.TB, targets ...alert.Target) *alert.Inbox {
	t.Helper()
	in, err := alert.Open(alert.Options{Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

// reporter is a replica that accepts both issuers.
func reporter(name string) alert.Reporter {
	return alert.Reporter{Replica: name, Credential: "replicas", Issuers: []string{issuerA, issuerB}}
}

func alertOf(d insight.Detector, key string) insight.Alert {
	now := time.Now().UTC()
	return insight.Alert{Detector: d, Key: key, Summary: "seen", First: now, Last: now, Count: 1, Issuer: issuerA}
}

func TestAlerts(t *testing.T) {
	in := inbox(t)
	e := serve(t, ledgertest.New(), func(p *parts) { p.api.Alerts = in })
	for i := range 25 {
		a := alertOf(insight.Detectors[i%2], fmt.Sprint("k", i))
		a.Issuer = []string{issuerA, issuerB}[i%2]
		a.Networks = []string{"10.0.0.0/24"}
		if err := in.Take(t.Context(), reporter("replica-a"), []insight.Alert{a}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(who, query string) (p AlertPage) {
		t.Helper()
		e.t = t
		e.do(who, "GET", "/v1/alerts"+query, "").want(200).json(&p)
		return p
	}
	var seen []string
	for query := "?limit=10"; ; {
		p := get("viewer", query)
		for _, a := range p.Items {
			seen = append(seen, a.Key)
		}
		if p.NextCursor == "" {
			break
		}
		query = "?limit=10&cursor=" + p.NextCursor
	}
	if len(seen) != 25 || seen[0] != "k24" || seen[24] != "k0" {
		t.Errorf("25 alerts in pages of 10: got %v, want 25 from k24 to k0", seen)
	}
	all := get("viewer", "").Items
	for query, want := range map[string]int{
		"?detector=revoked_token_used": 13,
		"?after=" + all[4].ID:          4,
		"?since=" + url.QueryEscape(time.Now().Add(time.Minute).Format(time.RFC3339)): 0,
		"?since=2020-01-01T00:00:00Z": 25,
	} {
		if p := get("viewer", query); len(p.Items) != want {
			t.Errorf("%s: got %d alerts, want %d", query, len(p.Items), want)
		}
	}
	p := get("boundviewer", "")
	if len(p.Items) != 12 || slices.ContainsFunc(p.Items, func(a insight.Alert) bool { return a.Issuer != issuerB }) {
		t.Errorf("alerts for the bound viewer: got %+v, want 12, all of %s", p.Items, issuerB)
	}
	for _, query := range []string{"?detector=nosuch", "?since=yesterday", "?cursor=x", "?limit=0", "?after=" + strings.Repeat("x", 65)} {
		e.do("viewer", "GET", "/v1/alerts"+query, "").want(422)
	}
	e.do("", "GET", "/v1/alerts", "").want(401)
}
