package control

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/revocation/ledger/ledgertest"
)

// setsOfClaimNames returns an import of a thousand lines that meets the bound of
// sets of claim names.
func setsOfClaimNames() string {
	return lines(1000, func(i int) string { return claims(issuerA, fmt.Sprintf(`{"shape-%d":"x"}`, i)) })
}

// A credential that sends refused imports without end is answered 429 with the
// pause. Other credentials, the operator's imports and the
// credential's single revocations go on. After the pause the next import is read.
func TestRefusedImportsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := serve(t, ledgertest.New())
		ndjson := []string{"Content-Type", typeNDJSON}
		statuses := map[int]int{}
		for range 100 {
			statuses[e.do("revoker", "POST", postPath, setsOfClaimNames(), ndjson...).Code]++
		}
		if want := map[int]int{422: 21, 429: 79}; fmt.Sprint(statuses) != fmt.Sprint(want) {
			t.Errorf("100 refused imports of 1000 lines: got the statuses %v, want %v", statuses, want)
		}
		if got := testutil.ToFloat64(e.server.metrics.refused.WithLabelValues("refused_imports")); got != 79 {
			t.Errorf("rescind_control_requests_refused_total{bound=refused_imports}: got %v, want 79", got)
		}
		a := e.do("revoker", "POST", postPath, setsOfClaimNames(), ndjson...).want(429)
		if wait := a.Header().Get("Retry-After"); wait != "1" || !strings.Contains(a.problem().Detail, "100000 lines at once") {
			t.Errorf("the pause: got Retry-After %q and %q, want 1 and a detail with the bound", wait, a.Body)
		}
		e.do("bound", "POST", postPath, claims(issuerB, `{"jti":"y"}`), ndjson...).want(201)
		e.do("revoker", "POST", postPath, claims(issuerA, `{"jti":"x"}`)).want(201)
		for range 100 {
			e.do("operator", "POST", postPath, "{", ndjson...).want(422)
		}
		time.Sleep(time.Second)
		e.do("revoker", "POST", postPath, claims(issuerA, `{"jti":"z"}`), ndjson...).want(201)
	})
}
