package control

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

const postPath = "/v1/revocations"

// guarded is an endpoint with a share of 20 % and a crowd of replicas.
func guarded(t testing.TB, c *crowd) *endpoint {
	t.Helper()
	return serve(t, ledgertest.New(), asking(c), func(p *parts) { p.authority.ShareOfTraffic, p.authority.MinRequests = 0.2, 100 })
}

func lines(n int, line func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(i) + "\n")
	}
	return b.String()
}

// The guard stands at every door, and says the same at each.
func TestEveryDoorIsGuarded(t *testing.T) {
	alice := claims(issuerA, `{"sub":"alice"}`)
	two := lines(2, func(i int) string { return claims(issuerA, fmt.Sprintf(`{"jti":"t%d"}`, i)) })
	ndjson := []string{"Content-Type", "Application/X-NDJSON"}
	for _, c := range []struct {
		name, who, body string
		header          []string
		weight          insight.Impact
		silent          int
		plain           int // status
		confirmed       int
	}{
		{"a light subject", "revoker", alice, nil, insight.Impact{Requests: 20, Total: 100}, 0, 201, 201},
		{"a heavy subject", "revoker", alice, nil, insight.Impact{Requests: 21, Total: 100}, 0, 409, 409},
		{"a heavy subject, by an operator", "operator", alice, nil, insight.Impact{Requests: 21, Total: 100}, 0, 409, 201},
		{"a heavy subject of little traffic", "revoker", alice, nil, insight.Impact{Requests: 90, Total: 99}, 0, 201, 201},
		{"a subject, partly known", "revoker", alice, nil, insight.Impact{Requests: 1, Total: 100}, 1, 201, 201},
		{"a loud token", "revoker", claims(issuerA, `{"jti":"t1"}`), nil, insight.Impact{Requests: 99, Total: 100}, 1, 201, 201},
		{"a loud session", "revoker", claims(issuerA, `{"sid":"s1"}`), nil, insight.Impact{Requests: 99, Total: 100}, 1, 201, 201},
		{"a client", "revoker", claims(issuerA, `{"client_id":"web"}`), nil, insight.Impact{Requests: 20, Total: 100}, 0, 201, 201},
		{"a client, partly known", "revoker", claims(issuerA, `{"client_id":"web"}`), nil, insight.Impact{Requests: 1, Total: 100}, 1, 409, 201},
		{"a client, not remembered at all", "revoker", claims(issuerA, `{"client_id":"web"}`), nil, insight.Impact{Partial: true}, 0, 409, 201},
		{"a key, partly known", "operator", fmt.Sprintf(`{"issuer":%q,"kid":"k1"}`, issuerA), nil, insight.Impact{Total: 1000}, 1, 409, 201},
		{"everything", "operator", fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA), nil, insight.Impact{Total: 1000}, 0, 409, 201},
		{"a short batch of tokens", "revoker", two, ndjson, insight.Impact{Requests: 10, Total: 100}, 0, 201, 201},
		{"a short batch of tokens, heavy together", "revoker", two, ndjson, insight.Impact{Requests: 11, Total: 100}, 0, 409, 409},
		{"the same by an operator", "operator", two, ndjson, insight.Impact{Requests: 11, Total: 100}, 0, 409, 201},
		{"a long batch, partly known", "revoker", lines(1001, func(i int) string { return claims(issuerA, fmt.Sprintf(`{"jti":"t%d"}`, i)) }), ndjson, insight.Impact{Total: 100}, 1, 409, 201},
		{"a batch of one subject", "revoker", alice, ndjson, insight.Impact{Requests: 21, Total: 100}, 0, 409, 409},
	} {
		t.Run(c.name, func(t *testing.T) {
			crowd := &crowd{silent: c.silent}
			crowd.says(c.weight)
			e := guarded(t, crowd)
			got := e.do(c.who, "POST", postPath, c.body, c.header...)
			if got.Code != c.plain {
				t.Errorf("plain: got status %d, want %d: %s", got.Code, c.plain, got.Body)
			}
			if refused := got.Code == 409; refused && (e.ledger.Len() != 0 || e.audited(func(a ledger.AuditEntry) bool { return a.Outcome == ledger.Refused && a.By == c.who }) != 1) {
				t.Errorf("status 409: got %d in force, want none and one refusal in the audit", e.ledger.Len())
			}
			e = guarded(t, crowd)
			for _, confirm := range []string{"true", "yes"} {
				got := e.do(c.who, "POST", postPath+"?confirm="+confirm, c.body, c.header...)
				if confirm == "yes" && got.Code == 200 && c.confirmed == 201 {
					continue // a repeat within the same second
				}
				if got.Code != c.confirmed {
					t.Errorf("confirm=%s: got status %d, want %d: %s", confirm, got.Code, c.confirmed, got.Body)
				}
			}
		})
	}
}

