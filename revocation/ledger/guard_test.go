package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
	"rescind/revocation/insight"
)

const idp = "https://idp.example/"

// revocationOf returns the revocation that a request document asks for.
func revocationOf(t testing.TB, document string) revocation.Revocation {
	t.Helper()
	request, faults := revocation.ParseRequest([]byte(document))
	if faults != nil {
		t.Fatalf("%s: got the faults %v, want none", document, faults)
	}
	r, faults := request.Accept(time.Now(), time.Hour, "test")
	if faults != nil {
		t.Fatalf("%s: got the faults %v, want none", document, faults)
	}
	return r
}

func ofClaims(t testing.TB, claims string) revocation.Revocation {
	t.Helper()
	return revocationOf(t, fmt.Sprintf(`{"issuer":%q,"claims":%s}`, idp, claims))
}

// reporting is the knowledge of replicas that report their issuers.
var reporting = revocation.KnownIssuers{Settled: true, AnyReplica: true, Issuers: []revocation.AcceptedIssuer{
	{Issuer: idp, Audiences: []string{"api", "web"}, Claims: map[string][]string{"typ": {"Bearer"}}},
	{Issuer: idp, Audiences: []string{"reports"}, Claims: map[string][]string{"level": {"3"}}},
	{Issuer: "https://other.example/", AnyAudience: true, Claims: map[string][]string{"jti": {"t1"}, "sid": {"s1"}}},
}}

func TestBreadth(t *testing.T) {
	for _, c := range []struct {
		document string
		want     breadth
	}{
		{`{"issuer":"https://idp.example/","claims":{"jti":"t1"}}`, narrow},
		{`{"issuer":"https://idp.example/","claims":{"sid":"s1","sub":"alice"}}`, narrow},
		{`{"issuer":"https://idp.example/","claims":{"sub":"alice"}}`, ordinary},
		{`{"issuer":"https://idp.example/","claims":{"sub":"alice","client_id":"web"}}`, ordinary},
		{`{"issuer":"https://idp.example/","claims":{"sub":"alice","tenant":"acme"}}`, ordinary},
		{`{"issuer":"https://idp.example/","claims":{"client_id":"web"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"azp":"web"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"/sub":"alice"}}`, ordinary},
		{`{"issuer":"https://idp.example/","claims":{"/jti":"t1"}}`, narrow},
		{`{"issuer":"https://idp.example/","claims":{"/jti/x":"t1"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"/realm_access/roles":"admin"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"/aud/0":"api"}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"scope":"read"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"aud":"unlisted"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"tenant":"acme"}}`, broad},
		{`{"issuer":"https://idp.example/","kid":"k1"}`, broad},
		{`{"issuer":"https://idp.example/","all":true}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"aud":"api"}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"aud":"reports"}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"aud":"api","typ":"Bearer"}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"aud":"api","level":3}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"typ":"Bearer"}}`, whole},
		{`{"issuer":"https://idp.example/","claims":{"typ":"ID"}}`, broad},
		{`{"issuer":"https://idp.example/","claims":{"aud":"api","tenant":"acme"}}`, broad},
		{`{"issuer":"https://other.example/","claims":{"aud":"anything"}}`, whole},
		{`{"issuer":"https://other.example/","claims":{"jti":"t1"}}`, narrow},
		{`{"issuer":"https://other.example/","claims":{"sid":"s1"}}`, narrow},
	} {
		r := revocationOf(t, c.document)
		if got := breadthOf(&r, &reporting); got != c.want {
			t.Errorf("%s: got breadth %d, want %d", c.document, got, c.want)
		}
	}
	// While a replica does not report its issuers, any audience alone may be
	// every token.
	aud, pair := ofClaims(t, `{"aud":"unlisted"}`), ofClaims(t, `{"aud":"unlisted","tenant":"acme"}`)
	for _, known := range []revocation.KnownIssuers{{}, {AnyReplica: true}, {Settled: true, AnyReplica: true, Every: true}} {
		if got := breadthOf(&aud, &known); got != whole {
			t.Errorf("aud alone with knowledge %+v: got breadth %d, want %d", known, got, whole)
		}
		if got := breadthOf(&pair, &known); got != broad {
			t.Errorf("aud and another claim with knowledge %+v: got breadth %d, want %d", known, got, broad)
		}
	}
}

