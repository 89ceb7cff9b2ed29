package feed

import (
	"context"
	"maps"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

// Messages to many replicas at once take all processors for tens of milliseconds,
// and everything else on the machine waits meanwhile. So the replicas of one
// credential are not woken faster than a pace. A credential with no more than
// paceAtOnce replicas does not notice. A credential with 1,024 replicas is sent a
// revision within about 30 ms on two processors.
const (
	paceAtOnce       = 64
	pacePerProcessor = 18_000 // replicas woken in a second, for each processor
	paceSlice        = 2 * time.Millisecond
)

// pace wakes the sessions of one credential when the tail has grown: lane by lane,
// and not faster than limit allows.
type pace struct {
	limit *rate.Limiter
	paced prometheus.Counter // sessions that waited for their turn

	mu    sync.Mutex
	lanes map[*lane]struct{}
	open  map[string]*lane // the lane of each connection that a further session joins
}

// newPaces returns the pace of each credential. A credential cannot slow down the
// replicas of another.
func newPaces(tokens []Token, paced prometheus.Counter) map[string]*pace {
	paces := make(map[string]*pace, len(tokens))
	for _, t := range tokens {
		paces[t.Name] = &pace{
			limit: rate.NewLimiter(rate.Limit(pacePerProcessor*runtime.GOMAXPROCS(0)), paceAtOnce), paced: paced,
			lanes: make(map[*lane]struct{}), open: make(map[string]*lane),
		}
	}
	return paces
}

// run wakes the sessions after each growth of the tail, until ctx ends.
func (p *pace) run(ctx context.Context, t *tail) {
	for ctx.Err() == nil {
		growth, grown := t.growth()
		late := false
		for _, l := range p.lanesBefore(growth) {
			sessions := p.sessionsOf(l)
			if late = p.await(ctx, sessions) || late; late {
				p.paced.Add(float64(sessions))
			}
			growth, _ := t.growth()
			l.wake(growth)
		}
		select {
		case <-grown:
		case <-ctx.Done():
		}
	}
}

// lanesBefore returns the lanes that were woken last before this growth of the tail.
func (p *pace) lanesBefore(growth uint64) (behind []*lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lanes {
		if l.woken() < growth {
			behind = append(behind, l)
		}
	}
	return behind
}

// sessionsOf returns how many sessions the lane has.
func (p *pace) sessionsOf(l *lane) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.sessions
}

// await waits for the turn of so many sessions, and reports whether it had to wait.
// Turns of one paceSlice come together, so that a processor is not woken for each
// turn.
func (p *pace) await(ctx context.Context, sessions int) (waited bool) {
	now := time.Now()
	wait := p.limit.ReserveN(now, sessions).DelayFrom(now)
	if wait == 0 {
		return false
	}
	rest(ctx, now.Add(wait+paceSlice).Truncate(paceSlice).Sub(now))
	return true
}

// join returns the lane of a new session over the connection from this address. The
// session must call leave in the end.
func (p *pace) join(from string, heartbeat time.Duration) *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.open[from]
	if l == nil || l.sessions == maxStreams {
		l = newLane(from, heartbeat)
		p.lanes[l], p.open[from] = struct{}{}, l
	}
	l.sessions++
	return l
}

// leave takes a session out of its lane.
func (p *pace) leave(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.sessions--; l.sessions > 0 {
		return
	}
	l.close()
	delete(p.lanes, l)
	maps.DeleteFunc(p.open, func(_ string, other *lane) bool { return other == l })
}
