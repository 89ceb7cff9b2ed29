package watch

import (
	"fmt"
	"strconv"
	"time"

	"rescind/revocation/insight"
)

// bursts counts denials of tokens that were not verified, by the configured
// issuer that they name and by the network.
type bursts struct {
	byNetwork table[burst, *burst]
	byIssuer  map[burstKey]*burst
}

type burstKey struct {
	detector insight.Detector
	issuer   *issuer
}

// burst is a count since an instant.
type burst struct {
	id    uint64
	since stamp
	count uint32
}

func (b *burst) key() uint64 { return b.id }
func (b *burst) used() stamp { return b.since }

const (
	maxBursts = 1 << 13
	// everywhere is the factor of the limit for all networks together.
	everywhere = 10
)

func newBursts() bursts {
	b := bursts{byIssuer: map[burstKey]*burst{}}
	b.byNetwork.limit = maxBursts
	return b
}

func (b *bursts) sweep(share int, now stamp, within time.Duration) {
	b.byNetwork.sweep(share, func(x *burst) bool { return now.since(x.since) > within }, func(*burst) {})
}

// add counts one more, and returns the count.
func (b *burst) add(now stamp, within time.Duration) int {
	if now.since(b.since) > within {
		b.since, b.count = now, 0
	}
	b.count++
	return int(b.count)
}

// failed handles an event whose token was not verified: the issuer that it names
// and the network are all that is known.
func (m *memory) failed(e *event) {
	limit := m.settings.Failures
	detector := burstOf(e.reason)
	if limit == 0 || detector == "" || e.issuer == "" {
		return
	}
	now := m.stamp(e.at)
	i := m.names.issuer(e.issuer)

	at := burstKey{detector, i}
	all := m.bursts.byIssuer[at]
	if all == nil {
		all = &burst{since: now}
		m.bursts.byIssuer[at] = all
	}
	m.burst(e, detector, all.add(now, m.settings.FailuresWithin), limit*everywhere, 0)

	id := max(spread(i.hash^spread(hashOf(0, uint64(e.network), string(detector)))), 1)
	one := m.bursts.byNetwork.get(id)
	if one == nil {
		one = m.bursts.byNetwork.add(id, func(*burst) {})
		*one = burst{id: id, since: now}
	}
	m.burst(e, detector, one.add(now, m.settings.FailuresWithin), limit, e.network)
}

var burstWords = map[insight.Detector]string{
	insight.BadSignatures:   "with a bad signature",
	insight.UnknownKeys:     "of an unknown key",
	insight.WrongAlgorithms: "of an algorithm that is not accepted",
}

// burst raises a sighting once count reaches limit, for all failures so far, and
// for each failure after that. Network 0 stands for all networks together.
func (m *memory) burst(e *event, d insight.Detector, count, limit int, from network) {
	if count < limit {
		return
	}
	s := sighting{detector: d, of: []string{e.issuer, ""}, times: 1, at: e.at, network: e.network, issuer: e.issuer}
	if count == limit {
		s.times = uint64(count)
	}
	where := "all networks together"
	if from != 0 {
		where = from.String()
		s.of[1] = where
	}
	s.describe = func(a *insight.Alert) {
		a.Issuer = insight.Text(e.issuer)
		a.Summary = fmt.Sprintf("%d tokens %s, said to be of issuer %s, came from %s within %v.",
			limit, burstWords[d], strconv.Quote(a.Issuer), where, m.settings.FailuresWithin)
	}
	m.alerts.raise(s)
}
