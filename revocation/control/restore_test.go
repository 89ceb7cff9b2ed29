package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// imports sends lines of revocations as one write.
func (e *endpoint) imports(who string, lines ...string) (in Import) {
	e.t.Helper()
	e.do(who, "POST", "/v1/revocations?confirm=true", strings.Join(lines, "\n"), "Content-Type", typeNDJSON).want(201).json(&in)
	return in
}

func TestDeleteOfARevisionRestoresItsWrite(t *testing.T) {
	e := serve(t, ledgertest.New())
	in := e.imports("revoker", claims(issuerA, `{"jti":"1"}`), claims(issuerB, `{"sub":"b"}`), claims(issuerA, `{"jti":"3"}`))
	if in.Revision != 2 || in.Write != "r2.0" {
		t.Fatalf("an import of three lines: got %+v, want write r2.0 of revision 2", in)
	}
	other := e.revoke("revoker", claims(issuerA, `{"jti":"other"}`))
	e.do("revoker", "DELETE", "/v1/revocations/r2.1", "").want(200)
	e.replicas = []Replica{{Name: "a", Connected: true, Revision: 100}, {Name: "b", Revision: 4}}
	var r WriteRestoration
	e.do("revoker", "DELETE", "/v1/revocations?revision=2&wait=all&timeout=50ms", "").want(202).json(&r)
	if r.Restored != 2 || r.Already != 1 || r.Revision != 5 || r.Write != "r2.0" || !slices.Equal(r.Replicas.Pending, []string{"b"}) {
		t.Errorf("DELETE of revision 2: got %+v, want 2 restored and 1 before, at revision 5 and pending at b", r)
	}
	for _, id := range []string{"r2.0", "r2.1", "r2.2"} {
		if d := e.do("viewer", "GET", "/v1/revocations/"+id, "").want(200).document(); d.Active || d.RestoredBy != "revoker" {
			t.Errorf("%s after the restoration: got active %v by %q, want it restored by revoker", id, d.Active, d.RestoredBy)
		}
	}
	if d := e.do("viewer", "GET", "/v1/revocations/"+other.ID, "").want(200).document(); !d.Active {
		t.Errorf("%s, of another revision: got it restored, want it in force", other.ID)
	}
	e.do("operator", "DELETE", "/v1/revocations?revision=2&write=r2.0", "").want(200).json(&r)
	if r.Restored != 0 || r.Already != 3 || r.Revision != 5 {
		t.Errorf("the same again: got %+v, want none restored, 3 before, and revision 5", r)
	}
	// The lines of the import are new again, so it is another write.
	if again := e.imports("revoker", claims(issuerA, `{"jti":"1"}`), claims(issuerA, `{"jti":"other"}`)); again.Write != "r6.0" {
		t.Errorf("one line that is in force and one that is not: got %+v, want write r6.0", again)
	}
	if again := e.imports("revoker", claims(issuerA, `{"jti":"1"}`)); again.Write != "" || again.Revision != 6 {
		t.Errorf("a line that is in force: got %+v, want no write", again)
	}
}

