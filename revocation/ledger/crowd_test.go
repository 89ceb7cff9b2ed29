package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
)

// One digest is revoked and restored beyond its bound, through restarts. A
// follower that applies every change, and one that begins with a snapshot, deny
// exactly the tokens that the revocations in force deny.
func TestCoversAgainstModel(t *testing.T) {
	const most = 3
	covers, imports := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		clock := ledgertest.NewClock()
		begin := clock.Now()
		log := ledgertest.New()
		small := func(l *Ledger) { l.maxStanding, l.rows.crowdRows = most, 1 }
		l, stop := run(t, log, clock.Now, small)
		defer func() { stop() }()
		standing := map[revocation.ID]reach{}
		followers := []*follower{{}}
		for range rapid.IntRange(10, 60).Draw(rt, "steps") {
			switch step := rapid.SampledFrom([]string{"revoke", "revoke", "further", "import", "import", "restore", "restore", "restart", "time", "snapshot"}).Draw(rt, "step"); step {
			case "revoke", "further":
				before := rapid.IntRange(0, 4).Draw(rt, "before") // 0 is any iat
				expires := clock.Now().Add(time.Duration(rapid.IntRange(1, 40).Draw(rt, "hours")) * time.Hour)
				if step == "further" {
					for _, o := range standing {
						before, expires = 0, later(expires, o.expires.Time().Add(time.Hour))
					}
				}
				r := revocation.Revocation{Issuer: issuerA, Target: made(t, "x", `{"sub":"a"}`).Target, Before: revocation.Micros(before), ExpiresAt: revocation.MicrosOf(expires), CreatedAt: clock.Now()}
				_, ids, fresh, err := l.revoke(t.Context(), []Candidate{newCandidate(r, r.ExpiresAt)}, false, AuditEntry{}).parts()
				all := noReach
				for _, o := range standing {
					all = all.and(o)
				}
				mine := reach{r.Before, r.ExpiresAt}
				refused := len(standing) >= most && !mine.covers(all)
				switch {
				case err != nil && !errors.As(err, new(*Refusal)):
					rt.Fatal(err)
				case err == nil && fresh == 0: // it was there
				case (err != nil) != refused:
					rt.Fatalf("revoke %+v beside %v: got %v, want it refused: %v", mine, standing, err, refused)
				case err == nil:
					if len(standing) >= most {
						covers++
					}
					standing[ids[0]] = mine
				}
			case "import": // each line ends later than all before it
				all, refused := maps.Clone(standing), false
				var lines []Candidate
				for range rapid.IntRange(2, 5).Draw(rt, "lines") {
					r := revocation.Revocation{Issuer: issuerA, Target: made(t, "x", `{"sub":"a"}`).Target, Before: revocation.Micros(rapid.IntRange(0, 4).Draw(rt, "before")), CreatedAt: clock.Now()}
					furthest := noReach
					for _, o := range all {
						furthest = furthest.and(o)
					}
					r.ExpiresAt = max(furthest.expires, revocation.MicrosOf(clock.Now())) + revocation.MicrosOf(time.Unix(3600, 0))
					mine := reach{r.Before, r.ExpiresAt}
					refused = refused || len(all) >= most && !mine.covers(furthest)
					all[revocation.ID{Revision: l.Revision() + 1, Index: uint32(len(lines))}] = mine
					lines = append(lines, newCandidate(r, r.ExpiresAt))
				}
				_, _, fresh, err := l.revoke(t.Context(), lines, false, AuditEntry{}).parts()
				switch {
				case refused != errors.As(err, new(*Refusal)), err == nil && fresh != len(lines):
					rt.Fatalf("import %d lines beside %v: got %d accepted, %v, want them refused: %v", len(lines), standing, fresh, err, refused)
				case err == nil:
					imports++
					standing = all
				}
			case "restore":
				if len(standing) == 0 {
					continue
				}
				id := rapid.SampledFrom(slices.SortedFunc(maps.Keys(standing), compareIDs)).Draw(rt, "which")
				if err := l.restore(t.Context(), id, 1, AuditEntry{At: clock.Now()}).err; err != nil {
					rt.Fatal(err)
				}
				delete(standing, id)
			case "restart":
				stop()
				l, stop = run(t, log, clock.Now, small)
				l.dropExpired()
			case "time":
				clock.Advance(time.Hour)
				l.dropExpired()
				now := revocation.MicrosOf(clock.Now())
				maps.DeleteFunc(standing, func(_ revocation.ID, r reach) bool { return r.expires <= now })
			case "snapshot":
				followers = append(followers, &follower{})
			}
			for _, f := range followers {
				f.follow(rt, l)
				f.checkLasting(rt, l, clock.Now())
				f.check(rt, standing, clock.Now().Sub(begin))
			}
		}
	})
	if covers == 0 || imports == 0 {
		t.Errorf("got %d revocations at the bound and %d imports, want at least one of each", covers, imports)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// follower holds the entries of one digest, as a replica does.
type follower struct {
	entries  map[revocation.ID]revocation.Entry
	revision uint64
}

func (f *follower) follow(rt *rapid.T, l *Ledger) {
	if f.entries == nil {
		f.entries = map[revocation.ID]revocation.Entry{}
		revision, err := l.Snapshot(func(part []revocation.Entry) error {
			for _, e := range part {
				f.entries[e.ID] = e
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		f.revision = revision
	}
	changes, held := l.Changes(f.revision, 1000)
	if !held {
		rt.Fatalf("changes after revision %d: got none, want them held", f.revision)
	}
	for _, c := range changes {
		for _, e := range c.Added {
			if slices.ContainsFunc(c.Removed, func(o revocation.Entry) bool { return o.ID == e.ID }) && e.ID.Revision == c.Revision {
				rt.Fatalf("revision %d: got %v added and removed, want it left out", c.Revision, e.ID)
			}
		}
		for _, e := range c.Added {
			f.entries[e.ID] = e
		}
		for _, e := range c.Removed {
			delete(f.entries, e.ID)
		}
		f.revision = c.Revision
	}
}

// checkLasting compares the ledger's count of entries with the follower's.
func (f *follower) checkLasting(rt *rapid.T, l *Ledger, now time.Time) {
	minute := revocation.MinuteOf(now)
	want := lastingAfter(minute, slices.Collect(maps.Values(f.entries)))
	if revision, n, ok := l.Lasting(minute); !ok || n != want || revision != f.revision {
		rt.Fatalf("Lasting(%d) = %d, %d, %v; want revision %d and the %d of the follower", minute, revision, n, ok, f.revision, want)
	}
}

// check compares the follower with all that is in force: every revocation is
// held or covered, and nothing else is held.
func (f *follower) check(rt *rapid.T, standing map[revocation.ID]reach, age time.Duration) {
	for id, r := range standing {
		if !slices.ContainsFunc(slices.Collect(maps.Values(f.entries)), func(e revocation.Entry) bool { return (reach{e.Before, e.ExpiresAt}).covers(r) }) {
			rt.Fatalf("after %v: got the follower with %v, want an entry that covers %v %+v", age, f.entries, id, r)
		}
	}
	for id, e := range f.entries {
		if _, ok := standing[id]; !ok && e.ExpiresAt > revocation.MicrosOf(ledgertest.NewClock().Now().Add(age)) {
			rt.Fatalf("after %v: got the follower with %v, want the %d revocations in force alone", age, id, len(standing))
		}
	}
}

// 70,000 revocations of one digest are a log of the first edition. Every
// operation on the digest stays cheap: the whole test took 20 s when they were
// walked one by one.
func TestOneDigestWithManyEntries(t *testing.T) {
	const n = 70_000
	log := ledgertest.New()
	all := make([]revocation.Revocation, n)
	one := made(t, "old", `{"sub":"a"}`)
	for i := range all {
		all[i] = one
		all[i].Before = revocation.Micros(1 + i)
	}
	log.Add(batchOf("old", all...))
	l, stop := run(t, log, nil)
	defer stop()
	if l.Len() != n {
		t.Fatalf("%d revocations in force, want %d", l.Len(), n)
	}
	less := one
	less.Before = n + 5
	less.ExpiresAt--
	_, _, _, err := l.revoke(t.Context(), []Candidate{newCandidate(less, less.ExpiresAt)}, true, AuditEntry{}).parts()
	if !errors.As(err, new(*Refusal)) {
		t.Errorf("one more that ends earlier: %v, want it refused", err)
	}
	for i := range 2000 { // repeats and restorations of any of them
		id := revocation.ID{Revision: 2, Index: uint32(i * 31)}
		again := all[i*31]
		if _, ids, fresh, err := l.revoke(t.Context(), []Candidate{newCandidate(again, again.ExpiresAt)}, false, AuditEntry{}).parts(); err != nil || fresh != 0 || ids[0] != id {
			t.Fatalf("the same again: %v, %d new, %v; want %v", ids, fresh, err, id)
		}
		if err := l.restore(t.Context(), id, 1, AuditEntry{At: time.Now()}).err; err != nil {
			t.Fatal(err)
		}
	}
	if l.Len() != n-2000 {
		t.Errorf("%d in force, want %d", l.Len(), n-2000)
	}
}

// At the bound another revocation of the same claims is refused with the bound.
// One that reaches further is accepted, and replicas hold it for the others.
func TestAtMostSoManyOfOneDigest(t *testing.T) {
	l, stop := run(t, ledgertest.New(), nil)
	defer stop()
	r := made(t, "revoker", `{"sub":"a"}`)
	r.ExpiresAt -= 1 << 40
	add := func(before revocation.Micros) (revocation.ID, error) {
		r.Before = before
		_, ids, _, err := l.revoke(t.Context(), []Candidate{newCandidate(r, r.ExpiresAt)}, false, AuditEntry{}).parts()
		if err != nil {
			return revocation.ID{}, err
		}
		return ids[0], nil
	}
	for i := range maxStanding {
		if _, err := add(revocation.Micros(10 + i)); err != nil {
			t.Fatalf("revocation %d of %d: got %v, want it accepted", i+1, maxStanding, err)
		}
	}
	_, err := add(5)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxStanding)) {
		t.Errorf("one more that reaches less: got %v, want a refusal that names %d", err, maxStanding)
	}
	before := l.Revision()
	cover, err := add(1 << 20)
	if err != nil {
		t.Fatalf("one more that reaches further: got %v, want it accepted", err)
	}
	inSnapshot := 0
	if _, err := l.Snapshot(func(part []revocation.Entry) error { inSnapshot += len(part); return nil }); err != nil {
		t.Fatal(err)
	}
	if l.Len() != 1 || inSnapshot != 1 {
		t.Errorf("Len is %d and a snapshot has %d revocations, want the cover alone", l.Len(), inSnapshot)
	}
	if err := l.restore(t.Context(), cover, 1, AuditEntry{At: time.Now()}).err; err != nil {
		t.Fatal(err)
	}
	if l.Len() != maxStanding {
		t.Errorf("after the cover is restored replicas hold %d revocations, want %d", l.Len(), maxStanding)
	}
	changes, _ := l.Changes(before, 2)
	if len(changes) != 2 || len(changes[0].Removed) != maxStanding || len(changes[1].Added) != maxStanding || len(changes[1].Removed) != 1 {
		t.Errorf("%d changes, want one that removes %d and one that adds them again", len(changes), maxStanding)
	}
}

// An import in which each line reaches further than those before is one change of
// a replica's set, however many lines it has. The rows come back if their
// cover is restored.
func TestReplicasAreSparedWhatARevisionCovers(t *testing.T) {
	const n = 2 * maxStanding
	l, stop := run(t, ledgertest.New(), nil)
	defer stop()
	r := made(t, "revoker", `{"sub":"a"}`)
	further := func(from int) (lines []Candidate) {
		for i := range n {
			r.Before = revocation.Micros(from + i)
			lines = append(lines, newCandidate(r, r.ExpiresAt))
		}
		return lines
	}
	revoke := func(lines []Candidate) (ids []revocation.ID) {
		_, ids, fresh, err := l.revoke(t.Context(), lines, false, AuditEntry{At: time.Now()}).parts()
		if err != nil || fresh != n {
			t.Fatalf("an import of %d lines: got %d accepted, %v, want all", n, fresh, err)
		}
		return ids
	}
	restore := func(id revocation.ID, count int) {
		if err := l.restore(t.Context(), id, uint32(count), AuditEntry{At: time.Now()}).err; err != nil {
			t.Fatalf("restoring %d from %v: got %v, want no error", count, id, err)
		}
	}
	first, second := revoke(further(1)), revoke(further(1+n))
	restore(second[n-1], 1)
	restore(second[0], n-1)
	restore(first[0], n)
	changes, _ := l.Changes(first[0].Revision-1, 10)
	var got [][2]int
	for _, c := range changes {
		got = append(got, [2]int{len(c.Added), len(c.Removed)})
	}
	// The last but one of the second import is back; then the last of the first.
	if want := [][2]int{{1, 0}, {1, 1}, {1, 1}, {1, 1}, {0, 1}}; !slices.Equal(got, want) {
		t.Errorf("two imports, and their restorations: got changes that add and remove %v entries, want %v", got, want)
	}
	if l.Len() != 0 {
		t.Errorf("after all are restored: got %d in force, want none", l.Len())
	}
}

// A snapshot is taken while covers come and go between its chunks. It never
// lacks both a revocation and its cover.
func TestSnapshotWhileCoversComeAndGo(t *testing.T) {
	const most = 3
	fill := func(name string) []revocation.Revocation {
		all := make([]revocation.Revocation, chunkRows)
		for i := range all {
			all[i] = made(t, "x", fmt.Sprintf(`{"jti":"%s%d"}`, name, i))
		}
		return all
	}
	target := made(t, "x", `{"sub":"a"}`)
	row := func(before revocation.Micros) revocation.Revocation {
		r := target
		r.Before = before
		return r
	}
	begin := func() (l *Ledger, stop func()) {
		log := ledgertest.New()
		log.Add(batchOf("w", fill("a")...))
		log.Add(batchOf("w", row(1), row(2), row(3)))
		log.Add(batchOf("w", fill("b")...))
		return run(t, log, nil, func(l *Ledger) { l.maxStanding, l.rows.crowdRows = most, 1 })
	}
	cover := func(l *Ledger) revocation.ID {
		r := row(100)
		r.Before = 0
		_, ids, _, err := l.revoke(t.Context(), []Candidate{newCandidate(r, r.ExpiresAt)}, false, AuditEntry{}).parts()
		if err != nil {
			t.Fatal(err)
		}
		return ids[0]
	}
	restore := func(l *Ledger, id revocation.ID) {
		if err := l.restore(t.Context(), id, 1, AuditEntry{At: time.Now()}).err; err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		before func(l *Ledger) revocation.ID
		during func(l *Ledger, chunk int, cover revocation.ID)
	}{
		"a cover comes after the first chunk": {
			func(*Ledger) revocation.ID { return revocation.ID{} },
			func(l *Ledger, chunk int, _ revocation.ID) {
				if chunk == 1 {
					cover(l)
				}
			}},
		"the cover goes after the second chunk": {
			func(l *Ledger) revocation.ID { return cover(l) },
			func(l *Ledger, chunk int, id revocation.ID) {
				if chunk == 2 {
					restore(l, id)
				}
			}},
		"the cover comes and goes": {
			func(*Ledger) revocation.ID { return revocation.ID{} },
			func(l *Ledger, chunk int, _ revocation.ID) {
				if chunk == 1 {
					restore(l, cover(l))
				}
			}},
	} {
		l, stop := begin()
		id := tt.before(l)
		held := map[revocation.ID]reach{}
		chunks, twice := 0, 0
		_, err := l.Snapshot(func(part []revocation.Entry) error {
			for _, e := range part {
				if _, ok := held[e.ID]; ok {
					twice++
				}
				if e.Digest == target.Entry().Digest {
					held[e.ID] = reach{e.Before, e.ExpiresAt}
				}
			}
			chunks++
			tt.during(l, chunks, id)
			return nil
		})
		if err != nil || twice > 0 {
			t.Errorf("%s: got a snapshot with error %v and %d entries twice, want none", name, err, twice)
		}
		for _, r := range []revocation.Revocation{row(1), row(2), row(3)} {
			if !slices.ContainsFunc(slices.Collect(maps.Values(held)), func(h reach) bool { return h.covers(reach{r.Before, r.ExpiresAt}) }) {
				t.Errorf("%s: got a snapshot with %v, want an entry that covers the revocation before %d", name, held, r.Before)
			}
		}
		stop()
	}
}

// One batch meets the bound of a digest as many batches do.
func TestAtMostSoManyOfOneDigestInOneBatch(t *testing.T) {
	l, stop := run(t, ledgertest.New(), nil)
	defer stop()
	lines := func(n int, further bool) (all []Candidate) {
		r := made(t, "revoker", `{"sub":"a"}`)
		for i := range n {
			r.Before = revocation.Micros(1 << 30)
			if further {
				r.Before += revocation.Micros(i)
			} else {
				r.Before -= revocation.Micros(i)
			}
			c := newCandidate(r, r.ExpiresAt)
			c.Line = i + 1
			all = append(all, c)
		}
		return all
	}
	var refusal *Refusal
	if _, _, _, err := l.revoke(t.Context(), lines(maxStanding+1, false), false, AuditEntry{}).parts(); !errors.As(err, &refusal) || refusal.Faults[0].Line != maxStanding+1 {
		t.Errorf("%d revocations of one digest, each of which reaches less: %v, want line %d refused", maxStanding+1, err, maxStanding+1)
	}
	if l.Len() != 0 {
		t.Errorf("%d revocations in force after the refusal, want none", l.Len())
	}
	if _, _, fresh, err := l.revoke(t.Context(), lines(maxStanding+500, true), false, AuditEntry{}).parts(); err != nil || fresh != maxStanding+500 {
		t.Errorf("%d revocations of one digest, each of which reaches further: %d accepted, %v; want all", maxStanding+500, fresh, err)
	}
}
