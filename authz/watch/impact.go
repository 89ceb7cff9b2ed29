package watch

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/axiomhq/hyperloglog"

	"rescind/authz"
	"rescind/revocation/insight"
)

// Impact returns the part of the traffic seen lately that a revocation would
// have hit. A claim that is not remembered is passed over and makes the answer
// partial. A revocation without any claim that is remembered hits nothing, and
// its answer is partial.
func (w *Watcher) Impact(q insight.ImpactQuery) (a insight.Impact, err error) {
	if q.Issuer == "" {
		return a, errNoIssuer
	}
	err = w.ask(func(m *memory, breathe func()) { a = m.impact(q, time.Now(), breathe) })
	return a, err
}

var errNoIssuer = errors.New("the query names no issuer")

func (m *memory) impact(q insight.ImpactQuery, wall time.Time, breathe func()) insight.Impact {
	now := m.stamp(wall)
	t := m.target(q, now)
	a := insight.Impact{Since: m.since(wall), Partial: m.partial(wall) || !t.whole}
	tokens, subjects, sessions := newDistinct(), newDistinct(), newDistinct()
	m.scan(breathe, func(k *token) {
		allowed := m.allowed(k, now)
		a.Total += allowed
		if allowed == 0 || !t.hits(k) {
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

// allowed returns how many remembered requests with k were allowed.
func (m *memory) allowed(k *token, now stamp) (n uint64) {
	m.tokens.each(k, now, func(key useKey, count uint32, _ stamp) {
		if m.names.routes[key.route()].reason == authz.OK {
			n += uint64(count)
		}
	})
	return n
}

// distinct counts hashes, exactly while they are few. The sketch beside them
// lets the control endpoint merge the count with those of other replicas.
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
		raw = nil // the control endpoint then adds the count without merging it
	}
	if len(d.few) <= few {
		return uint64(len(d.few)), raw
	}
	return d.sketch.Estimate(), raw
}

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
