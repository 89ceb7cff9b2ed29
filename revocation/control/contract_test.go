package control

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger/ledgertest"
)

// The tests of this file and of reads_test.go follow the calls of the admin API.

func TestPostRevocationsIs201(t *testing.T) {
	e := serve(t, ledgertest.New())
	before := time.Now()
	a := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"sub":"alice","n":1.50,"admin":true}`)).want(201)
	d := a.document()
	if d.ID != "r2.0" || d.Revision != 2 || a.Header().Get("Location") != "/v1/revocations/r2.0" {
		t.Errorf("id %s, revision %d, location %s; want r2.0, 2 and /v1/revocations/r2.0", d.ID, d.Revision, a.Header().Get("Location"))
	}
	if d.CreatedBy != "revoker" || !d.Active || d.CreatedAt.Before(before.Add(-time.Millisecond)) {
		t.Errorf("created by %s at %v, active %v; want revoker, after %v, true", d.CreatedBy, d.CreatedAt, d.Active, before)
	}
	if got := fmt.Sprint(d.Claims); got != "map[admin:true n:1.5 sub:alice]" {
		t.Errorf("claims %s, want map[admin:true n:1.5 sub:alice]", got)
	}
	again := e.do("viewer", "GET", "/v1/revocations/r2.0", "").want(200).document()
	if fmt.Sprint(again.Claims, again.ExpiresAt, *again.IssuedBefore) != fmt.Sprint(d.Claims, d.ExpiresAt, *d.IssuedBefore) {
		t.Errorf("GET /v1/revocations/r2.0: got %+v, want the answer of POST %+v", again, d)
	}
}

func TestPostTheSameAgainIs200(t *testing.T) {
	e := serve(t, ledgertest.New())
	body := claims(issuerA, `{"jti":"x"}`)
	first := e.revoke("revoker", body)
	second := e.do("operator", "POST", "/v1/revocations", body).want(200).document()
	if second.ID != first.ID || second.CreatedBy != "revoker" {
		t.Errorf("the same again has ID %s by %s, want %s by revoker", second.ID, second.CreatedBy, first.ID)
	}
	e.do("revoker", "DELETE", "/v1/revocations/"+first.ID, "").want(200)
	if third := e.revoke("revoker", body); third.ID == first.ID {
		t.Errorf("after the restoration the same has ID %s, want a new ID", third.ID)
	}
}

func TestDeleteRestores(t *testing.T) {
	e := serve(t, ledgertest.New())
	d := e.revoke("revoker", claims(issuerA, `{"sub":"alice"}`))
	var r, again Restoration
	e.do("revoker", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&r)
	if r.Revision != d.Revision+1 {
		t.Errorf("restored by revision %d, want %d", r.Revision, d.Revision+1)
	}
	e.do("operator", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&again)
	if again.Revision != r.Revision || again.RestoredBy != "revoker" {
		t.Errorf("restored again: %+v, want the first restoration %+v", again, r)
	}
	got := e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200).document()
	if got.Active || got.RestoredBy != "revoker" || got.RestoredRevision != r.Revision {
		t.Errorf("after the restoration: active %v, by %s at revision %d; want false, revoker, %d", got.Active, got.RestoredBy, got.RestoredRevision, r.Revision)
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
		t.Errorf("an import of 2500 lines: %+v and %d in force, want 2500 at revision 2", in, e.ledger.Len())
	}
	e.do("revoker", "POST", "/v1/revocations", b.String(), "Content-Type", "application/x-ndjson").want(201).json(&in)
	if in.Accepted != 2500 || in.Revision != 2 || e.ledger.Len() != 2500 {
		t.Errorf("the same import again: %+v and %d in force, want 2500 at revision 2", in, e.ledger.Len())
	}
	p := e.do("revoker", "POST", "/v1/revocations", b.String()+"\n{}\n{\"x\":1}\n", "Content-Type", "application/x-ndjson").want(422).problem()
	if len(p.Errors) != 3 || p.Errors[0].Line != 2502 || p.Errors[2].Line != 2503 || p.Errors[2].Member != "x" {
		t.Errorf("faults %+v, want two of line 2502 and one of x in line 2503", p.Errors)
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
				t.Errorf("issued_before %v, want one: %v", d.IssuedBefore, tt.before)
			}
			if d.Issuer != issuerA {
				t.Errorf("got the issuer %q, want %q", d.Issuer, issuerA)
			}
			if strings.HasPrefix(tt.name, "token") {
				if !d.ExpiresAt.Equal(time.Unix(exp+60, 0)) {
					t.Errorf("a token that expires at %v: got a revocation until %v, want a minute longer", time.Unix(exp, 0), d.ExpiresAt)
				}
			}
		})
	}
	e.t = t
}

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
			t.Errorf("%s: got %s, want an answer without the signature", body, a.Body)
		}
	}
	log.Lock()
	defer log.Unlock()
	for _, b := range slices.Concat(log.Batches, log.Lines) {
		if strings.Contains(string(b), signature) {
			t.Errorf("the log: got %q, want no signature of a token", b)
		}
	}
}

func TestPostWaitAll(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.replicas = []Replica{{Name: "a", Connected: true, Revision: 100}, {Name: "b", Revision: 3}}
	d := e.do("revoker", "POST", "/v1/revocations?wait=all&timeout=50ms", claims(issuerA, `{"jti":"1"}`)).want(201).document()
	if d.Replicas == nil || d.Replicas.Applied != 2 || d.Replicas.Total != 2 || len(d.Replicas.Pending) != 0 {
		t.Errorf("wait=all with both replicas in force: got the replicas %+v, want 2 of 2 and none pending", d.Replicas)
	}
	e.revoke("revoker", claims(issuerA, `{"jti":"2"}`))
	d = e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"3"}`)).want(202).document()
	if d.Replicas == nil || d.Replicas.Applied != 1 || !slices.Equal(d.Replicas.Pending, []string{"b"}) {
		t.Errorf("wait=all with replica b behind: got the replicas %+v, want 1 applied and b pending", d.Replicas)
	}
	e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200) // durable all the same
	// wait=all waits for an existing revocation too.
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"3"}`)).want(202)
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"1"}`)).want(200)
	// Restorations and imports wait too.
	var r Restoration
	e.do("revoker", "DELETE", "/v1/revocations/"+d.ID+"?wait=all", "").want(202).json(&r)
	if r.Replicas == nil || !slices.Equal(r.Replicas.Pending, []string{"b"}) {
		t.Errorf("DELETE with wait=all and replica b behind: got the replicas %+v, want b pending", r.Replicas)
	}
	var in Import
	e.do("revoker", "POST", "/v1/revocations?wait=all", claims(issuerA, `{"jti":"4"}`), "Content-Type", typeNDJSON).want(202).json(&in)
	if in.Replicas == nil || in.Replicas.Total != 2 {
		t.Errorf("an import with wait=all: got the replicas %+v, want 2 in all", in.Replicas)
	}
	for query, member := range map[string]string{"wait=some": "wait", "wait=all&timeout=x": "timeout", "wait=all&timeout=-1s": "timeout",
		"wait=all&timeout=2m": "timeout", "timeout=1s": "timeout", "wiat=all": "wiat"} {
		p := e.do("revoker", "POST", "/v1/revocations?"+query, claims(issuerA, `{"jti":"5"}`)).want(422).problem()
		if len(p.Errors) != 1 || p.Errors[0].Member != member {
			t.Errorf("?%s: faults %+v, want one of %s", query, p.Errors, member)
		}
	}
	if e.ledger.Len() != 3 { // 1, 2, 4
		t.Errorf("%d revocations in force, want 3", e.ledger.Len())
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
	// An operator alone restores a revocation that an operator alone may make.
	for _, body := range []string{block, kid, all} {
		d := e.do("operator", "POST", "/v1/revocations?confirm=true", body).want(201).document()
		for _, who := range []string{"viewer", "revoker", "bound", "boundviewer"} {
			e.do(who, "DELETE", "/v1/revocations/"+d.ID, "").want(403)
		}
		if got := e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200).document(); !got.Active {
			t.Errorf("%s is not active after the refusals, want it active: %+v", d.ID, got)
		}
		e.do("operator", "DELETE", "/v1/revocations/"+d.ID, "").want(200)
	}
}

