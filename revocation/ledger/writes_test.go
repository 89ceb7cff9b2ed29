package ledger

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// The callers of these tests.
var (
	operator = &Caller{Name: "operator", Roles: []Role{Operator}}
	revoker  = &Caller{Name: "revoker", Roles: []Role{Revoker}}
	bound    = &Caller{Name: "bound", Roles: []Role{Revoker}, Issuers: []string{issuerB}}
	viewer   = &Caller{Name: "viewer", Roles: []Role{Viewer}}
)

// written is a revocation of the model.
type written struct {
	id       revocation.ID
	write    revocation.ID
	issuer   string
	block    bool
	expires  time.Time
	restored bool
}

// line is a revocation that the model asks for.
type line struct {
	issuer, sub string
	block       bool
	expires     time.Time
}

func (l line) candidate(t *rapid.T, now time.Time) Candidate {
	v, _ := revocation.ValueOf(l.sub)
	r := revocation.Request{Issuer: l.issuer, Claims: []revocation.Claim{{Name: "jti", Value: v}}, Block: l.block, ExpiresAt: l.expires}
	rev, faults := r.Accept(now, retention, "operator")
	if faults != nil {
		t.Fatalf("%+v: got the faults %v, want none", l, faults)
	}
	return newCandidate(rev, rev.ExpiresAt)
}

// together gives the ledger several requests while it is busy, so that all but
// the first share an append.
func together(l *Ledger, requests [][]Candidate) []outcome {
	outcomes := make([]outcome, len(requests))
	var all sync.WaitGroup
	l.order.Lock()
	for i, candidates := range requests {
		all.Go(func() {
			o := l.submitted(&attempt{revokes: candidates, operator: true, size: 256})
			outcomes[i] = <-o
		})
	}
	l.order.Unlock()
	all.Wait()
	return outcomes
}

// submitted puts an attempt into the queue, and returns the channel of its outcome.
func (l *Ledger) submitted(a *attempt) <-chan outcome {
	a.done = make(chan outcome, 1)
	l.queue <- a
	return a.done
}

