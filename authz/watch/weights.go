package watch

import (
	"fmt"
	"time"

	"rescind/revocation/insight"
)

const (
	// totalAge is the greatest age of the total of all traffic in an answer that
	// needs no scan for anything else.
	totalAge = time.Second
	// sketchBytes bounds the sketches of one answer. A count without a sketch is
	// added as if no other replica had seen the same tokens.
	sketchBytes = 512 << 10
)

// traffic is a number of allowed requests, and when it was counted.
type traffic struct {
	requests uint64
	at       stamp
	known    bool
}

// Weights returns the part of the traffic seen lately that each of several
// revocations hits. It fails if there are more of them than
// [insight.MaxWeighed] or if one names no issuer.
func (w *Watcher) Weights(queries []insight.ImpactQuery) (a insight.Weights, err error) {
	if len(queries) > insight.MaxWeighed {
		return a, fmt.Errorf("the question is about %d revocations; at most %d are taken", len(queries), insight.MaxWeighed)
	}
	for i := range queries {
		if queries[i].Issuer == "" {
			return a, errNoIssuer
		}
	}
	err = w.ask(func(m *memory, breathe func()) { a = m.weights(queries, time.Now(), breathe) })
	return a, err
}

// weighing is one question under way.
type weighing struct {
	m     *memory
	now   stamp
	items []weighed

	// Items by the shortest way from a token to those that may hit it.
	bySubject, bySession map[brief][]*weighed
	scanned              []*weighed
}

// weighed is one revocation of a question, and the tokens that it hits.
type weighed struct {
	target
	requests uint64
	partial  bool
	tokens   *distinct // nil: none yet
}

func (m *memory) weights(queries []insight.ImpactQuery, wall time.Time, breathe func()) insight.Weights {
	w := &weighing{
		m: m, now: m.stamp(wall), items: make([]weighed, len(queries)),
		bySubject: map[brief][]*weighed{}, bySession: map[brief][]*weighed{},
	}
	for i := range queries {
		w.items[i].target = m.target(queries[i], w.now)
		w.add(&w.items[i])
	}
	if w.needsScan() || !m.total.known || m.tokens.n <= pageSize || w.now.since(m.total.at) > totalAge {
		w.scan(breathe)
	}
	return w.answer(wall)
}

// add finds the tokens of a revocation at once where there is a direct way to
// them, and else leaves it for the scan.
func (w *weighing) add(item *weighed) {
	item.partial = !item.whole
	switch {
	case item.none:
	case item.id != 0:
		if k := w.m.tokens.get(item.id); k != nil {
			item.count(k, w.m.allowed(k, w.now))
		}
	case item.subject != brief{} && w.m.tokens.subjects.find(item.subject, func(k *token) { item.count(k, w.m.allowed(k, w.now)) }):
	case item.subject != brief{}:
		w.bySubject[item.subject] = append(w.bySubject[item.subject], item)
	case item.session != brief{}:
		w.bySession[item.session] = append(w.bySession[item.session], item)
	case len(w.scanned) < insight.MaxScanned:
		w.scanned = append(w.scanned, item)
	default:
		item.partial = true
	}
}

func (w *weighing) needsScan() bool {
	return len(w.bySubject) > 0 || len(w.bySession) > 0 || len(w.scanned) > 0
}

// scan looks at every token once, for all revocations together.
func (w *weighing) scan(breathe func()) {
	total := uint64(0)
	w.m.scan(breathe, func(k *token) {
		allowed := w.m.allowed(k, w.now)
		if allowed == 0 {
			return
		}
		total += allowed
		if len(w.bySubject) > 0 && k.subject != (brief{}) {
			countAll(w.bySubject[k.subject], k, allowed)
		}
		if len(w.bySession) > 0 && k.session != (brief{}) {
			countAll(w.bySession[k.session], k, allowed)
		}
		countAll(w.scanned, k, allowed)
	})
	w.m.total = traffic{requests: total, at: w.now, known: true}
}

func countAll(items []*weighed, k *token, allowed uint64) {
	for _, item := range items {
		item.count(k, allowed)
	}
}

// count adds a token if the revocation hits it.
func (item *weighed) count(k *token, allowed uint64) {
	if allowed == 0 || !item.hits(k) {
		return
	}
	if item.tokens == nil {
		item.tokens = newDistinct()
	}
	item.requests += allowed
	item.tokens.add(spread(k.id))
}

func (w *weighing) answer(wall time.Time) insight.Weights {
	a := insight.Weights{
		Since: w.m.since(wall), Total: w.m.total.requests, Partial: w.m.partial(wall),
		Items: make([]insight.Weight, len(w.items)),
	}
	room := sketchBytes
	for i := range w.items {
		item, out := &w.items[i], &a.Items[i]
		out.Requests, out.Partial = item.requests, item.partial
		a.Total = max(a.Total, item.requests) // the total may be a second older
		if item.tokens == nil {
			continue
		}
		var sketch []byte
		if out.Tokens, sketch = item.tokens.result(); len(sketch) <= room {
			out.Sketch = sketch
			room -= len(sketch)
		}
	}
	return a
}
