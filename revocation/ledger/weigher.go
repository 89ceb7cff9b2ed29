package ledger

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rescind/revocation/insight"
)

const (
	// maxQuestion is the size of the largest question, in bytes. The feed
	// carries no larger one.
	maxQuestion = 60 << 10
	// maxQuestions is how many questions about single revocations are under way
	// at once. Those that come meanwhile share the next question.
	maxQuestions = 2
	// batchTime bounds the weighing of a batch. The weight of the lines that
	// are left by then is not known.
	batchTime = 2 * time.Second
)

// weigher asks the replicas how much of the traffic revocations hit. Single
// revocations that come while a question is under way share the next one, as
// commits share an append.
type weigher struct {
	ask    Ask
	logger *slog.Logger

	mu        sync.Mutex
	waiting   []*single
	questions int
}

// query is one revocation of a question.
type query struct {
	text  []byte // the [insight.ImpactQuery]
	scans bool
}

// single is one revocation that waits for its weight.
type single struct {
	query  query
	weight weight
	done   chan struct{} // closed once weight is set
}

// weight is how much of the traffic some revocations hit together, and of how
// many replicas that is known.
type weight struct {
	insight.Weight
	since    time.Time
	total    uint64
	unsure   bool // as in Seen
	replicas Answered
}

// unknown returns the weight of a revocation that the replicas could not be
// asked about.
func unknown() weight { return weight{Weight: insight.Weight{Partial: true}, unsure: true} }

// seen returns the weight as it is shown.
func (w weight) seen(now time.Time) *Seen {
	s := &Seen{Tokens: w.Tokens, Requests: w.Requests, Partial: w.Partial, since: w.since, total: w.total, unsure: w.unsure, replicas: w.replicas}
	if !w.since.IsZero() {
		s.Window = insight.Duration(max(0, now.Sub(w.since)).Round(time.Second))
	}
	return s
}

// one returns the weight of one revocation.
func (w *weigher) one(ctx context.Context, q insight.ImpactQuery) weight {
	if w.ask == nil {
		return weight{}
	}
	asked, ok := queryOf(q)
	if !ok {
		return unknown()
	}
	s := &single{query: asked, done: make(chan struct{})}
	w.mu.Lock()
	w.waiting = append(w.waiting, s)
	if w.questions < maxQuestions {
		w.questions++
		go w.askWaiting() //nolint:gosec // it serves other callers too; it ends when nothing waits, and each round takes 100 ms at most
	}
	w.mu.Unlock()
	select {
	case <-s.done:
		return s.weight
	case <-ctx.Done():
		return unknown()
	}
}

// queryOf returns the query about one revocation. It is not ok if the query does
// not fit into a question.
func queryOf(q insight.ImpactQuery) (_ query, ok bool) {
	b, err := json.Marshal(q)
	return query{b, q.Scans()}, err == nil && len(b) < maxQuestion-2
}

// askWaiting asks about the revocations that wait, until there are none.
func (w *weigher) askWaiting() {
	for {
		w.mu.Lock()
		n := fitting(len(w.waiting), func(i int) *query { return &w.waiting[i].query })
		taken := w.waiting[:n:n]
		w.waiting = w.waiting[n:]
		if n == 0 {
			w.questions--
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		queries := make([]query, n)
		for i, s := range taken {
			queries[i] = s.query
		}
		all, of := w.question(context.Background(), queries)
		for i, s := range taken {
			s.weight = weightOf(all.Items[i], &all, of)
			close(s.done)
		}
	}
}

// fitting returns how many of n queries fit into one question. It asks for the
// queries in their order, and for none behind the first that does not fit.
func fitting(n int, of func(int) *query) int {
	size, scans := 2, 0
	for i := range min(n, insight.MaxWeighed) {
		q := of(i)
		if size += len(q.text) + 1; size > maxQuestion {
			return i
		}
		if q.scans {
			if scans++; scans > insight.MaxScanned {
				return i
			}
		}
	}
	return min(n, insight.MaxWeighed)
}

// question puts one question to the replicas.
func (w *weigher) question(ctx context.Context, queries []query) (insight.Weights, Answered) {
	text := make([]byte, 0, maxQuestion)
	for i := range queries {
		text = append(append(text, ','), queries[i].text...)
	}
	text[0] = '['
	answers, of := gather[insight.Weights](ctx, w.ask, w.logger, insight.AskWeights, append(text, ']'))
	answers = slices.DeleteFunc(answers, func(a insight.Weights) bool { return !a.Fits(len(queries)) })
	of.Answered = len(answers)
	all := insight.MergeWeights(len(queries), answers...)
	all.Partial = all.Partial || of.Answered < of.Asked
	return all, of
}

func weightOf(item insight.Weight, all *insight.Weights, of Answered) weight {
	item.Partial = item.Partial || all.Partial
	return weight{Weight: item, since: all.Since, total: all.Total, unsure: all.Partial, replicas: of}
}

// batch returns the weight of many revocations together: the sum of their
// weights, at most all traffic.
func (w *weigher) batch(ctx context.Context, revocations []Candidate) (sum weight) {
	if w.ask == nil {
		return weight{}
	}
	ctx, cancel := context.WithTimeout(ctx, batchTime)
	defer cancel()
	queries := make([]query, 0, insight.MaxWeighed)
	for len(revocations) > 0 {
		if ctx.Err() != nil {
			sum.Partial, sum.unsure = true, true
			return sum
		}
		queries = queries[:0]
		// fitting stops at the first line that does not fit, so each line is
		// written about once, however few lines fit into one question.
		n := fitting(len(revocations), func(i int) *query {
			q, ok := queryOf(insight.ImpactQueryOf(&revocations[i].Revocation))
			if !ok { // the weight of this line cannot be known
				sum.Partial = true
				q, _ = queryOf(insight.ImpactQuery{Issuer: revocations[i].Issuer, Claims: map[string]any{"jti": ""}})
			}
			queries = append(queries, q)
			return &queries[i]
		})
		all, of := w.question(ctx, queries[:n])
		sum.add(weightOf(all.Sum(), &all, of))
		revocations = revocations[n:]
	}
	return sum
}

// add takes in the weight of more revocations.
func (w *weight) add(o weight) {
	w.total = max(w.total, o.total)
	w.Tokens += min(o.Tokens, ^uint64(0)-w.Tokens)
	w.Requests = min(w.total, w.Requests+min(o.Requests, ^uint64(0)-w.Requests))
	w.Partial, w.unsure = w.Partial || o.Partial, w.unsure || o.unsure
	if w.since.IsZero() || o.since.After(w.since) {
		w.since = o.since
	}
	if w.replicas.Asked == 0 || o.replicas.Answered < w.replicas.Answered {
		w.replicas = o.replicas
	}
}
