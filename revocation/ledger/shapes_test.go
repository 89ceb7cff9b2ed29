package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
)

// setBy revokes a set of one claim name in the name of a credential.
func setBy(t *testing.T, l *Ledger, by string, operator bool, name string) (revocation.ID, error) {
	t.Helper()
	r := made(t, by, fmt.Sprintf(`{%q:"x"}`, name))
	_, ids, _, err := l.revoke(t.Context(), []Candidate{newCandidate(r, r.ExpiresAt)}, operator, AuditEntry{}).parts()
	if err != nil {
		return revocation.ID{}, err
	}
	return ids[0], nil
}

func TestSetsOfClaimNamesAreBounded(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer func() { stop() }()
	var first revocation.ID
	take := func(by string, operator bool, want int) {
		t.Helper()
		got := 0
		for i := range 200 {
			id, err := setBy(t, l, by, operator, fmt.Sprint(by, i))
			if err != nil {
				if !errors.As(err, new(*Refusal)) || !strings.Contains(err.Error(), "64") {
					t.Errorf("%s, set %d: %v, want a refusal that names the bound 64", by, i, err)
				}
				break
			}
			if first == (revocation.ID{}) {
				first = id
			}
			got++
		}
		if got != want {
			t.Errorf("%s takes %d sets, want %d", by, got, want)
		}
	}
	take("a", false, 32)
	take("b", false, 32)
	take("c", false, 4)  // the others cannot keep c out
	take("op", true, 32) // nor an operator
	for _, name := range []string{"jti", "sub", "sid", "client_id", "a0", "b0"} {
		if _, err := setBy(t, l, "a", false, name); err != nil {
			t.Errorf("a set that is free or in force, %s: %v, want it accepted", name, err)
		}
	}
	stop() // revocations in force stay and belong to the same credentials
	l, stop = run(t, log, nil)
	if _, err := setBy(t, l, "a", false, "another"); err == nil {
		t.Error("after a restart a takes one more set, want it refused")
	}
	if err := l.restore(t.Context(), first, 1, AuditEntry{At: time.Now()}).err; err != nil {
		t.Fatal(err)
	}
	if _, err := setBy(t, l, "a", false, "another"); err == nil {
		t.Error("a restored r2.0, but another revocation of that set is in force: accepted, want it refused")
	}
}

// 100,000 revocations, each with a distinct claim name, cannot come into force.
// A set whose last revocation is restored or expires is free again.
func TestSetsAreFreedWhenUnused(t *testing.T) {
	clock := ledgertest.NewClock()
	l, stop := run(t, ledgertest.New(), clock.Now)
	defer stop()
	for i := range 1000 {
		r := made(t, "a", fmt.Sprintf(`{"n%d":"x"}`, i))
		r.ExpiresAt = revocation.MicrosOf(clock.Now().Add(time.Minute))
		_, ids, _, err := l.revoke(t.Context(), []Candidate{newCandidate(r, r.ExpiresAt)}, false, AuditEntry{}).parts()
		if err != nil {
			t.Fatalf("set %d: %v, want it accepted because the sets before are free", i, err)
		}
		if i%2 == 0 {
			if err := l.restore(t.Context(), ids[0], 1, AuditEntry{At: clock.Now()}).err; err != nil {
				t.Fatal(err)
			}
			continue
		}
		clock.Advance(2 * time.Minute)
		l.dropExpired()
	}
	if n := len(l.rows.shapes.all); n > 4 {
		t.Errorf("the ledger keeps %d shapes, want those of the last rows alone", n)
	}
	for i := range 32 {
		if _, err := setBy(t, l, "b", false, fmt.Sprint("b", i)); err != nil {
			t.Fatalf("set %d of another credential: %v, want it accepted because a has none left", i, err)
		}
	}
	var lines []Candidate
	for i := range 100_000 {
		r := made(t, "a", fmt.Sprintf(`{"m%d":"x"}`, i))
		lines = append(lines, newCandidate(r, r.ExpiresAt))
	}
	before := l.Len()
	if _, _, _, err := l.revoke(t.Context(), lines, false, AuditEntry{}).parts(); !errors.As(err, new(*Refusal)) {
		t.Errorf("100,000 sets at once: %v, want a refusal", err)
	}
	if l.Len() != before {
		t.Errorf("%d revocations in force after the refusal, want %d as before", l.Len(), before)
	}
}
