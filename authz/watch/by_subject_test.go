package watch

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation/insight"
)

// The index of subjects finds the tokens that a scan finds, through growth,
// eviction, expiry and crowded subjects.
func TestSubjectsAgainstScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		began := time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC)
		now := began
		s := Defaults()
		s.Window = 10 * time.Minute
		m := newMemory(&s, began, func(insight.Alert, uint64) {})
		m.tokens.limit = rapid.SampledFrom([]int{20, 300, 100_000}).Draw(t, "limit")
		subjects := rapid.IntRange(1, 20).Draw(t, "subjects")
		for n := range rapid.IntRange(1, 600).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 10, 1000, 300_000}).Draw(t, "pause")) * time.Millisecond)
			subject := ""
			if i := rapid.IntRange(0, subjects).Draw(t, "subject"); i > 0 {
				subject = fmt.Sprint("sub", i)
			}
			_, d := seen{subject: subject, jti: fmt.Sprint("jti", rapid.IntRange(0, n).Draw(t, "jti"))}.decision(now)
			m.event = eventOf(nil, d, now)
			m.note(&m.event)
			if n%7 == 0 {
				m.tick(now)
			}
		}
		scanned := map[brief]map[uint64]bool{}
		for i := range m.tokens.n {
			if k := m.tokens.at(i); k.subject != (brief{}) {
				if scanned[k.subject] == nil {
					scanned[k.subject] = map[uint64]bool{}
				}
				scanned[k.subject][k.id] = true
			}
		}
		index := m.tokens.subjects
		for subject, want := range scanned {
			found := map[uint64]bool{}
			if !index.find(subject, func(k *token) { found[k.id] = true }) {
				if hidden := index.crowded[subject]; hidden > len(want) || hidden < len(want)-maxIndexed {
					t.Fatalf("subject %x is crowded by %d of %d tokens, want at most %d indexed", subject, hidden, len(want), maxIndexed)
				}
				continue
			}
			if fmt.Sprint(found) != fmt.Sprint(want) {
				t.Fatalf("subject %x: found %v, want %v", subject, found, want)
			}
		}
		for subject := range index.crowded {
			if scanned[subject] == nil {
				t.Fatalf("subject %x without tokens: got it crowded, want it absent", subject)
			}
		}
		if none := briefOf(12345); !index.find(none, func(*token) { t.Fatal("an unknown subject: got a token, want none") }) {
			t.Fatal("an unknown subject: got it crowded, want it not crowded")
		}
	})
}

// A subject with very many tokens is weighed exactly too, by a scan.
func TestWeightOfCrowdedSubject(t *testing.T) {
	s := Defaults()
	now := time.Now()
	m := newMemory(&s, now, func(insight.Alert, uint64) {})
	const tokens = 10_000
	for n := range tokens {
		_, d := seen{subject: "service", jti: fmt.Sprint("jti", n)}.decision(now)
		m.event = eventOf(nil, d, now)
		m.note(&m.event)
	}
	if got := m.weights([]insight.ImpactQuery{subjectQuery("service")}, now, func() {}); got.Items[0].Requests != tokens || got.Items[0].Partial {
		t.Errorf("a subject with %d tokens: got %+v, want as many requests, not partial", tokens, got.Items[0])
	}
}
