package watch

import (
	"fmt"
	"testing"
	"time"

	"rescind/authz"
	"rescind/revocation/insight"
)

// BenchmarkEvent is all that an event costs, on the path of the request
// (observe) and beside it (note), for tokens that are used again and again and
// for tokens that are new.
func BenchmarkEvent(b *testing.B) {
	type question struct {
		r *authz.Request
		d *authz.Decision
	}
	now := time.Now()
	var all []question
	for n := range 1 << 16 {
		r, d := seen{
			subject: fmt.Sprint("user-", n/2), jti: fmt.Sprintf("3c9e6b7a-%08x-4ea0-9c2f", n), session: fmt.Sprintf("b1f0e4f7-%08x", n/2),
			client: "web", kid: "k1", from: fmt.Sprintf("10.%d.%d.7", n>>8, n&255),
		}.decision(now)
		all = append(all, question{r, d})
	}
	for _, tokens := range []int{1, 1000, len(all)} {
		b.Run(fmt.Sprintf("observe/%d", tokens), func(b *testing.B) {
			w, err := New(Options{Settings: Defaults()})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = w.Close() }()
			close(w.closing) // nobody takes out: we do
			<-w.done
			b.ReportAllocs()
			for i := range b.N {
				q := all[i%tokens]
				w.Observe(q.r, q.d, now)
				w.queue.TryDequeue()
			}
			w.closed.Store(true)
		})
		b.Run(fmt.Sprintf("note/%d", tokens), func(b *testing.B) {
			s := Defaults()
			m := newMemory(&s, now, func(insight.Alert, uint64) {})
			b.ReportAllocs()
			for i := range b.N {
				q := all[i%tokens]
				m.event = eventOf(q.r, q.d, now.Add(time.Duration(i)*50*time.Microsecond))
				m.note(&m.event)
			}
		})
	}
}

// BenchmarkWeights measures a question about the weight of revocations to a
// replica that remembers a million tokens of half a million subjects.
//
//	go test -run - -bench Weights ./authz/watch
func BenchmarkWeights(b *testing.B) {
	s := Defaults()
	now := time.Now()
	m := newMemory(&s, now, func(insight.Alert, uint64) {})
	for n := range s.Tokens {
		_, d := seen{subject: fmt.Sprint("user-", n/2), jti: fmt.Sprint("jti-", n), session: fmt.Sprint("sid-", n/2), client: "web", kid: "k1"}.decision(now)
		m.event = eventOf(nil, d, now)
		m.note(&m.event)
	}
	for name, claims := range map[string]func(i int) map[string]any{
		"jti": func(i int) map[string]any { return map[string]any{"jti": fmt.Sprint("jti-", i)} },
		"sub": func(i int) map[string]any { return map[string]any{"sub": fmt.Sprint("user-", i)} },
		"sid": func(i int) map[string]any { return map[string]any{"sid": fmt.Sprint("sid-", i)} },
	} {
		for _, lines := range []int{1, 16, 500} {
			b.Run(fmt.Sprintf("%s/%d", name, lines), func(b *testing.B) {
				for n := range b.N {
					queries := make([]insight.ImpactQuery, lines)
					for i := range queries {
						queries[i] = insight.ImpactQuery{Issuer: idp, Claims: claims((n*lines + i) % 1000)}
					}
					m.weights(queries, now.Add(time.Duration(n)*time.Millisecond), func() {})
				}
			})
		}
	}
}
