package control

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/revocation/ledger"
)

// importRate is how many lines a second one credential imports, or restores, in
// the long run. A line takes about 20 µs of a processor of the control endpoint,
// and 5 µs of each replica.
const importRate = 2000

// shortLine is the length of a short line of an import, in bytes. Most are twice as
// long.
const shortLine = 32

// pace spreads the imports of a credential, so that they leave the processors to
// Checks and to other callers. An import makes the next import of its credential
// wait, for the time that its lines take at importRate. So the first import never
// waits. No import waits for longer than its own lines take, so a short one is
// not late because of a long one before it. Dry runs count as imports.
//
// The restoration of a write makes imports and restorations of its credential wait
// likewise. It does not wait for imports, because it may undo a mistake. Operators
// do not wait, and neither do single revocations. Each control node counts for
// itself.
type pace struct {
	waited   *prometheus.CounterVec // by operation
	stopping <-chan struct{}        // closed when the process ends

	mu      sync.Mutex
	next    map[work]time.Time // when imports, or restorations, may begin that wait for this
	waiting map[work]bool
}

// work is an operation by a credential.
type work struct{ credential, operation string }

func newPace(waited *prometheus.CounterVec, stopping <-chan struct{}) *pace {
	return &pace{waited: waited, stopping: stopping, next: map[work]time.Time{}, waiting: map[work]bool{}}
}

// wait returns nil once the caller may begin an import, or the restoration of a
// write. size is the length of the request in bytes, or -1 if it is not known. wait
// returns a problem if another one of the credential waits already, if
// ctx ends, or if the process ends.
func (p *pace) wait(ctx context.Context, c *ledger.Caller, operation string, size int64) *Problem {
	if c.Has(ledger.Operator) {
		return nil
	}
	w := work{c.Name, operation}
	length, ok := p.enter(w, size)
	switch {
	case !ok:
		return problem(http.StatusTooManyRequests, fmt.Sprintf("another one of this credential waits already, because a credential imports and restores %d lines a second in the long run; try again after it", importRate)).
			with("Retry-After", strconv.Itoa(max(1, int(math.Ceil(length.Seconds())))))
	case length <= 0:
		return nil
	}
	defer p.leave(w)
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

// enter returns how long w has to wait. It is not ok if the same waits already.
func (p *pace) enter(w work, size int64) (length time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	length = time.Until(p.next[work{w.credential, restoreWriteOperation}])
	if w.operation == importOperation {
		length = max(length, time.Until(p.next[w]))
		if size >= 0 {
			length = min(length, time.Duration(1+size/shortLine)*time.Second/importRate)
		}
	}
	if p.waiting[w] {
		return length, false
	}
	p.waiting[w] = length > 0
	return length, true
}

func (p *pace) leave(w work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, w)
}

// add makes later work of the caller wait for the lines of an operation.
func (p *pace) add(c *ledger.Caller, operation string, lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := work{c.Name, operation}
	begin := p.next[w]
	if now := time.Now(); begin.Before(now) {
		begin = now
	}
	p.next[w] = begin.Add(time.Duration(lines) * time.Second / importRate)
}
