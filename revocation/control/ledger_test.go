package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
)

// clockwork is a clock that is set by hand.
type clockwork struct{ micros atomic.Int64 }

func (c *clockwork) now() time.Time          { return time.UnixMicro(c.micros.Load()).UTC() }
func (c *clockwork) advance(d time.Duration) { c.micros.Add(d.Microseconds()) }

// run starts a ledger and returns it with what stops it.
func run(t testing.TB, log Log, now func() time.Time) (*Ledger, func()) {
	t.Helper()
	l := NewLedger(log, LedgerOptions{Retention: retention, Now: now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for start := time.Now(); l.Ready() != nil; time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the ledger is not ready after 10 s")
		}
	}
	return l, func() { cancel(); <-done }
}

// modelled is a revocation as a few obvious lines keep it.
type modelled struct {
	id       revocation.ID
	what     string // issuer, target, before, block
	issuer   string
	claim    string
	expires  time.Time
	restored bool
}

// The ledger against a list that is walked from end to end: accepting,
// repeating, restoring, expiring, listing, paging, restarting, and a follower
// that applies its changes.
func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := &clockwork{}
		clock.micros.Store(time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC).UnixMicro())
		log := newMemoryLog()
		l, stop := run(t, log, clock.now)
		defer func() { stop() }()
		var model []*modelled
		follower := map[revocation.ID]revocation.Entry{}
		followed := uint64(0)

		alive := func(m *modelled) bool { return m.expires.After(clock.now()) }
		rt.Repeat(map[string]func(*rapid.T){
			"revoke": func(rt *rapid.T) {
				claim := rapid.SampledFrom([]string{`"sub":"a"`, `"sub":"b"`, `"jti":"a"`, `"n":1`, `"n":"1"`, `"sub":"a","n":1`}).Draw(rt, "claim")
				issuer := rapid.SampledFrom([]string{issuerA, issuerB}).Draw(rt, "issuer")
				before := rapid.SampledFrom([]string{"", `,"block":true`, `,"issued_before":"2026-11-01T00:00:00Z"`}).Draw(rt, "before")
				body := fmt.Sprintf(`{"issuer":%q,"claims":{%s}%s`, issuer, claim, before)
				lasts := rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, 400 * time.Hour}).Draw(rt, "lasts")
				expires, least := clock.now().Add(retention), clock.now().Add(retention/2)
				if lasts > 0 {
					expires = clock.now().Add(lasts)
					least = expires
					body += fmt.Sprintf(`,"expires_at":%q`, expires.Format(time.RFC3339Nano))
				}
				r, faults := revocation.ParseRequest([]byte(body + "}"))
				if faults != nil {
					rt.Fatal(faults)
				}
				rev, faults := r.Accept(clock.now(), retention, "m")
				if faults != nil {
					rt.Fatal(faults)
				}
				what := fmt.Sprint(issuer, claim, before, rev.Before)
				_, ids, fresh, err := l.Revoke(t.Context(), []Candidate{NewCandidate(rev, revocation.MicrosOf(least))}, Entry{})
				if err != nil {
					rt.Fatal(err)
				}
				was := slices.IndexFunc(model, func(m *modelled) bool { return m.id == ids[0] })
				enough := func(m *modelled) bool {
					return m.what == what && !m.restored && alive(m) && !m.expires.Before(least)
				}
				switch {
				case fresh == 1 && slices.ContainsFunc(model, enough):
					rt.Fatalf("%s was there already", what)
				case fresh == 1 && was >= 0:
					rt.Fatalf("%v was given twice", ids[0])
				case fresh == 0 && (was < 0 || !enough(model[was])):
					rt.Fatalf("%v is not the same as %s", ids[0], what)
				case fresh == 1:
					model = append(model, &modelled{ids[0], what, issuer, claim, expires, false})
				}
			},
			"restore": func(rt *rapid.T) {
				id := revocation.ID{Revision: 77777}
				if len(model) > 0 {
					id = rapid.SampledFrom(model).Draw(rt, "which").id
				}
				_, err := l.Restore(t.Context(), id, Entry{At: clock.now(), By: "r"})
				i := slices.IndexFunc(model, func(m *modelled) bool { return m.id == id && alive(m) })
				if (i < 0) != errors.Is(err, ErrUnknown) || i >= 0 && err != nil {
					rt.Fatalf("restore %v: %v", id, err)
				}
				if i >= 0 {
					model[i].restored = true
				}
			},
			"time": func(rt *rapid.T) {
				clock.advance(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 300 * time.Hour}).Draw(rt, "by"))
				if rapid.Bool().Draw(rt, "sweep") {
					l.forget()
				}
			},
			"restart": func(*rapid.T) {
				stop()
				l, stop = run(t, log, clock.now)
			},
			"follow": func(rt *rapid.T) {
				if followed == 0 {
					clear(follower)
					rev, err := l.Snapshot(func(part []revocation.Entry) error {
						for _, e := range part {
							follower[e.ID] = e
						}
						return nil
					})
					if err != nil {
						rt.Fatal(err)
					}
					followed = rev
				}
				for followed < l.Revision() {
					changes, held := l.Changes(followed, rapid.IntRange(1, 3).Draw(rt, "max"))
					if !held {
						rt.Fatal("changes are not held")
					}
					for _, c := range changes {
						if c.Revision != followed+1 {
							rt.Fatalf("revision %d after %d", c.Revision, followed)
						}
						for _, e := range c.Added {
							follower[e.ID] = e
						}
						for _, e := range c.Removed {
							if have, ok := follower[e.ID]; ok && have != e {
								rt.Fatalf("removed %+v, added as %+v", e, have)
							}
							delete(follower, e.ID)
						}
						followed = c.Revision
					}
				}
				for _, m := range model {
					if !alive(m) {
						continue
					}
					if _, ok := follower[m.id]; ok == m.restored {
						rt.Fatalf("the follower has %v: %v, restored: %v", m.id, ok, m.restored)
					}
				}
			},
			"": func(rt *rapid.T) { // the lists agree
				for _, q := range []Query{{}, {Active: new(bool)}, {Issuers: [][]string{nil, {issuerB}}},
					{Claims: []string{"sub:a"}}, {Claims: []string{"n:1"}}, {Claims: []string{"n:1", "sub:a"}}} {
					var want, got []string
					for _, m := range slices.Backward(model) {
						if alive(m) && (q.Active == nil || m.restored) && (q.Issuers == nil || m.issuer == issuerB) && m.has(q.Claims) {
							want = append(want, fmt.Sprint(m.id, m.restored, m.expires))
						}
					}
					q.Limit = 2
					for more := true; more; {
						var items []Item
						items, more = l.List(q)
						for _, it := range items {
							got = append(got, fmt.Sprint(it.ID, it.Restored != nil, it.ExpiresAt.Time()))
							q.Before = it.ID
						}
						if len(items) > 2 || more && len(items) < 2 {
							rt.Fatalf("a page of %d, more %v", len(items), more)
						}
					}
					if !slices.Equal(got, want) {
						rt.Fatalf("query %+v\n got %q\nwant %q", q, got, want)
					}
				}
				live := 0
				for _, m := range model {
					if alive(m) && !m.restored {
						live++
					}
				}
				l.forget()
				if l.Len() != live {
					rt.Fatalf("%d in force, want %d", l.Len(), live)
				}
			},
		})
	})
}

