package watch

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"github.com/axiomhq/hyperloglog"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// Impact is how much of what was seen lately a revocation would have hit. Of
// claims that are not remembered it says so; one that has nothing else is told
// to hit nothing, in part. client_id and azp are remembered as one.
func (w *Watcher) Impact(q insight.ImpactQuery) (a insight.Impact, err error) {
	if q.Issuer == "" {
		return a, errors.New("the issuer is missing")
	}
	err = w.ask(func(m *memory, breathe func()) { a = m.impact(q, time.Now(), breathe) })
	return a, err
}

func (m *memory) impact(q insight.ImpactQuery, wall time.Time, breathe func()) insight.Impact {
	now := m.stamp(wall)
	hits, whole := m.target(q)
	a := insight.Impact{Since: m.since(wall), Partial: m.partial(wall) || !whole}
	tokens, subjects, sessions := newDistinct(), newDistinct(), newDistinct()
	m.scan(breathe, func(k *token) {
		allowed := uint64(0)
		m.tokens.each(k, now, func(what useKey, count uint32, _ stamp) {
			if r := m.names.routes[what.route()].reason; r == authz.OK {
				allowed += uint64(count)
			}
		})
		a.Total += allowed
		if allowed == 0 || !hits(k) {
			return
		}
		a.Requests += allowed
		tokens.add(spread(k.id))
		if k.subject != (brief{}) {
			subjects.add(k.subject.hash())
		}
		if k.session != (brief{}) {
			sessions.add(k.session.hash())
		}
	})
	a.Tokens, a.TokensSketch = tokens.result()
	a.Subjects, a.SubjectsSketch = subjects.result()
	a.Sessions, a.SessionsSketch = sessions.result()
	return a
}

// target makes a test for tokens that q is about. whole says that it is about
// no others.
func (m *memory) target(q insight.ImpactQuery) (hits func(*token) bool, whole bool) {
	i := m.names.issuers[q.Issuer]
	if i == nil {
		return func(*token) bool { return false }, true
	}
	tests := []func(*token) bool{func(k *token) bool { return m.names.origins[k.origin()].issuer == i }}
	named := len(tests)
	whole = true
	for name, value := range q.Claims {
		if test := m.claim(i, name, value); test != nil {
			tests = append(tests, test)
		} else {
			whole = false
		}
	}
	if q.KeyID != "" {
		tests = append(tests, func(k *token) bool { return m.names.origins[k.origin()].keyID == short(q.KeyID) })
	}
	if b, err := hex.DecodeString(q.Hash); err == nil && len(b) == 32 {
		tests = append(tests, func(k *token) bool { return k.id == max(be64(b), 1) })
	}
	if len(tests) == named && !q.All {
		return func(*token) bool { return false }, false
	}
	if _, client := q.Claims["client_id"]; q.KeyID != "" || client || q.Claims["azp"] != nil {
		whole = whole && !m.names.short(i)
	}
	return func(k *token) bool {
		for _, test := range tests {
			if !test(k) {
				return false
			}
		}
		return q.Before.IsZero() || k.issued == 0 || revocation.Micros(k.issued)*1e6 < revocation.MicrosOf(q.Before)
	}, whole
}

// claim is a test for tokens with this claim; nil if it is not remembered.
func (m *memory) claim(i *issuer, name string, value any) func(*token) bool {
	text, ok := value.(string)
	if !ok || text == "" {
		return nil
	}
	switch name {
	case "iss":
		return func(*token) bool { return text == i.name }
	case "sub":
		return isSubject(i, short(text))
	case "jti":
		id := i.of(ofToken, short(text))
		return func(k *token) bool { return k.id == id }
	case "sid":
		return isSession(i, short(text))
	case "client_id", "azp":
		return func(k *token) bool { return m.names.origins[k.origin()].client == short(text) }
	}
	return nil
}

// distinct counts hashes: exactly as long as they are few, and by a sketch,
// which what other replicas saw can be put into.
type distinct struct {
	few    map[uint64]struct{}
	sketch *hyperloglog.Sketch
}

const few = 1024

func newDistinct() *distinct {
	return &distinct{few: map[uint64]struct{}{}, sketch: newCounter(insight.ImpactPrecision)}
}

func (d *distinct) add(h uint64) {
	if len(d.few) <= few {
		d.few[h] = struct{}{}
	}
	d.sketch.InsertHash(h)
}

func (d *distinct) result() (uint64, []byte) {
	if len(d.few) == 0 {
		return 0, nil
	}
	raw, err := d.sketch.MarshalBinary()
	if err != nil {
		raw = nil // merged, it is counted as if no other replica saw the same
	}
	if len(d.few) <= few {
		return uint64(len(d.few)), raw
	}
	return d.sketch.Estimate(), raw
}

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
