package replica

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rescind/revocation"
)

// TestOverflowAgainstAModel compares an overflow with a plain slice.
func TestOverflowAgainstAModel(t *testing.T) {
	gen := rapid.Custom(func(t *rapid.T) record {
		r := record{
			shape:   1,
			before:  revocation.Micros(rapid.SampledFrom([]int64{0, 10, 20, 30}).Draw(t, "before")),
			expires: revocation.Micros(rapid.Int64Range(1, 9).Draw(t, "expires")),
			id:      revocation.ID{Revision: rapid.Uint64Range(1, 400).Draw(t, "revision")},
		}
		r.digest[15] = byte(rapid.IntRange(0, 2).Draw(t, "digest"))
		r.before *= revocation.Micros(r.id.Revision % 2) // one ID has one iat
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		o, model := &overflow{}, []record{}
		index := func(r *record) int {
			return slices.IndexFunc(model, func(m record) bool { return m.compare(r) == 0 })
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for _, r := range rapid.SliceOfN(gen, 1, 200).Draw(t, "records") {
					there := index(&r) >= 0
					if got := o.has(&r); got != there {
						t.Fatalf("has(%+v) = %v, want %v", r, got, there)
					}
					if !there {
						o.add(r)
						model = append(model, r)
					}
				}
			},
			"remove": func(t *rapid.T) {
				for _, r := range rapid.SliceOfN(gen, 1, 200).Draw(t, "records") {
					i := index(&r)
					got, ok := o.remove(&r)
					if ok != (i >= 0) || ok && got.compare(&r) != 0 {
						t.Fatalf("remove(%+v) = %+v, %v; want it to be there: %v", r, got, ok, i >= 0)
					}
					if i >= 0 {
						model = slices.Delete(model, i, i+1)
					}
				}
			},
			"": func(t *rapid.T) {
				q := query{digest: revocation.Digest{}, iat: revocation.Micros(rapid.Int64Range(-1, 31).Draw(t, "iat")), ended: revocation.Micros(rapid.Int64Range(0, 10).Draw(t, "ended"))}
				q.digest[15] = byte(rapid.IntRange(0, 3).Draw(t, "digest"))
				var present, denied bool
				for i := range model {
					if model[i].digest == q.digest {
						present = true
						denied = denied || q.deniedBy(&model[i])
					}
				}
				a := o.find(&q)
				if a.denied != denied || !denied && a.present != present {
					t.Fatalf("find(%+v) = %+v, want present %v, denied %v", q, a, present, denied)
				}
				if i := slices.IndexFunc(model, func(r record) bool { return r.id == a.by && r.digest == q.digest && q.deniedBy(&r) }); denied && i < 0 {
					t.Fatalf("find(%+v) = %+v, want a record that denies", q, a)
				}
				var all []record
				noError(t, "each", o.each(func(r *record) error { all = append(all, *r); return nil }))
				if len(all) != len(model) || int(o.size.Load()) != len(model) || !slices.IsSortedFunc(all, func(a, b record) int { return a.compare(&b) }) {
					t.Fatalf("each yielded %d records and size is %d, want %d in order", len(all), o.size.Load(), len(model))
				}
				for i, run := range o.runs {
					reach, expires := run.reach, run.expires
					if run.setBounds(); len(run.records) == 0 || len(run.records) >= runSize || reach != run.reach || expires != run.expires {
						t.Fatalf("run %d has %d records, reach %d and end %d; want 1 to %d records, reach %d and end %d", i, len(run.records), reach, expires, runSize-1, run.reach, run.expires)
					}
				}
			},
		})
	})
}

// TestReadersOfOneDigestAgainstTheWriter has 20,000 revocations of one target
// come and go while readers look the target up. One of them stays all the while,
// so the target is denied all the while.
func TestReadersOfOneDigestAgainstTheWriter(t *testing.T) {
	const entries = 20_000
	s := newSet(0)
	revoked := func(i int) revocation.Entry {
		e := entryOf(uint64(i+1), 0, seconds(90_000+int64(i%100)), "alice")
		e.Before = seconds(100 + int64(i%10))
		return e
	}
	constant := entryOf(1<<40, 0, seconds(90_050), "alice")
	constant.Before = seconds(50)
	noError(t, "apply", s.apply([]revocation.Entry{revoked(0), constant}, nil, atSecond(1000)))
	var stop atomic.Bool
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			counts := new(positives)
			early, late := subjectToken("alice"), subjectToken("alice")
			early.IssuedAt, early.HasIssuedAt = seconds(10), true
			late.IssuedAt, late.HasIssuedAt = seconds(200), true
			for !stop.Load() {
				if by, denied, err := s.lookup(early, seconds(1000), counts); err != nil || !denied {
					t.Errorf("token issued before the revocations: denied %v by %v, %v; want true", denied, by, err)
					return
				}
				if by, denied, err := s.lookup(late, seconds(1000), counts); err != nil || denied {
					t.Errorf("token issued after the revocations: denied %v by %v, %v; want false", denied, by, err)
					return
				}
			}
		})
	}
	var all []revocation.Entry
	for i := range entries {
		all = append(all, revoked(i))
	}
	for part := range slices.Chunk(all, 1500) {
		noError(t, "apply", s.apply(part, nil, atSecond(1000)))
	}
	if s.len() != entries+1 {
		t.Errorf("%d entries, want %d", s.len(), entries+1)
	}
	for i := range entries / 10 {
		noError(t, "apply", s.apply(nil, all[i:i+1], atSecond(1000)))
	}
	noError(t, "apply", s.apply(nil, all[entries/10:], atSecond(1000)))
	stop.Store(true)
	running.Wait()
	if noError(t, "check", s.check()); s.len() != 1 {
		t.Errorf("%d entries after the restores, want 1", s.len())
	}
}

// BenchmarkOneDigest takes the cost of 70,000 revocations of one target: to apply
// them, to look the target up, and to restore them.
//
//	go test -run '^$' -bench OneDigest ./revocation/replica
func BenchmarkOneDigest(b *testing.B) {
	const entries = 70_000
	all := make([]revocation.Entry, entries)
	for i := range all {
		all[i] = entryOf(uint64(i+1), 0, seconds(90_000+int64(i/100)), "alice")
		all[i].Before = seconds(int64(i + 1))
	}
	filled := func(b *testing.B) *set {
		s := newSet(0)
		noError(b, "apply", s.apply(all, nil, atSecond(1000)))
		return s
	}
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			filled(b)
		}
	})
	b.Run("restore one by one", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s := filled(b)
			b.StartTimer()
			for i := range all {
				noError(b, "apply", s.apply(nil, all[i:i+1], atSecond(1000)))
			}
		}
	})
	for _, iat := range []int64{10, entries + 1} {
		b.Run(fmt.Sprintf("look-up of a token issued at %d", iat), func(b *testing.B) {
			s, counts := filled(b), new(positives)
			t := subjectToken("alice")
			t.IssuedAt, t.HasIssuedAt = seconds(iat), true
			for b.Loop() {
				if _, _, err := s.lookup(t, seconds(1000), counts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