// A narrow revocation asks no replica anything, unless the caller wants to know.
func TestNarrowIsNeverWeighed(t *testing.T) {
	c := &crowd{}
	c.says(insight.Impact{Since: time.Now().Add(-time.Hour), Tokens: 1, Requests: 99, Total: 100})
	e := guarded(t, c)
	token := jwt(fmt.Sprintf(`{"iss":%q,"exp":%d}`, issuerA, time.Now().Add(time.Hour).Unix()))
	for _, body := range []string{claims(issuerA, `{"jti":"t1"}`), claims(issuerA, `{"sid":"s1","sub":"alice"}`), fmt.Sprintf(`{"token":%q}`, token)} {
		if d := e.revoke("revoker", body); d.Seen != nil || c.last() != "" {
			t.Errorf("%.60s: got seen %+v and the question %q, want neither", body, d.Seen, c.last())
		}
	}
	d := e.do("revoker", "POST", postPath+"?seen=true", claims(issuerA, `{"jti":"t2"}`)).want(201).document()
	if d.Seen == nil || d.Seen.Tokens != 1 || d.Seen.Requests != 99 || time.Duration(d.Seen.Window).Round(time.Minute) != time.Hour || d.Seen.Partial {
		t.Errorf("?seen=true: got %+v, want 99 requests with 1 token in the last hour", d.Seen)
	}
}

// Every weighed write says which traffic it hits.
func TestWeighedWritesSaySeen(t *testing.T) {
	c := &crowd{silent: 1}
	c.says(insight.Impact{Since: time.Now().Add(-30 * time.Minute), Tokens: 2, Requests: 3, Total: 1000})
	e := guarded(t, c)
	got := e.do("revoker", "POST", postPath, claims(issuerA, `{"sub":"alice"}`)).want(201)
	var raw struct{ Seen map[string]any }
	if err := json.Unmarshal(got.Body.Bytes(), &raw); err != nil || fmt.Sprint(raw.Seen) != "map[partial:true requests:3 tokens:2 window:30m0s]" {
		t.Errorf("single: got seen %v, want 3 requests with 2 tokens in 30m0s, partial", raw.Seen)
	}
	var imported Import
	e.do("revoker", "POST", postPath, lines(4, func(i int) string { return claims(issuerA, fmt.Sprintf(`{"sub":"s%d"}`, i)) }), "Content-Type", typeNDJSON).want(201).json(&imported)
	if imported.Seen == nil || imported.Seen.Requests != 12 || imported.Seen.Tokens != 8 {
		t.Errorf("batch of 4: got seen %+v, want the sum of 4 lines", imported.Seen)
	}
	e = serve(t, ledgertest.New(), asking(c)) // share 0
	if d := e.revoke("revoker", claims(issuerA, `{"sub":"alice"}`)); d.Seen != nil {
		t.Errorf("with the guard off: got seen %+v, want none", d.Seen)
	}
	e.do("operator", "POST", postPath, fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA)).want(409)
	e.do("operator", "POST", postPath+"?confirm=true", fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA)).want(201)
}

// TestRefusalOfTheGuard reads the refusal. It names the share of the traffic and
// the role that can confirm.
func TestRefusalOfTheGuard(t *testing.T) {
	c := &crowd{silent: 1}
	c.says(insight.Impact{Since: time.Now().Add(-time.Hour), Tokens: 7, Requests: 21, Total: 100})
	e := guarded(t, c)
	p := e.do("revoker", "POST", postPath, claims(issuerA, `{"sub":"alice"}`)).want(409).problem()
	for _, part := range []string{"21 of the 100 requests", "21 %", "20 %", "7 tokens", "1 of 2 replicas", "confirm=true by an operator"} {
		if !strings.Contains(p.Detail, part) {
			t.Errorf("revoker, claims: got detail %q, want it to say %q", p.Detail, part)
		}
	}
	p = e.do("revoker", "POST", postPath, claims(issuerA, `{"client_id":"light"}`)+" ").want(409).problem()
	if strings.Contains(p.Detail, "light") {
		t.Errorf("revoker, claims: got detail %q, want no value of the request", p.Detail)
	}
}

