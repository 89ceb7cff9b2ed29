package watch

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"rescind/revocation/insight"
)

// maxListed is the number of networks that an answer names.
const maxListed = 1000

// Activity returns the activity of one subject, token, session or client.
func (w *Watcher) Activity(q insight.ActivityQuery) (a insight.Activity, err error) {
	if q.Value == "" {
		return a, fmt.Errorf("the query names no value of %.40q", q.By)
	}
	failed := w.ask(func(m *memory, breathe func()) { a, err = m.activity(q, time.Now(), breathe) })
	if failed != nil {
		return a, failed
	}
	return a, err
}

func (m *memory) activity(q insight.ActivityQuery, wall time.Time, breathe func()) (insight.Activity, error) {
	is, err := m.about(q)
	if err != nil {
		return insight.Activity{}, err
	}
	now := m.stamp(wall)
	a := insight.Activity{
		Since: m.since(wall), Partial: m.partial(wall) || q.By == insight.ByClient && m.unnamed(q.Issuer),
		Networks: map[string]uint64{}, Policies: map[string]uint64{}, Outcomes: map[string]uint64{},
	}
	networks := map[network]uint64{}
	routes := map[uint16]uint64{}
	m.scan(breathe, func(k *token) {
		if !is(k) {
			return
		}
		m.tokens.each(k, now, func(key useKey, count uint32, last stamp) {
			a.Count += uint64(count)
			routes[key.route()] += uint64(count)
			if _, there := networks[key.network()]; there || len(networks) < maxListed {
				networks[key.network()] += uint64(count)
			} else {
				a.Partial = true
			}
			if at := m.wall(last, wall); at.After(a.Last) {
				a.Last = at
			}
			if at := m.wall(k.first, wall); a.First.IsZero() || at.Before(a.First) {
				a.First = at
			}
		})
	})
	for n, count := range networks {
		a.Networks[n.String()] = count
	}
	for r, count := range routes {
		a.Policies[insight.Text(m.names.routes[r].policy)] += count
		a.Outcomes[string(m.names.routes[r].reason)] += count
	}
	return a, nil
}

// scan calls look for every token. Between two pages it calls breathe.
func (m *memory) scan(breathe func(), look func(*token)) {
	for i := 0; i < m.tokens.n; i++ {
		if i%pageSize == 0 && i > 0 {
			breathe()
			if i >= m.tokens.n {
				return
			}
		}
		look(m.tokens.at(i))
	}
}

// about returns a test for the tokens of a query.
func (m *memory) about(q insight.ActivityQuery) (func(*token) bool, error) {
	value := short(q.Value)
	if q.By == insight.ByClient {
		return func(k *token) bool {
			o := &m.names.origins[k.origin()]
			return slices.Contains(o.clients[:], value) && (q.Issuer == "" || o.issuer.name == q.Issuer)
		}, nil
	}
	match, known := map[insight.Dimension]func(*issuer) func(*token) bool{
		insight.BySubject: func(i *issuer) func(*token) bool { return isSubject(i, value) },
		insight.ByToken:   func(i *issuer) func(*token) bool { return isToken(i, value) },
		insight.BySession: func(i *issuer) func(*token) bool { return isSession(i, value) },
	}[q.By]
	if !known {
		return nil, fmt.Errorf("activity cannot be asked for by %.40q; ask by sub, jti, sid or client", q.By)
	}
	// Each issuer needs a test of its own, because a name's hash differs by issuer.
	tests := map[*issuer]func(*token) bool{}
	for name, i := range m.names.issuers {
		if q.Issuer == "" || q.Issuer == name {
			tests[i] = match(i)
		}
	}
	return func(k *token) bool {
		test := tests[m.names.origins[k.origin()].issuer]
		return test != nil && test(k)
	}, nil
}

func isSubject(i *issuer, value string) func(*token) bool {
	b := briefOf(i.of(ofSubject, value))
	return func(k *token) bool { return k.subject == b }
}

func isSession(i *issuer, value string) func(*token) bool {
	b := briefOf(i.of(ofSession, value))
	return func(k *token) bool { return k.session == b }
}

// isToken returns a test for one token. The text is the jti of the token, or the
// name that alerts give to a token without jti.
func isToken(i *issuer, value string) func(*token) bool {
	id := i.of(ofToken, value)
	byHash, there := hashIn(value)
	return func(k *token) bool { return k.id == id || there && k.id == byHash }
}

func hashIn(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, hashPrefix)
	if b, err := hex.DecodeString(digits); ok && err == nil && len(b) >= 8 {
		return max(be64(b), 1), true
	}
	return 0, false
}

// unnamed reports whether there are tokens whose client and key are not known.
func (m *memory) unnamed(of string) bool {
	if of == "" {
		return m.names.short(nil)
	}
	i := m.names.issuers[of]
	return i != nil && m.names.short(i)
}