// has says whether the equalities of m include all of these.
func (m *modelled) has(claims []string) bool {
	var have map[string]any
	if err := json.Unmarshal([]byte("{"+m.claim+"}"), &have); err != nil {
		panic(err)
	}
	for _, c := range claims {
		found := false
		for k, v := range have {
			found = found || c == fmt.Sprintf("%s:%v", k, v)
		}
		if !found {
			return false
		}
	}
	return true
}

// Rows by the thousand, so that chunks fill, are packed, vanish and come back.
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
					r.add(m.Entry(), false, pack(&m))
					model[m.ID] = &kept{Revocation: m}
				}
			case 2:
				n := 0
				for id, m := range model {
					if n++; n > 100 {
						break
					}
					if (r.restore(id, undone{revision: revision}) == nil) != m.restored {
						rt.Fatalf("restore %v, which was restored: %v", id, m.restored)
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
					rt.Fatalf("%v stands after %v", w.id(), last)
				}
				last = w.id()
				if w.expires > now {
					seen++
				}
			}
		}
		targeted := map[revocation.Claim]int{}
		for _, m := range model {
			targeted[m.Target.Claims[0]]++
		}
		for id, m := range model {
			if !m.restored {
				live++
			}
			c, w := r.find(id)
			if w == nil {
				rt.Fatalf("%v is lost", id)
			}
			got := unpack(c.packed(w), newInterner())
			if got == nil || got.Target.Claims[0] != m.Target.Claims[0] || r.entry(w) != m.Entry() {
				rt.Fatalf("%v has become %+v", id, got)
			}
			if e := m.Entry(); !m.restored && r.same(&e, false, 0, now) == nil && targeted[m.Target.Claims[0]] < chainLimit {
				rt.Fatalf("%v is not found by its target", id)
			}
		}
		if r.live != live || seen != len(model) {
			rt.Fatalf("live %d want %d, rows %d want %d", r.live, live, seen, len(model))
		}
		r.sweep(never - 1)
		if len(r.chunks) != 0 || len(r.index) != 0 || len(r.undone) != 0 || r.live != 0 {
			rt.Fatalf("after all expired: %d chunks, index %d, undone %d, live %d", len(r.chunks), len(r.index), len(r.undone), r.live)
		}
	})
}