// Parameters that are neither true nor false are refused. An empty dry_run once
// revoked for real.
func TestParametersOfTheGuard(t *testing.T) {
	e := serve(t, ledgertest.New())
	body := claims(issuerA, `{"sub":"alice"}`)
	for _, name := range []string{"dry_run", "confirm", "unknown_issuer", "seen"} {
		for value, want := range map[string]int{"": 422, "1": 422, "TRUE": 422, "no": 422, "true&" + name + "=false": 422} {
			e.do("operator", "POST", postPath+"?"+name+"="+value, body).want(want)
		}
	}
	if e.ledger.Len() != 0 {
		t.Fatalf("after refused parameters: got %d in force, want none", e.ledger.Len())
	}
	e.do("operator", "POST", postPath+"?dry_run=true&confirm=true&unknown_issuer=true&seen=true", body).want(200)
	if e.ledger.Len() != 0 {
		t.Fatalf("after a dry run: got %d in force, want none", e.ledger.Len())
	}
	e.do("operator", "POST", postPath+"?dry_run=false&confirm=false&unknown_issuer=false&seen=false", body).want(201)
	e.do("operator", "POST", postPath+"?confirm=true", body).want(200) // where none is needed it changes nothing
}

// knowing is an endpoint whose replicas accept two issuers.
func knowing(t testing.TB, known revocation.KnownIssuers) *endpoint {
	t.Helper()
	return serve(t, ledgertest.New(), func(p *parts) {
		p.authority.KnownIssuers = func() revocation.KnownIssuers { return known }
	})
}

func TestUnknownIssuerIsRefused(t *testing.T) {
	known := revocation.KnownIssuers{Settled: true, AnyReplica: true, Issuers: []revocation.AcceptedIssuer{
		{Issuer: issuerA, Audiences: []string{"api"}}, {Issuer: issuerB, Audiences: []string{"api"}}, {Issuer: "https://far.example.com/realms/x"},
	}}
	e := knowing(t, known)
	wrong := strings.TrimSuffix(issuerA, "/") // a slash is missing
	for _, who := range []string{"operator", "revoker"} {
		p := e.do(who, "POST", postPath, claims(wrong, `{"jti":"t1"}`)).want(422).problem()
		if p.Type != "unknown_issuer" || len(p.Errors) != 1 || p.Errors[0].Member != "issuer" || !strings.Contains(p.Detail, fmt.Sprintf("%q", issuerA)) {
			t.Errorf("%s: got %+v, want unknown_issuer that names %s", who, p, issuerA)
		}
		e.do(who, "POST", postPath+"?dry_run=true", claims(wrong, `{"jti":"t1"}`)).want(422)
	}
	if e.ledger.Len() != 0 || e.audited(func(a ledger.AuditEntry) bool { return a.Outcome == ledger.Refused && a.Action == ledger.ActRevoke }) != 4 {
		t.Errorf("after 4 refusals: got %d in force, want none, each in the audit", e.ledger.Len())
	}
	e.do("revoker", "POST", postPath, claims(issuerA, `{"jti":"t1"}`)).want(201)
	d := e.do("revoker", "POST", postPath+"?unknown_issuer=true", claims(wrong, `{"jti":"t1"}`)).want(201).document()
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "no replica accepts") {
		t.Errorf("unknown_issuer=true: got warnings %q, want one", d.Warnings)
	}
	batch := lines(5, func(i int) string { return claims([]string{issuerA, wrong}[i%2], fmt.Sprintf(`{"jti":"u%d"}`, i)) })
	p := e.do("revoker", "POST", postPath, batch, "Content-Type", typeNDJSON).want(422).problem()
	if p.Type != "unknown_issuer" || len(p.Errors) != 2 || p.Errors[0].Line != 2 || p.Errors[1].Line != 4 {
		t.Errorf("batch: got %+v, want faults of lines 2 and 4", p)
	}
	e.do("revoker", "POST", postPath+"?unknown_issuer=true", batch, "Content-Type", typeNDJSON).want(201)
	// a revocation of an unknown issuer can be restored
	e.do("revoker", "DELETE", postPath+"/"+url.PathEscape(d.ID), "").want(200)

	// A credential that is for some issuers learns of no others.
	e = serve(t, ledgertest.New(), func(p *parts) {
		p.authority.KnownIssuers = func() revocation.KnownIssuers { return known }
		p.api.Credentials = append(p.api.Credentials, credential("stray", []string{wrong, issuerB}, ledger.Revoker))
	})
	p = e.do("stray", "POST", postPath, claims(wrong, `{"jti":"t1"}`)).want(422).problem()
	if strings.Contains(p.Detail, fmt.Sprintf("%q", issuerA)) || !strings.Contains(p.Detail, issuerB) {
		t.Errorf("a bound credential: got %q, want no issuer named but its own %s", p.Detail, issuerB)
	}
}