// TestWritesAgainstModel compares restorations of whole writes with a list that is
// walked from end to end. Requests share appends, revocations expire and are
// restored one by one, and the ledger restarts.
func TestWritesAgainstModel(t *testing.T) {
	shared := 0
	rapid.Check(t, func(rt *rapid.T) {
		clock := ledgertest.NewClock()
		log := ledgertest.New()
		l, stop := run(t, log, clock.Now)
		defer func() { stop() }()
		var model []*written
		alive := func(w *written) bool { return w.expires.After(clock.Now()) }
		rt.Repeat(map[string]func(*rapid.T){
			"revoke": func(rt *rapid.T) {
				var requests [][]Candidate
				lines := map[int][]line{}
				for i := range rapid.IntRange(1, 4).Draw(rt, "requests") {
					var candidates []Candidate
					for range rapid.IntRange(1, 5).Draw(rt, "lines") {
						li := line{
							issuer:  rapid.SampledFrom([]string{issuerA, issuerB}).Draw(rt, "issuer"),
							sub:     fmt.Sprint("s", rapid.IntRange(0, 20).Draw(rt, "sub")),
							block:   rapid.IntRange(0, 5).Draw(rt, "block") == 0,
							expires: clock.Now().Add(rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 400 * time.Hour}).Draw(rt, "lasts")),
						}
						lines[i] = append(lines[i], li)
						candidates = append(candidates, li.candidate(rt, clock.Now()))
					}
					requests = append(requests, candidates)
				}
				revisions := map[uint64]int{}
				for i, o := range together(l, requests) {
					if o.err != nil {
						rt.Fatalf("revoke %+v: got %v, want no error", lines[i], o.err)
					}
					if o.fresh > 0 {
						revisions[o.write.Revision]++
					}
					for j, id := range o.ids {
						fresh := id.Revision == o.write.Revision && id.Index-o.write.Index < uint32(o.fresh)
						if fresh && !slices.ContainsFunc(model, func(w *written) bool { return w.id == id }) {
							model = append(model, &written{id, o.write, lines[i][j].issuer, lines[i][j].block, lines[i][j].expires, false})
						}
					}
				}
				for _, n := range revisions {
					if n > 1 {
						shared++
					}
				}
			},
			"restore one": func(rt *rapid.T) {
				if len(model) == 0 {
					return
				}
				w := rapid.SampledFrom(model).Draw(rt, "which")
				if err := l.restore(t.Context(), w.id, 1, AuditEntry{At: clock.Now(), By: "r"}).err; (err != nil) == alive(w) {
					rt.Fatalf("restore %v: got %v, want it known: %v", w.id, err, alive(w))
				}
				w.restored = w.restored || alive(w)
			},
			"restore write": func(rt *rapid.T) {
				c := rapid.SampledFrom([]*Caller{operator, operator, revoker, bound, viewer}).Draw(rt, "caller")
				revision, id := uint64(rapid.IntRange(1, int(l.Revision())+1).Draw(rt, "revision")), ""
				if len(model) > 0 && rapid.Bool().Draw(rt, "known") {
					w := rapid.SampledFrom(model).Draw(rt, "which")
					revision = w.id.Revision
					id = rapid.SampledFrom([]string{"", w.write.String(), w.write.String(), w.id.String()}).Draw(rt, "write")
				}
				restoresLike(rt, l, c, model, alive, revision, id)
			},
			"time": func(rt *rapid.T) {
				clock.Advance(rapid.SampledFrom([]time.Duration{time.Second, 2 * time.Minute, 2 * time.Hour}).Draw(rt, "by"))
				l.dropExpired()
			},
			"restart": func(*rapid.T) {
				stop()
				l, stop = run(t, log, clock.Now)
				l.dropExpired()
			},
			"": func(rt *rapid.T) {
				var want, got []string
				for _, w := range model {
					if alive(w) && !w.restored {
						want = append(want, w.id.String())
					}
				}
				if _, err := l.Snapshot(func(part []revocation.Entry) error {
					for _, e := range part {
						got = append(got, e.ID.String())
					}
					return nil
				}); err != nil {
					rt.Fatal(err)
				}
				slices.Sort(want)
				if slices.Sort(got); !slices.Equal(got, want) {
					rt.Fatalf("in force\n got %v\nwant %v", got, want)
				}
			},
		})
	})
	if shared == 0 {
		t.Error("no append held several writes, want some")
	}
}

// restoresLike restores a write and compares the answer with the model, which it
// updates.
func restoresLike(rt *rapid.T, l *Ledger, c *Caller, model []*written, alive func(*written) bool, revision uint64, id string) {
	seen := map[revocation.ID][]*written{} // writes of which the caller may see a part
	for _, w := range model {
		if w.id.Revision == revision && alive(w) {
			seen[w.write] = append(seen[w.write], w)
		}
	}
	for write, all := range seen {
		if !slices.ContainsFunc(all, func(w *written) bool { return c.Covers(w.issuer) }) || id != "" && write.String() != id {
			delete(seen, write)
		}
	}
	before := l.Revision()
	u, err := NewAuthority(l, AuthorityOptions{}).RestoreWrite(rt.Context(), c, revision, id)
	var refusal *Refusal
	errors.As(err, &refusal)
	what := fmt.Sprintf("%s restores revision %d write %q", c.Name, revision, id)
	var chosen []*written
	for _, chosen = range seen {
	}
	denied := slices.ContainsFunc(chosen, func(w *written) bool { return !c.Covers(w.issuer) || w.block && !c.Has(Operator) })
	switch {
	case !c.Has(Revoker, Operator) || len(seen) == 1 && denied:
		if refusal == nil || refusal.Cause != Forbidden {
			rt.Fatalf("%s: got %v, want it forbidden", what, err)
		}
	case len(seen) == 0:
		if !errors.Is(err, ErrUnknownWrite) {
			rt.Fatalf("%s: got %v, want %v", what, err, ErrUnknownWrite)
		}
	case len(seen) > 1:
		if refusal == nil || refusal.Cause != SeveralWrites || len(refusal.Writes) != len(seen) {
			rt.Fatalf("%s: got %v, want a refusal with %d writes", what, err, len(seen))
		}
	default:
		restored := 0
		for _, w := range chosen {
			if !w.restored {
				w.restored = true
				restored++
			}
		}
		if err != nil || u.Restored != restored || u.Already != len(chosen)-restored || u.Write != chosen[0].write.String() {
			rt.Fatalf("%s: got %+v and error %v, want %d restored and %d already, of write %s", what, u, err, restored, len(chosen)-restored, chosen[0].write)
		}
		if grown := l.Revision() - before; grown != uint64(min(restored, 1)) {
			rt.Fatalf("%s: got %d revisions, want all %d in one", what, grown, restored)
		}
		return
	}
	if l.Revision() != before {
		rt.Fatalf("%s: got revision %d after a refusal, want %d as before", what, l.Revision(), before)
	}
}