func TestBreadthOfBatches(t *testing.T) {
	jti, sub, client := ofClaims(t, `{"jti":"t1"}`), ofClaims(t, `{"sub":"alice"}`), ofClaims(t, `{"client_id":"web"}`)
	all := revocationOf(t, fmt.Sprintf(`{"issuer":%q,"all":true}`, idp))
	batch := func(n int, rs ...revocation.Revocation) (out []Candidate) {
		for i := range n {
			out = append(out, newCandidate(rs[i%len(rs)], 0))
		}
		return out
	}
	for name, c := range map[string]struct {
		batch []Candidate
		want  breadth
	}{
		"one narrow line":         {batch(1, jti), narrow},
		"two narrow lines":        {batch(2, jti), ordinary},
		"a thousand subjects":     {batch(maxOrdinary, sub), ordinary},
		"a thousand and one":      {batch(maxOrdinary+1, jti), broad},
		"one broad line":          {batch(10, jti, sub, client), broad},
		"one line of all among 3": {batch(3, jti, client, all), whole},
	} {
		if got := breadthOfAll(c.batch, &reporting); got != c.want {
			t.Errorf("%s: got breadth %d, want %d", name, got, c.want)
		}
	}
}

// Every combination of breadth, weight, knowledge, role and confirmation.
func TestGuardRules(t *testing.T) {
	type answer string
	const pass, confirm, operator answer = "pass", "needs confirm", "needs an operator's confirm"
	rule := func(on, enough, above, partial, unsure bool, b breadth, c consent) answer {
		switch {
		case b == whole:
			if c.confirmed && c.operator {
				return pass
			}
			return operator
		case !on, b == narrow:
			return pass
		case enough && above && (!c.confirmed || !c.operator):
			return operator
		case b == broad && (unsure || partial && enough) && !c.confirmed:
			return confirm
		}
		return pass
	}
	both := []bool{false, true}
	for _, on := range both {
		for _, enough := range both {
			for _, above := range both {
				for _, known := range []Seen{{}, {Partial: true}, {Partial: true, unsure: true}} {
					for b := narrow; b <= whole; b++ {
						for _, confirmed := range both {
							for _, isOperator := range both {
								g := &guard{minRequests: 1000}
								if on {
									g.share = 0.2
								}
								s := &known
								s.total = 999
								if enough {
									s.total = 1000
								}
								if s.Requests = s.total / 5; above {
									s.Requests++
								}
								c := consent{confirmed: confirmed, operator: isOperator}
								got := pass
								if u := g.judge(b, s, c); u != nil && u.operator {
									got = operator
								} else if u != nil {
									got = confirm
								}
								if want := rule(on, enough, above, s.Partial, s.unsure, b, c); got != want {
									t.Errorf("guard on %v, breadth %d, %d of %d requests, partial %v, unsure %v, %+v: got %s, want %s", on, b, s.Requests, s.total, s.Partial, s.unsure, c, got, want)
								}
								if u := g.judge(b, s, consent{}); u == nil && g.judge(b, s, consent{confirmed: true}) != nil {
									t.Errorf("guard on %v, breadth %d, %+v: got a refusal with an unnecessary confirmation, want none", on, b, s)
								}
							}
						}
					}
				}
			}
		}
	}
}

// scales answers questions about weights as replicas would.
type scales struct {
	weigh     func(q insight.ImpactQuery) insight.Weight
	total     uint64
	silent    int           // replicas that do not answer
	pause     time.Duration // before the answer
	questions atomic.Int64
	largest   atomic.Int64 // question, in revocations
}

func (c *scales) ask(_ context.Context, kind string, query []byte) (answers [][]byte, asked, answered int) {
	c.questions.Add(1)
	time.Sleep(c.pause)
	var queries []insight.ImpactQuery
	if err := json.Unmarshal(query, &queries); err != nil || kind != string(insight.AskWeights) || len(query) > 64<<10 {
		return nil, 1 + c.silent, 0
	}
	c.largest.Store(max(c.largest.Load(), int64(len(queries))))
	w := insight.Weights{Since: time.Now().Add(-time.Hour), Total: c.total}
	scans := 0
	for i := range queries {
		if queries[i].Scans() {
			scans++
		}
		w.Items = append(w.Items, c.weigh(queries[i]))
	}
	if scans > insight.MaxScanned {
		return nil, 1 + c.silent, 0
	}
	b, _ := json.Marshal(w) // numbers and times always marshal
	return [][]byte{b}, 1 + c.silent, 1
}

func weigherOf(c *scales) *weigher {
	return &weigher{ask: c.ask, logger: slog.New(slog.DiscardHandler)}
}

