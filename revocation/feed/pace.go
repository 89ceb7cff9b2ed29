package feed

import (
	"runtime"
	"time"

	"golang.org/x/time/rate"
)

// Messages to many replicas at once take all processors for tens of milliseconds,
// and everything else on the machine waits meanwhile. So the replicas of one
// credential are not woken faster than a pace. A credential with no more than
// paceAtOnce replicas does not notice. A credential with 1,024 replicas is sent a
// revision within about 30 ms on two processors.
const (
	paceAtOnce       = 64
	pacePerProcessor = 20_000 // replicas woken in a second, for each processor
	paceSlice        = 2 * time.Millisecond
)

// newPaces returns the pace of each credential. A credential cannot slow down the
// replicas of another.
func newPaces(tokens []Token) map[string]*rate.Limiter {
	paces := make(map[string]*rate.Limiter, len(tokens))
	for _, t := range tokens {
		paces[t.Name] = rate.NewLimiter(rate.Limit(pacePerProcessor*runtime.GOMAXPROCS(0)), paceAtOnce)
	}
	return paces
}