// Concurrent callers share appends, and each learns its own fate.
func TestConcurrentCallersShareAppends(t *testing.T) {
	log := newMemoryLog()
	e := serve(t, log)
	var all sync.WaitGroup
	ids := make([]string, 200)
	for i := range ids {
		all.Go(func() { ids[i] = e.revoke("revoker", claims(issuerA, fmt.Sprintf(`{"jti":"%d"}`, i))).ID })
	}
	all.Wait()
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 200 {
		t.Errorf("%d distinct IDs for 200 revocations", n)
	}
	if e.ledger.Len() != 200 {
		t.Errorf("%d in force", e.ledger.Len())
	}
}

// Who was given an ID by one node may ask another about it, that is a moment
// behind.
func TestAnotherNodeWasAsked(t *testing.T) {
	log := newMemoryLog()
	e := serve(t, log)
	r, _ := revocation.ParseRequest([]byte(claims(issuerA, `{"jti":"x"}`)))
	rev, _ := r.Accept(time.Now(), retention, "elsewhere")
	log.late = [][]byte{packBatch("other", []operation{{packed: pack(&rev)}})}
	time.AfterFunc(50*time.Millisecond, func() {
		log.mu.Lock()
		defer log.mu.Unlock()
		log.add(log.late[0])
		log.late = nil
	})
	e.do("operator", "DELETE", "/v1/revocations/r2.0", "").want(200)
	e.do("operator", "GET", "/v1/revocations/r99.0", "").want(404)
	log.failHead = errors.New("there is no majority")
	e.do("operator", "GET", "/v1/revocations/r99.0", "").want(503)
	e.do("operator", "GET", "/v1/revocations/r2.0", "").want(200)
}

// A ledger is as old as the last time when it was certain, and had read, that
// there was nothing more.
func TestAgeOfTheLedger(t *testing.T) {
	log := newMemoryLog()
	e := serve(t, log)
	if age := e.ledger.Age(); age < 1000*time.Hour {
		t.Errorf("nobody has agreed, and it is %v old", age)
	}
	agree := func(ago time.Duration, late ...[]byte) {
		log.mu.Lock()
		defer log.mu.Unlock()
		log.agreed, log.late = time.Now().Add(-ago), late
	}
	young := func(what string, least, most time.Duration) {
		t.Helper()
		if age := e.ledger.Age(); age < least || age > most {
			t.Errorf("%s: %v old", what, age)
		}
	}
	agree(time.Hour)
	young("an hour ago", time.Hour, time.Hour+time.Minute)
	agree(0, []byte("not read yet"))
	young("there is more", time.Hour, time.Hour+time.Minute)
	agree(0)
	young("now", 0, time.Minute)
	agree(time.Hour)
	young("an older word", 0, time.Minute)
}

