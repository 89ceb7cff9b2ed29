package watch

import (
	"time"

	"rescind/authz"
	"rescind/revocation/insight"
)

// memory is the whole state of a watcher. The watcher's goroutine owns it.
type memory struct {
	settings *Settings
	began    time.Time

	event  event // the event being handled, here because it is large
	names  *names
	tokens *tokens
	missed memoryLoss // dropped events
	total  traffic    // as of the last scan

	subjects  table[subject, *subject]
	crossings table[crossing, *crossing]
	bursts    bursts
	holders   table[holder, *holder]
	lifetimes *groups
	alerts    *alerts
	layouts   *layouts
}

// Sizes of the tables beside the tokens.
const (
	maxSubjects  = 1 << 16
	maxHolders   = 1 << 16
	maxCrossings = 1 << 12
)

func newMemory(s *Settings, now time.Time, out func(insight.Alert, uint64)) *memory {
	m := &memory{settings: s, began: now, names: newNames(), alerts: newAlerts(out), layouts: new(layouts)}
	m.tokens = newTokens(s.Tokens, s.Window, m.names)
	m.subjects.limit, m.holders.limit, m.crossings.limit = maxSubjects, maxHolders, maxCrossings
	m.bursts = newBursts()
	m.lifetimes = newGroups()
	return m
}

// configure puts other settings in force. It reports whether m can go on with
// them; if not, the watcher needs a new memory.
func (m *memory) configure(s *Settings) bool {
	if m.settings == s {
		return true
	}
	if m.settings.Tokens != s.Tokens || !s.Enabled {
		return false
	}
	m.settings, m.tokens.window = s, s.Window
	return true
}

func (m *memory) stamp(at time.Time) stamp { return stampOf(at.Sub(m.began)) }

// wall returns the time of a stamp.
func (m *memory) wall(s stamp, now time.Time) time.Time {
	return now.Add(-m.stamp(now).since(s)).UTC()
}

// since returns the time to which the memory goes back.
func (m *memory) since(now time.Time) time.Time {
	if start := now.Add(-m.settings.Window); start.After(m.began) {
		return start.UTC()
	}
	return m.began.UTC()
}

// partial reports whether there was more traffic than is remembered. A watcher
// that is switched off remembers nothing, so its answers are partial and never
// read as "no traffic".
func (m *memory) partial(now time.Time) bool {
	at := m.stamp(now)
	return !m.settings.Enabled || m.tokens.partial(at) || m.missed.was && !m.tokens.dead(m.missed.at, at)
}

// note handles an event.
func (m *memory) note(e *event) {
	if !e.verified {
		for range e.times {
			m.failed(e)
		}
		return
	}
	first, now := m.stamp(e.at.Add(-e.span)), m.stamp(e.at)
	i := m.names.issuer(e.issuer)
	if i.carried.note(e, now) {
		m.layouts.forget(e.layout)
	}
	k, fresh := m.tokens.put(i.identity(e), first)
	if fresh {
		m.tokens.begin(k, e, i, first)
		m.issued(e, i)
	} else if e.network != k.use.network() {
		m.moved(e, i, k, first)
	}
	m.tokens.record(k, useOf(e.network, m.names.route(e.policy, e.reason)), first, now, e.times)
	m.count(e, i, k, now)
	if e.reason == authz.Revoked {
		m.revoked(e, i)
	}
	if e.allowed {
		m.learn(e, i, k, fresh, first, now)
	}
}

// tick forgets old entries in one part of each table, and hands out alerts.
func (m *memory) tick(now time.Time) {
	const share = 60 // every entry is looked at once a minute
	at := m.stamp(now)
	m.tokens.sweep(share, func(k *token) bool { return m.tokens.dead(k.last, at) }, m.tokens.forget)
	m.tokens.subjects.shrink()
	m.subjects.sweep(share, func(s *subject) bool { return at.since(s.last) > forgetSubject }, func(*subject) {})
	m.holders.sweep(share, func(h *holder) bool { return at.since(h.last) > forgetHolder }, func(*holder) {})
	m.crossings.sweep(share, func(c *crossing) bool { return at.since(c.last) > m.settings.AtOnce }, func(*crossing) {})
	m.bursts.sweep(share, at, m.settings.FailuresWithin)
	for _, i := range m.names.issuers {
		i.lifetimes.tick(now, m.settings.Window)
		i.carried.sweep(at, m.settings.Window, m.layouts)
	}
	m.lifetimes.tick(now, m.settings.Window)
	m.alerts.tick(now)
}
