package test

import (
	"math/rand/v2"
	"sync"
	"time"
)

// soakMargin is the time that the parts of the stack have to notice the end of a fault:
// a second worker of Envoy after the first, and the module after the replica.
const soakMargin = 500 * time.Millisecond

// soakToken is a token and the moments at which its answer changes.
type soakToken struct {
	text, subject, id, session, client, kid string

	issued, ends time.Time
	never        string // why no request with the token is allowed; empty: it is a good one

	sent, inForce time.Time // a revocation of this token alone; guarded by soakModel.mu
}

// soakModel knows which answers are right.
type soakModel struct {
	mu       sync.Mutex
	wide     []*soakWide
	keys     map[string]*soakKey // by kid
	outages  []soakOutage
	listener time.Time // the last change of the listener
	good     []*soakToken
	gone     []*soakToken // revoked, or of a retired key, or too old
	bad      []*soakToken
}

// soakWide is a revocation of many tokens.
type soakWide struct {
	client        string // empty: all tokens
	before        time.Time
	sent, inForce time.Time // the zero inForce: not acknowledged yet
}

// soakKey is a signing key. The replica learns of a new key and of the end of the old
// ones by the same refresh.
type soakKey struct{ accepted, retired, refused time.Time }

// soakOutage is an outage of the replica. The zero times have not come yet.
type soakOutage struct {
	begun, silent time.Time // before the replica is stopped, and after that
	back, over    time.Time // before the replica is started, and when tokens are allowed again
}

// soakSilence is the time for which Envoy may use the table of a replica that is
// silent.
const soakSilence = 1200 * time.Millisecond

// Reasons for denials that a round waits for.
const (
	soakAway    = "of a replica that is away"
	soakRetired = "signed by a retired key"
)

// after reports whether at has come before t.
func after(t, at time.Time) bool { return !at.IsZero() && !t.Before(at) }

// judge returns whether a request from began to ended must be allowed, and why it must
// be denied. If neither, both answers are right.
func (m *soakModel) judge(k *soakToken, began, ended time.Time) (allow bool, deny string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := m.keys[k.kid]
	switch {
	case k.never != "":
		return false, k.never
	case after(began, k.inForce):
		return false, "revoked"
	case began.After(k.ends.Add(soakLeeway + 2*time.Second)):
		return false, "expired"
	case after(began, key.refused):
		return false, soakRetired
	}
	doubt := after(ended, k.sent) || !ended.Before(k.ends) || !after(began, key.accepted) || after(ended, key.retired)
	for _, w := range m.wide {
		if !w.covers(k) {
			continue
		}
		if after(began, w.inForce) {
			return false, "revoked with many"
		}
		doubt = doubt || after(ended, w.sent)
	}
	for _, o := range m.outages[max(0, len(m.outages)-2):] {
		if after(began.Add(-soakSilence), o.silent) && !after(ended, o.back) {
			return false, soakAway
		}
		doubt = doubt || ended.After(o.begun) && !after(began, o.over)
	}
	return !doubt, ""
}

func (w *soakWide) covers(k *soakToken) bool {
	return (w.client == "" || w.client == k.client) && k.issued.Before(w.before)
}

// mayBeCut reports whether a connection may end because its listener has changed. A
// connection whose beginning is unknown has the zero time.
func (m *soakModel) mayBeCut(opened, ended time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listener.After(opened.Add(-soakMargin)) && ended.Before(m.listener.Add(5*time.Second))
}

func (m *soakModel) listenerChanges(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listener = now
}

// outage changes the outage that goes on.
func (m *soakModel) outage(change func(*soakOutage)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.outages[len(m.outages)-1])
}

func (m *soakModel) outageBegins(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outages = append(m.outages, soakOutage{begun: now})
}

// wasAway reports whether the replica was away for a part of a time.
func (m *soakModel) wasAway(from, to time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.outages {
		if to.After(o.begun) && !after(from, o.over) {
			return true
		}
	}
	return false
}

// retire notes that all keys but one are about to be retired.
func (m *soakModel) retire(but string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for kid, k := range m.keys {
		if kid != but && k.retired.IsZero() {
			k.retired = now
		}
	}
}

// accept notes that the replica has the new key, and so no retired one.
func (m *soakModel) accept(kid string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.key(kid).accepted = at
	for _, k := range m.keys {
		if !k.retired.IsZero() && k.refused.IsZero() {
			k.refused = at
		}
	}
}

func (m *soakModel) key(kid string) *soakKey {
	if m.keys[kid] == nil {
		m.keys[kid] = &soakKey{}
	}
	return m.keys[kid]
}

const mostGood, mostGone = 1000, 300

// add makes a good token one of those that are used again.
func (m *soakModel) add(k *soakToken) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.good) < mostGood {
		m.good = append(m.good, k)
	} else {
		m.good[rand.N(mostGood)] = k
	}
}

// anyGood returns a token that may be good, or nil. A token that has ended is asked
// about again among those that are gone.
func (m *soakModel) anyGood() *soakToken {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.good) == 0 {
		return nil
	}
	i := rand.N(len(m.good))
	k := m.good[i]
	if time.Now().After(k.ends) || !m.key(k.kid).retired.IsZero() {
		m.drop(i)
	}
	return k
}

// lose makes all good tokens that a revocation covers tokens that are gone.
func (m *soakModel) lose(w *soakWide) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.good) - 1; i >= 0; i-- {
		if w.covers(m.good[i]) {
			m.drop(i)
		}
	}
}

// takeGood removes a token, so that it can be revoked, and returns it.
func (m *soakModel) takeGood() *soakToken {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.good) == 0 {
		return nil
	}
	i := rand.N(len(m.good))
	k := m.good[i]
	k.sent = time.Now()
	m.drop(i)
	return k
}

// drop makes a good token one of those that are gone. The caller holds mu.
func (m *soakModel) drop(i int) {
	k, last := m.good[i], len(m.good)-1
	m.good[i] = m.good[last]
	m.good = m.good[:last]
	if len(m.gone) < mostGone {
		m.gone = append(m.gone, k)
	} else {
		m.gone[rand.N(mostGone)] = k
	}
}

// oneOf returns one of a list of m, or nil.
func (m *soakModel) oneOf(list *[]*soakToken) *soakToken {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(*list) == 0 {
		return nil
	}
	return (*list)[rand.N(len(*list))]
}
