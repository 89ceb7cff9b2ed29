package control

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"rescind/revocation/ledger"
)

// Bounds on the refused imports of one credential. A refused import counts with
// its lines, and with leastRefused at least.
const (
	refusedAtOnce = maxLines // lines, so one import of the largest size
	refusedRate   = 5000     // lines that are forgiven in a second
	leastRefused  = 5000     // lines, so one short import a second in the long run
)

// refusedImports bounds the work that the refused imports of one credential
// cause: each line of a refused import was read and judged for nothing. Imports
// of an operator, and imports that are accepted, do not count. It has a limiter
// of lines for each credential.
type refusedImports map[string]*rate.Limiter

func newRefusedImports(credentials []Credential) refusedImports {
	of := make(refusedImports, len(credentials))
	for _, c := range credentials {
		of[c.Name] = rate.NewLimiter(refusedRate, refusedAtOnce)
	}
	return of
}

// add counts an import of the caller if err refuses it.
func (r refusedImports) add(c *ledger.Caller, lines int, err error) {
	if c.Has(ledger.Operator) || !errors.As(err, new(*ledger.Refusal)) {
		return
	}
	r[c.Name].ReserveN(time.Now(), min(max(lines, leastRefused), refusedAtOnce)) // also beyond the bound: check refuses the imports after it
}

// check returns the problem of a caller whose imports were refused too often, or
// nil. The problem says how long the caller has to wait.
func (r refusedImports) check(c *ledger.Caller) *Problem {
	excess := -r[c.Name].Tokens()
	if excess <= 0 {
		return nil
	}
	wait := int(math.Ceil(excess / refusedRate))
	return problem(http.StatusTooManyRequests, fmt.Sprintf(
		"imports of this credential were refused too often: refused imports may have %d lines at once and %d a second after that, and each counts as %d at least; correct the import, and try again in %d s",
		refusedAtOnce, refusedRate, leastRefused, wait)).with("Retry-After", strconv.Itoa(wait))
}