// Another node appends in between: the request is weighed again.
func TestAnotherNodeWasFirst(t *testing.T) {
	log := newMemoryLog()
	e := serve(t, log)
	r, _ := revocation.ParseRequest([]byte(claims(issuerA, `{"jti":"x"}`)))
	rev, _ := r.Accept(time.Now(), retention, "elsewhere")
	once := true
	log.failAppend = func() error {
		if once {
			once = false
			log.add(packBatch("other", []operation{{packed: pack(&rev)}}))
		}
		return nil
	}
	d := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"jti":"x"}`)).want(200).document()
	if d.CreatedBy != "elsewhere" || d.Revision != 2 {
		t.Errorf("%+v", d)
	}
}

// A batch of ours without a note gets one when the log is read again; one that
// has a note does not get a second.
func TestACrashBeforeTheNote(t *testing.T) {
	log := newMemoryLog()
	e := serve(t, log)
	e.revoke("revoker", claims(issuerA, `{"jti":"noted"}`))
	e.stop()
	r, _ := revocation.ParseRequest([]byte(claims(issuerA, `{"jti":"unnoted"}`)))
	rev, _ := r.Accept(time.Now(), retention, "victim")
	log.mu.Lock()
	log.add(packBatch("test", []operation{{packed: pack(&rev)}}))
	log.add(packBatch("other", []operation{{packed: pack(&rev)}}))
	log.mu.Unlock()
	for range 2 {
		e = serve(t, log)
		var got []string
		await(t, func() bool {
			got = nil
			if err := e.ledger.Audit(t.Context(), AuditCursor{}, func(_ AuditCursor, e Entry) bool {
				got = append(got, e.By+" "+e.ID+" "+e.Outcome)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			return len(got) >= 2
		})
		if want := []string{"victim r3.0 accepted", "revoker r2.0 accepted"}; !slices.Equal(got, want) {
			t.Errorf("audit %q, want %q", got, want)
		}
		e.stop()
	}
}

func await(t testing.TB, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("not within 10 s")
		}
	}
}

// A clock that is set back revives nothing.
func TestTheClockSetBack(t *testing.T) {
	clock := &clockwork{}
	clock.micros.Store(time.Date(2026, 11, 24, 7, 0, 0, 0, time.UTC).UnixMicro())
	l, stop := run(t, newMemoryLog(), clock.now)
	defer stop()
	r := revocation.Request{Issuer: issuerA, All: true, ExpiresAt: clock.now().Add(time.Minute)}
	rev, faults := r.Accept(clock.now(), retention, "x")
	if faults != nil {
		t.Fatal(faults)
	}
	_, ids, _, err := l.Revoke(t.Context(), []Candidate{NewCandidate(rev, rev.ExpiresAt)}, Entry{})
	if err != nil {
		t.Fatal(err)
	}
	clock.advance(2 * time.Minute)
	l.forget()
	clock.advance(-time.Hour)
	if _, err := l.Find(ids[0]); !errors.Is(err, ErrUnknown) {
		t.Errorf("an expired revocation is found again: %v", err)
	}
}

// Whatever bytes a batch has, reading it ends in order.
func FuzzBatch(f *testing.F) {
	r, _ := revocation.ParseRequest([]byte(claims(issuerA, `{"sub":"a","n":1.5,"b":true}`)))
	rev, _ := r.Accept(time.Now(), retention, "x")
	f.Add(packBatch("w", []operation{{packed: pack(&rev)}, {restore: restoration{ID: revocation.ID{Revision: 3}, By: "y"}}}))
	f.Add([]byte{1, 1, 'w', 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		writer, ops, err := readBatch(b, 7, newInterner())
		if err != nil {
			return
		}
		if _, again, err := readBatch(packBatch(writer, ops), 7, newInterner()); err != nil || len(again) != len(ops) {
			t.Errorf("%d operations, %d read back, %v", len(ops), len(again), err)
		}
	})
}