// Where it is not certain that an issuer is unknown, nothing is refused: this
// must never stop all revoking.
func TestUncertainIssuersAreNotRefused(t *testing.T) {
	accepted := []revocation.AcceptedIssuer{{Issuer: issuerA}}
	for name, known := range map[string]revocation.KnownIssuers{
		"no replica was ever seen":         {Settled: true},
		"the first seconds after a start":  {AnyReplica: true, Issuers: accepted},
		"a replica that reports none":      {Settled: true, AnyReplica: true, Every: true, Issuers: accepted},
		"the zero value of the known":      {},
		"the issuer is accepted somewhere": {Settled: true, AnyReplica: true, Issuers: append(accepted, revocation.AcceptedIssuer{Issuer: issuerB})},
	} {
		e := knowing(t, known)
		if got := e.do("revoker", "POST", postPath, claims(issuerB, `{"jti":"t1"}`)); got.Code != 201 {
			t.Errorf("%s: got status %d, want 201: %s", name, got.Code, got.Body)
		}
	}
}

// An order with very many unknown issuers costs no more than a few searches
// for the nearest.
func TestManyUnknownIssuers(t *testing.T) {
	known := revocation.KnownIssuers{Settled: true, AnyReplica: true}
	for i := range 1000 {
		known.Issuers = append(known.Issuers, revocation.AcceptedIssuer{Issuer: fmt.Sprintf("https://idp.example/%0200d", i)})
	}
	e := knowing(t, known)
	batch := lines(20_000, func(i int) string { return claims(fmt.Sprintf("https://other.example/%0200d", i), `{"jti":"t1"}`) })
	p := e.do("revoker", "POST", postPath, batch, "Content-Type", typeNDJSON).want(422).problem()
	named := 0
	for _, f := range p.Errors {
		if strings.Contains(f.Message, "nearest") {
			named++
		}
	}
	if named == 0 || named > 20 {
		t.Errorf("got the nearest issuer in %d of %d faults, want it in a few", named, len(p.Errors))
	}
}

// An action is weighed as a person's revocation is, and nobody confirms it.
func TestActionsAreGuarded(t *testing.T) {
	for name, c := range map[string]struct {
		revoke string
		weight insight.Impact
		done   bool
	}{
		"a light subject":                   {"subject", insight.Impact{Requests: 20, Total: 100}, true},
		"a heavy subject":                   {"subject", insight.Impact{Requests: 21, Total: 100}, false},
		"a loud token":                      {"token", insight.Impact{Requests: 99, Total: 100}, true},
		"a loud session":                    {"session", insight.Impact{Requests: 99, Total: 100}, true},
		"a subject, with little other load": {"subject", insight.Impact{Requests: 90, Total: 90}, true},
	} {
		for _, block := range []bool{false, true} {
			crowd := &crowd{}
			crowd.says(c.weight)
			e := guarded(t, crowd)
			action := Action{Detector: insight.RevokedTokenUsed, Revoke: c.revoke, Block: block, MaxPerHour: 10}
			if err := action.Target(e.authority, slog.New(slog.DiscardHandler)).Send(t.Context(), ofToken()); err != nil {
				t.Fatalf("%s (block: %v): got the error %v, want none", name, block, err)
			}
			refused := e.audited(func(a ledger.AuditEntry) bool {
				return a.Outcome == ledger.Refused && a.By == "alert:revoked_token_used"
			})
			if done := e.ledger.Len() == 1; done != c.done || (refused == 1) == c.done {
				t.Errorf("%s (block: %v): got %d in force and %d refusals in the audit, want it done: %v", name, block, e.ledger.Len(), refused, c.done)
			}
		}
	}
}

// An alert about an issuer that its replica does not accept revokes nobody.
func TestNoActionByHearsay(t *testing.T) {
	e := serve(t, ledgertest.New())
	action := Action{Detector: insight.RevokedTokenUsed, Revoke: "subject", Block: true, MaxPerHour: 10}
	in := inbox(t, action.Target(e.authority, slog.New(slog.DiscardHandler)))
	from := reporter("replica-a")
	from.Issuers = []string{issuerB}
	if err := in.Take(t.Context(), from, []insight.Alert{ofToken()}); err != nil {
		t.Fatal(err)
	}
	noToken := ofToken()
	noToken.Key, noToken.TokenID = "k2", ""
	if err := in.Take(t.Context(), reporter("replica-a"), []insight.Alert{noToken}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the audit says that the alert names no token", func() bool {
		return e.audited(func(a ledger.AuditEntry) bool { return a.Detail == "the alert names no token" }) == 1
	})
	if e.ledger.Len() != 0 {
		t.Errorf("hearsay and an alert without a token: got %d in force, want none", e.ledger.Len())
	}
	named := ofToken()
	named.Key = "k3"
	if err := in.Take(t.Context(), reporter("replica-a"), []insight.Alert{named}); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "the action has revoked the token", func() bool { return e.ledger.Len() == 1 })
	items, _ := e.ledger.List(ledger.Query{Limit: 1})
	if got := items[0].Reason; !strings.HasSuffix(got, "reported with the feed credential replicas") {
		t.Errorf("an action's revocation: got reason %q, want the credential that reported", got)
	}
}
