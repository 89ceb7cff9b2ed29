package watch

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// Each detector is a method of memory that may raise a sighting. It runs after
// the event's token was found in the table, and before the event counts there.

// revoked raises the use of a revoked token. Its holder may be a client that does
// not know yet, or a thief.
func (m *memory) revoked(e *event, i *issuer) {
	s := sighting{
		detector: insight.RevokedTokenUsed, of: []string{i.name, e.name()},
		times: uint64(e.times), at: e.at, network: e.network, issuer: i.name,
	}
	if e.revokedBy == revocation.KindKeyID {
		s.detector, s.of = insight.DistrustedKeyUsed, []string{i.name, e.keyID}
	}
	s.describe = func(a *insight.Alert) {
		e.describe(a)
		a.Summary = fmt.Sprintf("A revoked token of %s was presented again, from %s.", e.holder(), e.network)
		if s.detector == insight.DistrustedKeyUsed {
			a.Subject, a.TokenID, a.Session = "", "", ""
			a.Summary = fmt.Sprintf("Tokens signed with the revoked key %s are presented, the first from %s.", strconv.Quote(a.KeyID), e.network)
		}
	}
	m.alerts.raise(s)
}

// moved raises a token that comes from too many networks, or from two at once.
func (m *memory) moved(e *event, i *issuer, k *token, now stamp) {
	if e.network == 0 {
		return
	}
	networks, before, been := m.seenFrom(k, e.network, now)
	raise := func(d insight.Detector, summary string) {
		m.alerts.raise(sighting{
			detector: d, of: []string{i.name, e.name()}, times: 1, at: e.at, network: e.network, issuer: i.name,
			describe: func(a *insight.Alert) {
				e.describe(a)
				a.Summary = summary
			},
		})
	}
	if limit := m.settings.NetworksPerToken; limit > 0 && !been && networks+1 > limit {
		raise(insight.ManyNetworks, fmt.Sprintf("A token of %s came from more than %d networks within %v.", e.holder(), limit, m.settings.Window))
	}
	if m.settings.AtOnce > 0 && been && now.since(before) <= m.settings.AtOnce && e.network.comparable(k.use.network()) && m.returned(k.id, now) {
		raise(insight.TwoNetworksAtOnce, fmt.Sprintf("A token of %s is in use from %s and %s at once.", e.holder(), k.use.network(), e.network))
	}
}

// seenFrom returns the number of networks that the token came from, and the time
// of its last use from n, if it has been there.
func (m *memory) seenFrom(k *token, n network, now stamp) (networks int, last stamp, been bool) {
	seen := make([]network, 0, maxUses+1)
	m.tokens.each(k, now, func(key useKey, _ uint32, at stamp) {
		from := key.network()
		if from == n && (!been || at.after(last)) {
			last, been = at, true
		}
		for _, s := range seen {
			if s == from {
				return
			}
		}
		if from != 0 {
			seen = append(seen, from)
		}
	})
	return len(seen), last, been
}

// crossing is a token that came back to a network shortly after it had left it.
// One crossing may be a late request of a client that changed networks.
type crossing struct {
	id   uint64
	last stamp
}

func (c *crossing) key() uint64 { return c.id }
func (c *crossing) used() stamp { return c.last }

// returned notes a crossing, and reports whether the token crossed just before.
func (m *memory) returned(id uint64, now stamp) bool {
	c := m.crossings.get(id)
	if c == nil {
		c = m.crossings.add(id, func(*crossing) {})
		*c = crossing{id, now}
		return false
	}
	again := now.since(c.last) <= m.settings.AtOnce
	c.last = now
	return again
}

// subject counts the requests of one subject by the minute.
type subject struct {
	id     uint64
	minute uint32
	count  uint32  // in that minute
	usual  float32 // requests in a minute that has any
	learnt uint32  // minutes that usual is made of
	last   stamp
}

func (s *subject) key() uint64 { return s.id }
func (s *subject) used() stamp { return s.last }

const (
	learning      = 10  // minutes before a subject is judged
	weight        = 0.1 // of a new minute
	forgetSubject = MaxWindow
)

// count counts the requests of a subject, and raises those beyond the usual rate. All
// requests of an event count in the minute of the last.
func (m *memory) count(e *event, i *issuer, k *token, now stamp) {
	id := k.subject.hash()
	if e.subject == "" || m.settings.SubjectRate == 0 {
		return
	}
	s := m.subjects.get(id)
	if s == nil {
		s = m.subjects.add(id, func(*subject) {})
		*s = subject{id: id, minute: uint32(now) / 60_000}
	}
	if minute := uint32(now) / 60_000; minute != s.minute {
		s.learn()
		s.minute, s.count = minute, 0
	}
	before := s.count
	s.count += min(e.times, math.MaxUint32-s.count)
	s.last = now
	limit := max(float32(m.settings.SubjectAtLeast), s.usual*float32(m.settings.SubjectRate))
	if s.learnt < learning || float32(s.count) <= limit {
		return
	}
	usual, beyond := s.usual, s.count-max(before, uint32(limit))
	m.alerts.raise(sighting{
		detector: insight.SubjectRate, of: []string{i.name, e.subject}, times: uint64(beyond), at: e.at, network: e.network, issuer: i.name,
		describe: func(a *insight.Alert) {
			e.describe(a)
			a.KeyID = "" // the token is the one that went beyond the limit
			a.Summary = fmt.Sprintf("Requests of %s came to more than %.0f within a minute; usual are %.0f.", e.holder(), limit, usual)
		},
	})
}

// learn updates the usual rate from a minute that is over. A minute far above the
// usual counts as twice the usual, so that a rate becomes usual only if it lasts.
func (s *subject) learn() {
	seen := float32(s.count)
	if s.learnt >= learning {
		seen = min(seen, 2*s.usual)
	}
	s.usual += (seen - s.usual) * max(weight, 1/float32(s.learnt+1))
	s.learnt++
}

// issued raises a new token that lives much longer than others of its issuer.
func (m *memory) issued(e *event, i *issuer) {
	life := e.lifetime()
	if life == 0 {
		return
	}
	usual, known := i.lifetimes.percentile()
	i.lifetimes.add(life)
	if factor := m.settings.LifetimeFactor; factor == 0 || !known || life <= max(m.settings.LifetimeAtLeast, usual*time.Duration(factor)) {
		return
	}
	m.alerts.raise(sighting{
		detector: insight.TokenLifetime, of: []string{i.name, e.clients.First()}, times: 1, at: e.at, network: e.network, issuer: i.name,
		describe: func(a *insight.Alert) {
			e.describe(a)
			a.Summary = fmt.Sprintf("A token of %s lives for %v; 99 of 100 of this issuer's live for at most %v.", e.holder(), life, usual.Round(time.Second))
		},
	})
}

// burstOf returns the detector of bursts of a reason, or "" if there is none.
func burstOf(r authz.Reason) insight.Detector {
	switch r {
	case authz.BadSignature:
		return insight.BadSignatures
	case authz.UnknownKey:
		return insight.UnknownKeys
	case authz.UnsupportedAlgorithm:
		return insight.WrongAlgorithms
	}
	return ""
}
