package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/revocation/ledger/ledgertest"
)

// importOf returns an import of n lines, whose tokens begin with prefix.
func importOf(prefix string, n int) string {
	return lines(n, func(i int) string { return claims(issuerA, fmt.Sprintf(`{"jti":"%s%d"}`, prefix, i)) })
}

// own returns how long an import waits at most.
func own(body string) time.Duration {
	return (time.Duration(1+len(body)/shortLine) * time.Second / importRate).Round(time.Millisecond)
}

// An import waits for the lines that its credential imported before. The first
// import does not wait, however long it is, and neither do an operator, another
// credential, a single revocation and the restoration of the write. Dry runs and
// repeated imports are work too. A refused import has its own limit.
func TestImportsOfOneCredentialArePaced(t *testing.T) {
	ndjson := []string{"Content-Type", typeNDJSON}
	one := claims(issuerA, `{"jti":"one"}`)
	for name, tt := range map[string]struct {
		who, method, path, body string
		header                  []string
		code                    int
		want                    time.Duration
	}{
		"an import":               {"revoker", "POST", postPath, importOf("b", importRate), ndjson, 201, time.Second},
		"a repeated import":       {"revoker", "POST", postPath, importOf("a", importRate), ndjson, 201, time.Second},
		"a faulty import":         {"revoker", "POST", postPath, importOf("b", importRate) + "{", ndjson, 422, time.Second},
		"a dry run":               {"revoker", "POST", postPath + "?dry_run=true", importOf("b", importRate), ndjson, 200, time.Second},
		"a restoration":           {"revoker", "DELETE", postPath + "?revision=2", "", nil, 200, 0},
		"a single revocation":     {"revoker", "POST", postPath, one, nil, 201, 0},
		"a single restoration":    {"revoker", "DELETE", postPath + "/r2.0", "", nil, 200, 0},
		"another credential":      {"bound", "POST", postPath, claims(issuerB, `{"jti":"x"}`), ndjson, 201, 0},
		"an operator":             {"operator", "POST", postPath, importOf("b", 10), ndjson, 201, 0},
		"an operator restores it": {"operator", "DELETE", postPath + "?revision=2", "", nil, 200, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := serve(t, ledgertest.New())
				began := time.Now()
				e.do("revoker", "POST", postPath, importOf("a", importRate), ndjson...).want(201)
				if took := time.Since(began); took > 0 {
					t.Errorf("the first import, of a second's lines: got an answer after %v, want it at once", took)
				}
				began = time.Now()
				e.do(tt.who, tt.method, tt.path, tt.body, tt.header...).want(tt.code)
				if took := time.Since(began); took != tt.want {
					t.Errorf("%s after a second's lines of a revoker: got an answer after %v, want %v", name, took, tt.want)
				}
				paced := 0
				if tt.want > 0 {
					paced = 1
				}
				if got := testutil.CollectAndCount(e.server.metrics.paced); got != paced {
					t.Errorf("rescind_control_imports_paced_total: got %v, want %v", got, paced)
				}
			})
		})
	}
}

// An urgent import of a few lines does not wait for the lines of a long one before
// it. One whose length is not known does.
func TestAShortImportWaitsForNoLongOne(t *testing.T) {
	ndjson := []string{"Content-Type", typeNDJSON}
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, ledgertest.New())
		e.do("revoker", "POST", postPath, importOf("a", 10*importRate), ndjson...).want(201)
		began := time.Now()
		e.do("revoker", "POST", postPath, importOf("b", 10), ndjson...).want(201)
		if took := time.Since(began); took <= 0 || took > 10*time.Millisecond {
			t.Errorf("an import of 10 lines after one of ten seconds' lines: got an answer after %v, want it after the time of its own lines", took)
		}
		r := httptest.NewRequest(http.MethodPost, postPath, io.MultiReader(strings.NewReader(importOf("c", 10))))
		r.Header.Set("Authorization", "Bearer token-revoker")
		r.Header.Set("Content-Type", typeNDJSON)
		began = time.Now()
		e.server.ServeHTTP(httptest.NewRecorder(), r)
		if took := time.Since(began); took < 9*time.Second {
			t.Errorf("an import of unknown length after one of ten seconds' lines: got an answer after %v, want it after about 10s", took)
		}
	})
}

// An import waits for imports, dry runs and restorations of a write, and a
// restoration for restorations.
func TestEachKindOfImportMakesTheNextOneWait(t *testing.T) {
	ndjson := []string{"Content-Type", typeNDJSON}
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, ledgertest.New())
		took := func(method, path, body string, header ...string) time.Duration {
			began := time.Now()
			if a := e.do("revoker", method, path, body, header...); a.Code >= 300 {
				t.Fatalf("%s %s: got %d %s, want it accepted", method, path, a.Code, a.Body)
			}
			return time.Since(began).Round(time.Millisecond)
		}
		got := []time.Duration{
			took("POST", postPath+"?dry_run=true", importOf("a", 4*importRate), ndjson...),
			took("POST", postPath, importOf("a", 2*importRate), ndjson...),
			took("DELETE", postPath+"?revision=2", ""),
			took("DELETE", postPath+"?revision=2", ""),
			took("POST", postPath, importOf("b", 1000), ndjson...),
			took("POST", postPath, importOf("c", 1000), ndjson...),
		}
		want := []time.Duration{0, own(importOf("a", 2*importRate)), 0, 2 * time.Second, own(importOf("b", 1000)), own(importOf("c", 1000))}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("a dry run of four seconds' lines, an import of two seconds' lines, its restoration twice, and two imports of 1,000: got the times %v, want %v", got, want)
		}
	})
}

// An import that waits holds no place among the imports, which are few. Another
// import of its credential is answered 429 meanwhile. One whose caller has gone
// begins no more, and the end of the process does not wait for one.
func TestAnImportThatWaitsHoldsNoPlace(t *testing.T) {
	ndjson := []string{"Content-Type", typeNDJSON}
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		e := serve(t, ledgertest.New(), func(p *parts) { p.api.Stopping = stopping })
		e.do("revoker", "POST", postPath, importOf("a", 4*importRate), ndjson...).want(201)
		ctx, goAway := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			r := httptest.NewRequestWithContext(ctx, "POST", postPath, strings.NewReader(importOf("b", 4*importRate)))
			r.Header.Set("Authorization", "Bearer token-revoker")
			r.Header.Set("Content-Type", typeNDJSON)
			e.server.ServeHTTP(httptest.NewRecorder(), r)
		})
		synctest.Wait()
		if taken := e.server.imports.taken; taken != 0 {
			t.Errorf("while an import waits: got %d places taken, want none", taken)
		}
		if a := e.do("revoker", "POST", postPath, importOf("c", 4*importRate), ndjson...).want(429); a.Header().Get("Retry-After") != "4" {
			t.Errorf("a second import meanwhile: got Retry-After %q, want 4", a.Header().Get("Retry-After"))
		}
		goAway()
		all.Wait()
		began := time.Now()
		e.do("revoker", "POST", postPath, importOf("c", 4*importRate), ndjson...).want(201)
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("an import after that: got an answer after %v, want 4s", took)
		}
		close(stopping)
		e.do("revoker", "POST", postPath, importOf("d", 4*importRate), ndjson...).want(503)
		if n := e.ledger.Len(); n != 8*importRate {
			t.Errorf("got %d revocations in force, want those of eight seconds, without those of the caller that went away and of the end", n)
		}
	})
}