// lines returns a request of n revocations, of which change makes some different.
func linesOf(t testing.TB, n int, change func(i int, r *revocation.Request)) *Order {
	t.Helper()
	o := &Order{Action: ActImport, Confirm: true}
	for i := range n {
		v, _ := revocation.ValueOf(fmt.Sprint("s", i))
		r := &revocation.Request{Issuer: issuerA, Claims: []revocation.Claim{{Name: "jti", Value: v}}}
		if change != nil {
			change(i, r)
		}
		o.Lines = append(o.Lines, Line{Number: i + 1, Request: r})
	}
	return o
}

// 100,000 revocations of one import, as many as the API takes, are restored in one
// write, or none of them is.
func TestLongestImportIsRestoredWhole(t *testing.T) {
	const n = 100_000
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	done, err := a.Revoke(t.Context(), operator, linesOf(t, n, func(i int, r *revocation.Request) { r.Block = i == n-1 }))
	if err != nil || done.Fresh != n || done.Write != "r2.0" {
		t.Fatalf("an import of %d lines: got %d new as write %q and error %v, want all of them as r2.0", n, done.Fresh, done.Write, err)
	}
	var refusal *Refusal
	if _, err := a.RestoreWrite(t.Context(), revoker, 2, ""); !errors.As(err, &refusal) || refusal.Cause != Forbidden || l.Len() != n || l.Revision() != 2 {
		t.Errorf("a revoker restores an import whose last line blocks: got %v with %d in force at revision %d, want it forbidden with %d at 2", err, l.Len(), l.Revision(), n)
	}
	if err := l.restore(t.Context(), revocation.ID{Revision: 2, Index: n - 1}, 1, AuditEntry{At: time.Now()}).err; err != nil {
		t.Fatal(err)
	}
	u, err := a.RestoreWrite(t.Context(), operator, 2, "r2.0")
	if err != nil || u.Restored != n-1 || u.Already != 1 || u.Revision != 4 || u.Issuer != issuerA {
		t.Errorf("an operator restores the import of which one line is restored: got %+v and error %v, want %d at revision 4 and 1 before", u, err, n-1)
	}
	if size := len(log.Batches[3]); size > 200 {
		t.Errorf("the restoration of %d revocations: got %d bytes in the log, want at most 200", n, size)
	}
	if l.Len() != 0 {
		t.Errorf("after the restoration: got %d in force, want none", l.Len())
	}
	again, err := a.RestoreWrite(t.Context(), operator, 2, "")
	if err != nil || again.Restored != 0 || again.Already != n || again.Revision != 4 {
		t.Errorf("the restoration again: got %+v and error %v, want none restored and revision 4", again, err)
	}
	changes, held := l.Changes(3, 10)
	if !held || len(changes) != 1 || len(changes[0].Removed) != n-1 {
		t.Errorf("changes after revision 3: got %d held %v, want one that removes %d", len(changes), held, n-1)
	}
}

