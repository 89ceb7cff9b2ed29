package insight

import (
	"math"
	"time"
)

// Bounds of one [AskWeights] question.
const (
	MaxWeighed = 1000 // revocations
	// MaxScanned is how many of them may make a replica look at every token
	// (see [ImpactQuery.Scans]). The weight of those beyond it is partial.
	MaxScanned = 16
)

// Scans reports whether a replica must look at every token to weigh q: q names
// neither a token nor a subject nor a session.
func (q *ImpactQuery) Scans() bool {
	for _, name := range []string{"jti", "sub", "sid"} {
		if _, there := q.Claims[name]; there {
			return false
		}
	}
	return q.Hash == ""
}

// Weights is a replica's answer to [AskWeights]: the part of the traffic seen
// lately that each revocation of the question hits, in the order of the
// question.
type Weights struct {
	Since   time.Time `json:"since" doc:"How far back the memory goes"`
	Total   uint64    `json:"total" doc:"All allowed requests in that time"`
	Partial bool      `json:"partial,omitempty" doc:"Memory was short, or the replica remembers nothing at all"`
	Items   []Weight  `json:"items"`
}

// Weight is the part of the traffic that one revocation hits. It counts
// allowed requests alone: a token that is denied already adds no weight.
type Weight struct {
	Tokens   uint64 `json:"tokens"`
	Requests uint64 `json:"requests"`
	// Sketch is a HyperLogLog sketch of the tokens. It makes a token that two
	// replicas saw count once.
	Sketch []byte `json:"sketch,omitempty"`
	// Partial reports that the revocation names a claim that replicas do not
	// remember. Such a claim was passed over, so the weight is an upper bound.
	// A revocation without any claim that replicas remember has weight 0.
	Partial bool `json:"partial,omitempty"`
}

// Fits reports whether w can be the answer to a question about n revocations.
func (w *Weights) Fits(n int) bool { return len(w.Items) == n }

// MergeWeights adds up the answers of several replicas to one question about n
// revocations. Every answer must fit (see [Weights.Fits]). A token that several
// replicas saw counts once, as exactly as the sketches can tell.
func MergeWeights(n int, answers ...Weights) Weights {
	all := Weights{Items: make([]Weight, n)}
	for i := range answers {
		all.Since = later(all.Since, answers[i].Since)
		all.Total = addUp(all.Total, answers[i].Total)
		all.Partial = all.Partial || answers[i].Partial
	}
	for i := range all.Items {
		item := &all.Items[i]
		for j := range answers {
			w := &answers[j].Items[i]
			item.Requests = addUp(item.Requests, min(w.Requests, answers[j].Total))
			item.Partial = item.Partial || w.Partial
		}
		item.Tokens = tokensOf(i, answers)
	}
	return all
}

// tokensOf returns the number of tokens that item i hits. It reads a sketch
// only where at least two replicas saw such a token.
func tokensOf(i int, answers []Weights) uint64 {
	seen := make([]*Weight, 0, len(answers))
	for j := range answers {
		if w := &answers[j].Items[i]; w.Tokens > 0 {
			seen = append(seen, w)
		}
	}
	switch len(seen) {
	case 0:
		return 0
	case 1:
		return seen[0].Tokens
	}
	tokens := union{precision: ImpactPrecision}
	for _, w := range seen {
		tokens.add(w.Sketch, w.Tokens)
	}
	return tokens.count()
}

// Sum returns the weight of all items together: the sum of the items, at most
// all traffic.
func (w *Weights) Sum() (sum Weight) {
	for i := range w.Items {
		sum.Tokens = addUp(sum.Tokens, w.Items[i].Tokens)
		sum.Requests = addUp(sum.Requests, w.Items[i].Requests)
		sum.Partial = sum.Partial || w.Items[i].Partial
	}
	sum.Requests = min(sum.Requests, w.Total)
	return sum
}

// addUp returns a+b, or the largest number where the sum would overflow: a
// replica's figures must not wrap around to a small weight.
func addUp(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