func TestDeleteOfARevisionIsRefused(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	e.imports("operator", claims(issuerB, `{"jti":"1"}`), claims(issuerB, `{"jti":"2"}`))                                          // r2
	e.imports("operator", claims(issuerB, `{"jti":"3"}`), fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"x"},"block":true}`, issuerB)) // r3
	e.imports("operator", claims(issuerB, `{"jti":"4"}`), claims(issuerA, `{"jti":"5"}`))                                          // r4
	e.imports("operator", fmt.Sprintf(`{"issuer":%q,"kid":"k"}`, issuerB), fmt.Sprintf(`{"issuer":%q,"all":true}`, issuerA))       // r5
	e.imports("operator", claims(issuerA, `{"jti":"6"}`))                                                                          // r6
	const all = "/v1/revocations"
	for _, tt := range []struct {
		who, query string
		status     int
		member     string
	}{
		{"operator", "", 422, "revision"}, {"operator", "?wait=all", 422, "revision"}, {"operator", "?revision=", 422, "revision"},
		{"operator", "?revision=0", 422, "revision"}, {"operator", "?revision=-1", 422, "revision"}, {"operator", "?revision=x", 422, "revision"},
		{"operator", "?revision=2&revision=3", 422, "revision"}, {"operator", "?revision=99999999999999999999", 422, "revision"},
		{"operator", "?write=r2.0", 422, "revision"}, {"operator", "?revision=2&write=", 422, "write"}, {"operator", "?revision=2&wirte=r2.0", 422, "wirte"},
		{"operator", "?revision=2&timeout=1s", 422, "timeout"},
		{"operator", "?revision=1", 404, "revision"}, {"operator", "?revision=77", 404, "revision"},
		{"operator", "?revision=2&write=r2.1", 404, "revision"}, {"operator", "?revision=2&write=r3.0", 404, "revision"}, {"operator", "?revision=2&write=garbage", 404, "revision"},
		{"viewer", "?revision=2", 403, ""}, {"viewer", "", 403, ""}, {"boundviewer", "?revision=2", 403, ""},
		{"revoker", "?revision=3", 403, ""}, {"revoker", "?revision=5", 403, ""}, {"bound", "?revision=3", 403, ""}, {"bound", "?revision=4", 403, ""},
		{"bound", "?revision=6", 404, "revision"},
		{"nobody", "?revision=2", 401, ""},
	} {
		p := e.do(tt.who, "DELETE", all+tt.query, "").want(tt.status).problem()
		if tt.member != "" && (len(p.Errors) == 0 || p.Errors[0].Member != tt.member) {
			t.Errorf("%s DELETE %s: got the faults %+v, want one of %s", tt.who, tt.query, p.Errors, tt.member)
		}
	}
	if e.ledger.Len() != 9 || e.ledger.Revision() != 6 {
		t.Errorf("after the refusals: got %d in force at revision %d, want 9 at 6", e.ledger.Len(), e.ledger.Revision())
	}
	for who, revision := range map[string]int{"bound": 2, "revoker": 6, "operator": 5} {
		e.do(who, "DELETE", fmt.Sprintf("%s?revision=%d", all, revision), "").want(200)
	}
	if e.ledger.Len() != 4 {
		t.Errorf("after three restorations: got %d in force, want 4", e.ledger.Len())
	}
	var page AuditPage
	e.do("operator", "GET", "/v1/audit?limit=1000", "").want(200).json(&page)
	var got []string
	for _, a := range slices.Backward(page.Items) {
		if a.Action == ledger.ActRestore && a.Outcome != ledger.Accepted {
			got = append(got, fmt.Sprintf("%s %s %s", a.By, a.Outcome, a.Write))
		}
		if a.Action == ledger.ActRestore && a.Outcome == ledger.Accepted && (a.Count == 0 || a.Write == "" || a.Revision == 0) {
			t.Errorf("the audit of a restoration: got %+v, want count, write and revision", a)
		}
		if a.Action == ledger.ActImport && a.Write != fmt.Sprintf("r%d.0", a.Revision) {
			t.Errorf("the audit of an import: got the write %q, want that of revision %d", a.Write, a.Revision)
		}
	}
	want := []string{"operator refused ", "operator refused ", "operator refused ", "operator refused r2.1", "operator refused r3.0", "operator refused ",
		"viewer denied ", "viewer denied ", "boundviewer denied ", "revoker denied r3.0", "revoker denied r5.0", "bound denied r3.0", "bound denied r4.0", "bound refused "}
	if !slices.Equal(got, want) {
		t.Errorf("the audit of the refusals:\n got %q\nwant %q", got, want)
	}
}

// importTogether imports three times while an append is held up, until the three
// imports share the next append. The first import is of bound.
func (e *endpoint) importTogether(log *ledgertest.Log) []Import {
	e.t.Helper()
	imported := make([]Import, 3)
	round := 0
	eventually.True(e.t, "three imports share an append", func() bool {
		round++
		held, released := make(chan struct{}), make(chan struct{})
		release := sync.OnceFunc(func() { close(released) })
		e.t.Cleanup(release) // so that a failure does not leave the log held up
		var once sync.Once
		log.Lock()
		log.FailAppend = func() error {
			once.Do(func() { close(held); <-released })
			return nil
		}
		log.Unlock()
		var all sync.WaitGroup
		all.Go(func() { e.revoke("operator", claims(issuerA, fmt.Sprintf(`{"jti":"first%d"}`, round))) })
		<-held                                                         // the next requests wait for the next append
		for i, who := range []string{"bound", "revoker", "operator"} { // the operator last, because a slot is kept for it
			issuer := map[bool]string{true: issuerB, false: issuerA}[who == "bound"]
			all.Go(func() {
				imported[i] = e.imports(who, claims(issuer, fmt.Sprintf(`{"jti":"a%d.%d"}`, round, i)), claims(issuer, fmt.Sprintf(`{"jti":"b%d.%d"}`, round, i)))
			})
			eventually.True(e.t, fmt.Sprintf("%d imports are under way", i+1), func() bool {
				e.server.imports.mu.Lock()
				defer e.server.imports.mu.Unlock()
				return e.server.imports.taken == i+1
			})
		}
		release()
		all.Wait()
		return imported[0].Revision == imported[1].Revision && imported[1].Revision == imported[2].Revision
	})
	return imported
}

// Callers share an append. The API then lists the writes of the revision, and
// restores the one that the caller names.
func TestRevisionOfSeveralWrites(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	imported := e.importTogether(log)
	before, revision := e.ledger.Len(), imported[0].Revision
	path := fmt.Sprintf("/v1/revocations?revision=%d", revision)
	p := e.do("operator", "DELETE", path, "").want(409).problem()
	var ids []string
	for i, w := range p.Writes {
		ids = append(ids, w.ID)
		if w.ID != fmt.Sprintf("r%d.%d", revision, 2*i) || w.Count != 2 || w.CreatedBy == "" || time.Since(w.CreatedAt) > time.Minute {
			t.Errorf("write %d of revision %d: got %+v, want two revocations of its credential, made now", i, revision, w)
		}
	}
	if len(ids) != 3 || !strings.Contains(p.Detail, strings.Join(ids, ", ")) {
		t.Errorf("DELETE of a revision of three writes: got %+v, want their IDs", p)
	}
	// A narrowed credential sees its own write alone, so the write need not be named.
	var r WriteRestoration
	e.do("bound", "DELETE", path, "").want(200).json(&r)
	if r.Restored != 2 || r.Write != imported[0].Write {
		t.Errorf("DELETE by bound: got %+v, want both of write %s", r, imported[0].Write)
	}
	e.do("bound", "DELETE", path+"&write="+imported[1].Write, "").want(404)
	e.do("revoker", "DELETE", path+"&write="+imported[1].Write, "").want(200).json(&r)
	if r.Restored != 2 || r.Write != imported[1].Write || e.ledger.Len() != before-4 {
		t.Errorf("DELETE of write %s: got %+v with %d in force, want 2 restored and %d in force", imported[1].Write, r, e.ledger.Len(), before-4)
	}
}

// A restoration of a write that the log does not take is a 503, and restores
// nothing.
func TestTheLogFailsAtTheRestorationOfAWrite(t *testing.T) {
	log := ledgertest.New()
	e := serve(t, log)
	e.imports("revoker", claims(issuerA, `{"jti":"1"}`), claims(issuerA, `{"jti":"2"}`))
	log.Lock()
	log.FailAppend = func() error { return errors.New("the disk is full") }
	log.Unlock()
	e.do("revoker", "DELETE", "/v1/revocations?revision=2", "").want(503)
	if e.ledger.Len() != 2 {
		t.Errorf("after the failure: got %d in force, want 2", e.ledger.Len())
	}
}
