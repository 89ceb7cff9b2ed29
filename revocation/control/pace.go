package control

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger"
)

// importRate is how many lines a second one credential imports in the long run.
// A line takes about 20 µs of a processor of the control endpoint, and 5 µs of
// each replica.
const importRate = 10_000

// pace spreads the imports of a credential, so that they leave the processors to
// Checks and to other callers. An import makes the next import of its credential
// wait, for the time that its lines take at importRate. So the first import never
// waits, and no import is refused. Restorations of a write count as imports.
// Operators do not wait, and neither do single revocations.
//
// Each control node counts for itself.
type pace struct {
	waited   *prometheus.CounterVec // by operation
	stopping <-chan struct{}        // closed when the process ends

	mu      sync.Mutex
	next    map[string]time.Time // when the next import of a credential begins
	waiting map[string]bool      // credentials that have an import that waits
}

func newPace(waited *prometheus.CounterVec, stopping <-chan struct{}) *pace {
	return &pace{waited: waited, stopping: stopping, next: map[string]time.Time{}, waiting: map[string]bool{}}
}

// wait returns nil once an import of the caller may begin. It returns a problem if
// another import of the credential waits already, if ctx ends, or if the process
// ends.
func (p *pace) wait(ctx context.Context, c *ledger.Caller, operation string) *Problem {
	if c.Has(ledger.Operator) {
		return nil
	}
	length, ok := p.enter(c.Name)
	switch {
	case !ok:
		return problem(http.StatusTooManyRequests, fmt.Sprintf("another import of this credential waits already, because a credential imports %d lines a second in the long run; try again after it", importRate)).retry()
	case length <= 0:
		return nil
	}
	defer p.leave(c.Name)
	p.waited.WithLabelValues(operation).Inc()
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
	case <-p.stopping:
	}
	return problem(http.StatusServiceUnavailable, "the control endpoint stops; nothing was changed").retry()
}

// enter returns how long an import of a credential has to wait. It is not ok if
// another import waits already.
func (p *pace) enter(name string) (length time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[name] {
		return 0, false
	}
	if length = time.Until(p.next[name]); length > 0 {
		p.waiting[name] = true
	}
	return length, true
}

func (p *pace) leave(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, name)
}

// add makes the next import of the caller wait for these lines.
func (p *pace) add(c *ledger.Caller, lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := p.next[c.Name]
	if now := time.Now(); begin.Before(now) {
		begin = now
	}
	p.next[c.Name] = begin.Add(time.Duration(lines) * time.Second / importRate)
}
