package ledger

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"rescind/revocation"
)

// TestRowsAgainstModel compares thousands of rows with a map. Chunks fill, are
// packed, vanish and come back.
func TestRowsAgainstModel(t *testing.T) {
	value := func(i int) revocation.Value { v, _ := revocation.ValueOf(fmt.Sprint("v", i)); return v }
	made := func(rev uint64, index, target int, expires revocation.Micros) revocation.Revocation {
		return revocation.Revocation{ID: revocation.ID{Revision: rev, Index: uint32(index)}, Issuer: issuerA, ExpiresAt: expires,
			Target: revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: "c", Value: value(target)}}}}
	}
	rapid.Check(t, func(rt *rapid.T) {
		r := newRows()
		type kept struct {
			revocation.Revocation
			restored bool
		}
		model := map[revocation.ID]*kept{}
		var revision uint64
		now := revocation.Micros(0)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				revision++
				targets := rapid.SampledFrom([]int{1, 50, 1 << 20}).Draw(rt, "targets")
				spread := rapid.SampledFrom([]int{1, 2, 7}).Draw(rt, "spread")
				for i := range rapid.IntRange(0, 3*chunkRows/2).Draw(rt, "rows") {
					m := made(revision, i, i%targets, now+1+revocation.Micros(i%spread))
					r.add(&operation{entry: m.Entry(), by: "m", packed: pack(&m)})
					model[m.ID] = &kept{Revocation: m}
				}
			case 2:
				n := 0
				for id, m := range model {
					if n++; n > 100 {
						break
					}
					_, w := r.find(id)
					if _, ok := r.restore(w, restoredRow{revision: revision}); ok == m.restored {
						rt.Fatalf("restore %v: got it restored now: %v, want %v", id, ok, !m.restored)
					}
					m.restored = true
				}
			case 3:
				now += revocation.Micros(rapid.IntRange(0, 4).Draw(rt, "later"))
				r.sweep(now)
				for id, m := range model {
					if m.ExpiresAt <= now {
						delete(model, id)
					}
				}
			}
		}
		live, seen := 0, 0
		last := revocation.ID{}
		for _, c := range r.chunks {
			for i := range c.rows {
				w := &c.rows[i]
				if !less(last, w.id()) {
					rt.Fatalf("got row %v after row %v, want rising IDs", w.id(), last)
				}
				last = w.id()
				if w.expires > now {
					seen++
				}
			}
		}
		for id, m := range model {
			if !m.restored {
				live++
			}
			c, w := r.find(id)
			if w == nil {
				rt.Fatalf("find %v: got no row, want one", id)
			}
			got := unpack(c.packed(w), newInterner())
			if got == nil || got.Target.Claims[0] != m.Target.Claims[0] || r.entry(w) != m.Entry() {
				rt.Fatalf("row %v: got %+v with the entry %+v, want %+v", id, got, r.entry(w), m.Revocation)
			}
			if e := m.Entry(); !m.restored && r.same(&e, cut{before: e.Before}, 0, now) == nil {
				rt.Fatalf("row %v by its target: got none, want one", id)
			}
		}
		if r.live != live || seen != len(model) {
			rt.Fatalf("after all steps: got %d live and %d rows, want %d and %d", r.live, seen, live, len(model))
		}
		r.sweep(never - 1)
		if len(r.chunks) != 0 || len(r.index) != 0 || len(r.restorations) != 0 || r.live != 0 || len(r.crowds) != 0 || len(r.shapes.numbers) != 0 || len(r.shapes.issuers) != 0 {
			rt.Fatalf("after all expired: %d chunks, index %d, restorations %d, live %d, crowds %d, shapes %d and %d; want none", len(r.chunks), len(r.index), len(r.restorations), r.live, len(r.crowds), len(r.shapes.numbers), len(r.shapes.issuers))
		}
	})
}