// A restoration that moves more entries than a replica takes at once is refused
// with the bound.
func TestRestorationIsBounded(t *testing.T) {
	l, stop := run(t, ledgertest.New(), nil, func(l *Ledger) { l.maxRestored = 9 })
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	if _, err := a.Revoke(t.Context(), operator, linesOf(t, 10, nil)); err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if _, err := a.RestoreWrite(t.Context(), operator, 2, ""); !errors.As(err, &refusal) || refusal.Cause != Invalid || !strings.Contains(refusal.Detail, "at most 9") || l.Len() != 10 {
		t.Errorf("10 revocations where 9 may be restored at once: got %v with %d in force, want a refusal that names the bound, and 10", err, l.Len())
	}
}

// A log of the first edition does not say where a write ends. One write is the
// revocations in a row with the same created_by and created_at.
func TestWritesOfTheFirstEdition(t *testing.T) {
	body, err := os.ReadFile("testdata/first-edition.batch")
	if err != nil {
		t.Fatal(err)
	}
	log := ledgertest.New()
	log.Add(body)
	at := time.Date(2026, 11, 24, 7, 30, 0, 0, time.UTC)
	l, stop := run(t, log, func() time.Time { return at })
	defer stop()
	a := NewAuthority(l, AuthorityOptions{})
	var refusal *Refusal
	if _, err := a.RestoreWrite(t.Context(), operator, 2, ""); !errors.As(err, &refusal) || refusal.Cause != SeveralWrites {
		t.Fatalf("revision 2: got %v, want a refusal that lists its writes", err)
	}
	var got []string
	for _, w := range refusal.Writes {
		got = append(got, fmt.Sprintf("%s %s %d", w.ID, w.CreatedBy, w.Count))
	}
	if want := []string{"r2.0 alice 8", "r2.8 bob 1"}; !slices.Equal(got, want) {
		t.Errorf("the writes of revision 2: got %q, want %q", got, want)
	}
	u, err := a.RestoreWrite(t.Context(), operator, 2, "r2.0")
	if err != nil || u.Restored != 7 || u.Already != 1 || l.Len() != 1 {
		t.Errorf("write r2.0: got %+v with %d in force and error %v, want 7 restored, 1 already, and 1 in force", u, l.Len(), err)
	}
}

// A batch without a note gets one entry for each write when the log is read again.
func TestWriteIsNotedLateOnce(t *testing.T) {
	log := ledgertest.New()
	one, two, three := made(t, "victim", `{"jti":"1"}`), made(t, "victim", `{"jti":"2"}`), made(t, "victim", `{"jti":"3"}`)
	log.Lock()
	log.Add(packBatch("test", []operation{{packed: pack(&one)}, {packed: pack(&two)}, {packed: pack(&three), write: 2},
		{restore: restoration{ID: revocation.ID{Revision: 2}, Count: 2, At: time.Now(), By: "victim"}}}))
	log.Unlock()
	l, stop := run(t, log, nil)
	defer stop()
	var got []string
	eventually.True(t, "the entries of the audit are there", func() bool {
		got = nil
		if err := l.Audit(t.Context(), AuditCursor{}, time.Time{}, func(_ AuditCursor, e AuditEntry) bool {
			got = append(got, strings.TrimSpace(fmt.Sprint(e.Action, " ", e.ID+e.Write, " ", e.Count)))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return len(got) > 0
	})
	if want := []string{"restore r2.0 2", "revoke r2.2 1", "import r2.0 2"}; !slices.Equal(got, want) {
		t.Errorf("the audit: got %q, want %q", got, want)
	}
}
