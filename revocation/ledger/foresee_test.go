package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"rescind/revocation/ledger/ledgertest"
)

// orderOfSets returns an order of n revocations whose claim names all differ.
func orderOfSets(n int) *Order {
	o := &Order{Action: ActImport, Confirm: true}
	for i := range n {
		o.Lines = append(o.Lines, Line{Number: i + 1, Body: fmt.Appendf(nil, `{"issuer":%q,"claims":{"shape-%d":"x"}}`, idp, i)})
	}
	return o
}

// An order with more sets of claim names than its issuer may have is refused
// before any replica is asked for its weight. Before, each refusal of a thousand
// lines put 63 questions to every replica, and each question made the replica
// look at every token that it remembers.
func TestOrderOfTooManySetsIsNotWeighed(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	questions := 0
	a := NewAuthority(l, AuthorityOptions{ShareOfTraffic: 0.2, MinRequests: 1000, Ask: func(context.Context, string, []byte) (answers [][]byte, asked, answered int) {
		questions++
		return nil, 1, 0
	}})
	revoker := &Caller{Name: "a", Roles: []Role{Revoker}}
	if _, err := a.Revoke(t.Context(), revoker, orderOfSets(32)); err != nil || questions != 2 {
		t.Fatalf("an order of 32 sets: got %v and %d questions, want it accepted after 2 questions", err, questions)
	}
	before := l.Revision()
	var refused *Refusal
	if _, err := a.Revoke(t.Context(), revoker, orderOfSets(1000)); !errors.As(err, &refused) || refused.Cause != Invalid || refused.Faults[0].Line != 33 {
		t.Errorf("an order of 1000 sets: got %v (%+v), want a refusal that names line 33", err, refused)
	}
	if questions != 2 || l.Revision() != before {
		t.Errorf("the refused order: got %d questions and revision %d, want no more than the 2 before, and revision %d", questions, l.Revision(), before)
	}
}

// The work of weighing a batch grows with its lines, also if few of them fit
// into one question.
func TestWeighingWritesEachLineOnce(t *testing.T) {
	w := &weigher{logger: slog.New(slog.DiscardHandler), ask: func(context.Context, string, []byte) (answers [][]byte, asked, answered int) { return nil, 0, 0 }}
	allocations := func(lines int) float64 {
		batch := make([]Candidate, lines)
		for i := range batch {
			batch[i] = newCandidate(ofClaims(t, fmt.Sprintf(`{"client_id":"c%d"}`, i)), 0)
		}
		return testing.AllocsPerRun(3, func() { w.batch(t.Context(), batch).seen(time.Now()) })
	}
	if few, many := allocations(100), allocations(1000); many > 15*few {
		t.Errorf("weighing 100 lines takes %.0f allocations and 1000 lines %.0f, want at most 15 times as many", few, many)
	}
}

// BenchmarkRefusedImport is the cost of an import of a thousand lines that meets
// the bound of sets.
func BenchmarkRefusedImport(b *testing.B) {
	l, stop := run(b, ledgertest.New(), nil)
	defer stop()
	a := NewAuthority(l, AuthorityOptions{ShareOfTraffic: 0.2, MinRequests: 1000})
	revoker := &Caller{Name: "a", Roles: []Role{Revoker}}
	order := orderOfSets(1000)
	b.ResetTimer()
	for range b.N {
		if _, err := a.Revoke(b.Context(), revoker, order); err == nil {
			b.Fatal("got an accepted order, want it refused")
		}
	}
}