// Several revocations may match one token. Each is restored alone.
func TestRestoringOneLeavesTheOthers(t *testing.T) {
	e := serve(t, ledgertest.New())
	one := e.revoke("operator", fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"a"},"block":true}`, issuerA))
	two := e.revoke("operator", fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"a"},"issued_before":"2026-11-01T00:00:00Z"}`, issuerA))
	e.do("operator", "DELETE", "/v1/revocations/"+one.ID, "").want(200)
	if d := e.do("operator", "GET", "/v1/revocations/"+two.ID, "").want(200).document(); !d.Active || e.ledger.Len() != 1 {
		t.Errorf("the other revocation is active: %v, and %d are in force; want true and 1", d.Active, e.ledger.Len())
	}
}

// Concurrent callers share appends, and each gets the answer to its own request.
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
		t.Errorf("%d distinct IDs, want 200", n)
	}
	if e.ledger.Len() != 200 {
		t.Errorf("%d revocations in force, want 200", e.ledger.Len())
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
		"rescind_admin_requests_total{code=201}{operation=revoke}": 2,
	}
	delete(got, "rescind_admin_requests_total{code=200}{operation=openapi}") // the first test fetches it for all
	if !maps.Equal(got, want) {
		t.Errorf("the metrics:\ngot  %v\nwant %v", got, want)
	}
}

// A repeated revocation is found only if the existing one lasts as long, within a
// minute. A repeated block is never shorter than asked for.
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
			t.Errorf("%s: got a revocation until %v, want at least %v as the first one", tt.name, d.ExpiresAt, first.ExpiresAt)
		}
	}
}