// Single revocations that come together share questions, and each gets its own
// weight.
func TestSingleRevocationsShareQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scales{total: 10_000, pause: 10 * time.Millisecond, weigh: func(q insight.ImpactQuery) insight.Weight {
			return insight.Weight{Requests: uint64(len(q.Claims["sub"].(string))), Tokens: 1}
		}}
		w := weigherOf(c)
		const callers = 200
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				subject := strings.Repeat("x", i+1)
				r := ofClaims(t, fmt.Sprintf(`{"sub":%q}`, subject))
				got := w.one(t.Context(), insight.ImpactQueryOf(&r)).seen(time.Now())
				if got.Requests != uint64(i+1) || got.total != 10_000 || got.Partial || time.Duration(got.Window).Round(time.Minute) != time.Hour {
					t.Errorf("caller %d: got %+v, want %d of 10000 requests of the last hour", i, got, i+1)
				}
			})
		}
		all.Wait()
		if n := c.questions.Load(); n > 6 {
			t.Errorf("%d callers at once: got %d questions, want a few", callers, n)
		}
		synctest.Wait()
		if w.questions != 0 || len(w.waiting) != 0 {
			t.Errorf("afterwards: got %d questions and %d waiting, want none", w.questions, len(w.waiting))
		}
	})
}

// A question holds no more revocations that need a scan than a replica takes.
func TestQuestionsFitReplicas(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := &scales{total: 1 << 40, weigh: func(insight.ImpactQuery) insight.Weight { return insight.Weight{Requests: 1, Tokens: 1} }}
		w := weigherOf(c)
		n := rapid.IntRange(1, 3000).Draw(rt, "lines")
		kinds := rapid.SliceOfN(rapid.SampledFrom([]string{`{"jti":"%s"}`, `{"sub":"%s"}`, `{"client_id":"%s"}`}), 1, 5).Draw(rt, "kinds")
		long := strings.Repeat("x", rapid.SampledFrom([]int{1, 10, 1000}).Draw(rt, "length"))
		some := make([]Candidate, len(kinds))
		for i, kind := range kinds {
			some[i] = newCandidate(ofClaims(t, fmt.Sprintf(kind, long)), 0)
		}
		batch := make([]Candidate, n)
		for i := range batch {
			batch[i] = some[i%len(some)]
		}
		var got *Seen
		synctest.Test(t, func(t *testing.T) { // time stands still, however slow this machine is
			got = w.batch(t.Context(), batch).seen(time.Now())
		})
		if got.Requests != uint64(n) || got.Partial || got.replicas != (Answered{1, 1}) {
			rt.Fatalf("%d lines of %v: got %+v in %d questions, want %d requests", n, kinds, got, c.questions.Load(), n)
		}
	})
}

// A replica that does not answer never reads as one without traffic.
func TestSilentReplicaIsPartial(t *testing.T) {
	c := &scales{total: 10, silent: 1, weigh: func(insight.ImpactQuery) insight.Weight { return insight.Weight{} }}
	w := weigherOf(c)
	r := ofClaims(t, `{"client_id":"web"}`)
	for name, got := range map[string]*Seen{
		"one":   w.one(t.Context(), insight.ImpactQueryOf(&r)).seen(time.Now()),
		"batch": w.batch(t.Context(), []Candidate{newCandidate(r, 0), newCandidate(r, 0)}).seen(time.Now()),
	} {
		if !got.Partial || got.replicas != (Answered{Asked: 2, Answered: 1}) {
			t.Errorf("%s: got %+v, want a partial weight of 1 of 2 replicas", name, got)
		}
	}
	nobody := &weigher{}
	if got := nobody.one(t.Context(), insight.ImpactQueryOf(&r)).seen(time.Now()); got.Partial {
		t.Errorf("without replicas: got %+v, want nothing", got)
	}
}

// A batch weighs at most all traffic, and gives up after a while.
func TestWeightOfBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &scales{total: 100, weigh: func(insight.ImpactQuery) insight.Weight { return insight.Weight{Requests: 60, Tokens: 1} }}
		r := newCandidate(ofClaims(t, `{"sub":"alice"}`), 0)
		w := weigherOf(c)
		if got := w.batch(t.Context(), []Candidate{r, r}).seen(time.Now()); got.Requests != 100 || got.share() != 1 {
			t.Errorf("60 and 60 of 100 requests: got %+v, want 100", got)
		}
		many := make([]Candidate, 10*insight.MaxWeighed)
		for i := range many {
			many[i] = r
		}
		c.pause = batchTime / 2
		began := time.Now()
		if got := w.batch(t.Context(), many).seen(time.Now()); !got.Partial || time.Since(began) > 2*batchTime {
			t.Errorf("replicas that take %v for each question: got %+v after %v, want a partial weight after %v", c.pause, got, time.Since(began), batchTime)
		}
	})
}
