package decisionlog

import (
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rescind/authz"
)

// Limits of the lines of denials within one [window].
const (
	defaultPerSecond = 100
	// revokedPerSecond is the least limit of the reason revoked. Each use of a
	// revoked token is worth a line, and a client needs a real token for it.
	revokedPerSecond = 1000
	// allNetworks is how many times the limit of one network all networks
	// together have for one reason.
	allNetworks = 10
	// maxOrigins bounds the memory of a limit. Clients choose their networks.
	maxOrigins = 256
)

// window is the time between two summaries. A limit begins anew with each.
const window = time.Second

// origin names the denials that share a limit. Every denial of more than
// [maxOrigins] origins shares the origin of its cause with elsewhere set.
type origin struct {
	cause
	network   netip.Prefix // of the client; zero: not known, or elsewhere
	elsewhere bool
}

// cause says why denials have a line. There are few, because a request chooses
// among the reasons of [authz.Reason] alone.
type cause struct {
	reason    authz.Reason
	wouldDeny authz.Reason // of a request that passed because a policy observes
	rate      float64
}

// tally counts the denials of one origin within a window.
type tally struct {
	lines, suppressed int
	since             time.Time // of the first that was suppressed
	elsewhere         bool
	cause             *causeTally
}

// causeTally counts the denials of one cause, from all networks.
type causeTally struct {
	lines int
	total prometheus.Counter // suppressed, since the start
}

// limit decides which denials have a line of their own. Its lock is held for a
// look at a map and never while something is written.
type limit struct {
	total *prometheus.CounterVec

	mu     sync.Mutex
	most   int // lines of one origin within a window
	closed bool
	of     map[origin]*tally
	causes map[cause]*causeTally
}

func newLimit() *limit {
	return &limit{
		of: map[origin]*tally{}, causes: map[cause]*causeTally{},
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rescind_decision_log_suppressed_total", Help: "Denials without a line of their own, because of log.decisions.max_per_second. Summary lines have their number.",
		}, []string{"reason"}),
	}
}

func (l *limit) set(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = most
}

// verdict is the answer of a limit.
type verdict int

const (
	written    verdict = iota // the denial gets a line
	suppressed                // a summary counts the denial
	ended                     // there are no more summaries
)

// admit decides whether a denial gets a line, and counts it if it gets none.
func (l *limit) admit(o origin, at time.Time) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ended
	}
	t := l.tally(o)
	most := l.most
	if o.reason == authz.Revoked {
		most = max(most, revokedPerSecond)
	}
	all := most * allNetworks
	if t.elsewhere {
		most = all
	}
	if t.lines < most && t.cause.lines < all {
		t.lines++
		t.cause.lines++
		return written
	}
	if t.suppressed++; t.suppressed == 1 {
		t.since = at
	}
	t.cause.total.Inc()
	return suppressed
}

// tally returns the tally of an origin. The caller holds mu.
func (l *limit) tally(o origin) *tally {
	t := l.of[o]
	if t != nil {
		return t
	}
	if !o.elsewhere && len(l.of) >= maxOrigins {
		return l.tally(origin{cause: o.cause, elsewhere: true})
	}
	c := l.causes[o.cause]
	if c == nil {
		c = &causeTally{total: l.total.WithLabelValues(string(o.label()))}
		l.causes[o.cause] = c
	}
	t = &tally{cause: c, elsewhere: o.elsewhere}
	l.of[o] = t
	return t
}

// label returns the reason of the denial, also where a policy observes.
func (c cause) label() authz.Reason {
	if c.wouldDeny != "" {
		return c.wouldDeny
	}
	return c.reason
}

// take begins a new window, and returns a summary of each origin whose denials
// were suppressed in the window before. After the last window the limit admits
// nothing more.
func (l *limit) take(at time.Time, last bool) (summaries []*Record) {
	for o, t := range l.turn(last) {
		if t.suppressed > 0 {
			summaries = append(summaries, &Record{
				At: at, Rate: o.rate, allow: o.wouldDeny != "", reason: o.reason, wouldDeny: string(o.wouldDeny), source: o.network,
				suppressed: t.suppressed, since: t.since, elsewhere: o.elsewhere,
			})
		}
	}
	return summaries
}

// turn begins a new window, and returns the tallies of the window before. The caller
// owns them: an empty map stays with the limit, which denials go on to fill.
func (l *limit) turn(last bool) map[origin]*tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = last
	of := l.of
	if len(of) == 0 {
		return nil
	}
	l.of = make(map[origin]*tally, len(of))
	clear(l.causes)
	return of
}

// giveBack adds a summary that could not be written to the present window, so
// that a later summary has its number.
func (l *limit) giveBack(r *Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tally(origin{
		cause: cause{reason: r.reason, wouldDeny: authz.Reason(r.wouldDeny), rate: r.Rate}, network: r.source, elsewhere: r.elsewhere,
	})
	if t.suppressed == 0 || r.since.Before(t.since) {
		t.since = r.since
	}
	t.suppressed += r.suppressed
}
