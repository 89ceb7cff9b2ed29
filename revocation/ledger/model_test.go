package ledger

import (
	"encoding/json"
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

// modelled is a revocation of the model.
type modelled struct {
	id       revocation.ID
	text     string // issuer, target, before, block
	issuer   string
	claim    string
	expires  time.Time
	reach    reach
	restored bool
}

// TestLedgerAgainstModel compares the ledger with a list that is walked from end
// to end: accepting, repeating, restoring, expiring, listing, paging, restarting,
// and a follower that applies its changes.
func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		clock := ledgertest.NewClock()
		log := ledgertest.New()
		most := rapid.SampledFrom([]int{3, maxStanding}).Draw(rt, "most")
		small := func(l *Ledger) { l.maxStanding, l.rows.crowdRows = most, min(most, crowdRows)/2 }
		l, stop := run(t, log, clock.Now, small)
		defer func() { stop() }()
		var model []*modelled
		follower := map[revocation.ID]revocation.Entry{}
		followed := uint64(0)

		alive := func(m *modelled) bool { return m.expires.After(clock.Now()) }
		rt.Repeat(map[string]func(*rapid.T){
			"revoke": func(rt *rapid.T) {
				claim := rapid.SampledFrom([]string{`"sub":"a"`, `"sub":"b"`, `"jti":"a"`, `"n":1`, `"n":"1"`, `"sub":"a","n":1`}).Draw(rt, "claim")
				issuer := rapid.SampledFrom([]string{issuerA, issuerB}).Draw(rt, "issuer")
				before := rapid.SampledFrom([]string{"", `,"block":true`, `,"issued_before":"2026-11-01T00:00:00Z"`, `,"issued_before":"2026-11-02T00:00:00Z"`}).Draw(rt, "before")
				body := fmt.Sprintf(`{"issuer":%q,"claims":{%s}%s`, issuer, claim, before)
				lasts := rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour, 400 * time.Hour}).Draw(rt, "lasts")
				expires, least := clock.Now().Add(retention), clock.Now().Add(retention/2)
				if lasts > 0 {
					expires = clock.Now().Add(lasts)
					least = expires
					body += fmt.Sprintf(`,"expires_at":%q`, expires.Format(time.RFC3339Nano))
				}
				r, faults := revocation.ParseRequest([]byte(body + "}"))
				if faults != nil {
					rt.Fatalf("%s}: got the faults %v, want none", body, faults)
				}
				rev, faults := r.Accept(clock.Now(), retention, "m")
				if faults != nil {
					rt.Fatalf("%s}: got the faults %v, want none", body, faults)
				}
				text := fmt.Sprint(issuer, claim, before, rev.Before)
				_, ids, fresh, err := l.revoke(t.Context(), []Candidate{newCandidate(rev, revocation.MicrosOf(least))}, false, AuditEntry{}).parts()
				standing, furthest := 0, noReach
				for _, m := range model {
					if m.issuer == issuer && m.claim == claim && !m.restored && alive(m) {
						standing++
						furthest = furthest.and(m.reach)
					}
				}
				if errors.As(err, new(*Refusal)) && standing >= most && !(reach{rev.Before, rev.ExpiresAt}).covers(furthest) {
					return
				}
				if err != nil {
					rt.Fatalf("revoke %s where %d are in force: got %v, want it accepted", text, standing, err)
				}
				was := slices.IndexFunc(model, func(m *modelled) bool { return m.id == ids[0] })
				enough := func(m *modelled) bool {
					return m.text == text && !m.restored && alive(m) && !m.expires.Before(least)
				}
				switch {
				case fresh == 1 && slices.ContainsFunc(model, enough):
					rt.Fatalf("revoke %s: got a new revocation, want the existing one", text)
				case fresh == 1 && was >= 0:
					rt.Fatalf("revoke %s: got %v for a second time, want a new ID", text, ids[0])
				case fresh == 0 && (was < 0 || !enough(model[was])):
					rt.Fatalf("revoke %s: got %v of another or a shorter revocation, want a new one", text, ids[0])
				case fresh == 1:
					if standing >= most && !(reach{rev.Before, rev.ExpiresAt}).covers(furthest) {
						rt.Fatalf("revoke %s where %d are in force, without reaching further: got it accepted, want a refusal", text, standing)
					}
					model = append(model, &modelled{ids[0], text, issuer, claim, expires, reach{rev.Before, rev.ExpiresAt}, false})
				}
			},
			"restore": func(rt *rapid.T) {
				id := revocation.ID{Revision: 77777}
				if len(model) > 0 {
					id = rapid.SampledFrom(model).Draw(rt, "which").id
				}
				err := l.restore(t.Context(), id, 1, AuditEntry{At: clock.Now(), By: "r"}).err
				i := slices.IndexFunc(model, func(m *modelled) bool { return m.id == id && alive(m) })
				if (i < 0) != errors.Is(err, ErrUnknown) || i >= 0 && err != nil {
					rt.Fatalf("restore %v: got %v, want it known: %v", id, err, i >= 0)
				}
				if i >= 0 {
					model[i].restored = true
				}
			},
			"time": func(rt *rapid.T) {
				clock.Advance(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 300 * time.Hour}).Draw(rt, "by"))
				l.dropExpired()
			},
			"restart": func(*rapid.T) {
				stop()
				l, stop = run(t, log, clock.Now, small)
				l.dropExpired()
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
						rt.Fatalf("changes after revision %d: got none, want them held", followed)
					}
					for _, c := range changes {
						if c.Revision != followed+1 {
							rt.Fatalf("change after revision %d: got revision %d, want the next", followed, c.Revision)
						}
						for _, e := range c.Added {
							follower[e.ID] = e
						}
						for _, e := range c.Removed {
							if have, ok := follower[e.ID]; ok && have != e {
								rt.Fatalf("removal at revision %d: got %+v, want %+v as it was added", c.Revision, e, have)
							}
							delete(follower, e.ID)
						}
						followed = c.Revision
					}
				}
				minute := revocation.MinuteOf(clock.Now())
				lasting := lastingAfter(minute, slices.Collect(maps.Values(follower)))
				if revision, n, ok := l.Lasting(minute); !ok || n != lasting || revision != followed {
					rt.Fatalf("Lasting(%d) = %d, %d, %v; want revision %d and the %d of the follower", minute, revision, n, ok, followed, lasting)
				}
				for _, m := range model {
					_, has := follower[m.id]
					if alive(m) && m.restored && has {
						rt.Fatalf("restored %v: got it at the follower, want it gone", m.id)
					}
					if alive(m) && !m.restored && !m.deniedBy(model, follower) {
						rt.Fatalf("%v in force: got the follower with %+v, want it or one that covers it", m.id, follower)
					}
				}
			},
			"": func(rt *rapid.T) { // the lists agree
				for _, q := range []Query{{}, {Active: new(bool)}, {Issuers: [][]string{nil, {issuerB}}},
					{Claims: []ClaimFilter{{"", "sub:a"}}}, {Claims: []ClaimFilter{{"n", "1"}}}, {Claims: []ClaimFilter{{"n", "1"}, {"", "sub:a"}}}} {
					var want, got []string
					for _, m := range slices.Backward(model) {
						if alive(m) && (q.Active == nil || m.restored) && (q.Issuers == nil || m.issuer == issuerB) && m.has(q.Claims) {
							want = append(want, fmt.Sprint(m.id, m.restored, m.expires))
						}
					}
					q.Limit = 2
					for more := true; more; {
						var items []Item
						var next revocation.ID
						items, next = l.List(q)
						more = next != revocation.ID{}
						for _, it := range items {
							got = append(got, fmt.Sprint(it.ID, it.Restored != nil, it.ExpiresAt.Time()))
							q.Before = it.ID
						}
						if len(items) > 2 || more && len(items) < 2 {
							rt.Fatalf("query %+v: got a page of %d, more: %v, want 2, or fewer on the last page", q, len(items), more)
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
				if got := l.Len() + l.rows.hidden; got != live {
					rt.Fatalf("got %d in force, want %d", got, live)
				}
				held, lasting, minute := 0, 0, revocation.MinuteOf(clock.Now())
				if _, err := l.Snapshot(func(part []revocation.Entry) error {
					held, lasting = held+len(part), lasting+lastingAfter(minute, part)
					return nil
				}); err != nil || held != l.Len() {
					rt.Fatalf("a snapshot: got %d entries and error %v, want %d", held, err, l.Len())
				}
				if revision, n, ok := l.Lasting(minute); !ok || n != lasting || revision != l.Revision() {
					rt.Fatalf("Lasting(%d) = %d, %d, %v; want revision %d and the %d of a snapshot", minute, revision, n, ok, l.Revision(), lasting)
				}
			},
		})
	})
}

// lastingAfter counts the entries that end after the minute.
func lastingAfter(m revocation.Minute, entries []revocation.Entry) (n int) {
	for _, e := range entries {
		if e.ExpiresAt.Minute() > m {
			n++
		}
	}
	return n
}

// deniedBy reports whether the follower has m, or a revocation of the same claims
// that covers m.
func (m *modelled) deniedBy(model []*modelled, follower map[revocation.ID]revocation.Entry) bool {
	return slices.ContainsFunc(model, func(o *modelled) bool {
		_, has := follower[o.id]
		return has && o.issuer == m.issuer && o.claim == m.claim && o.reach.covers(m.reach)
	})
}

// has reports whether the equalities of m include all of these.
func (m *modelled) has(claims []ClaimFilter) bool {
	var have map[string]any
	if err := json.Unmarshal([]byte("{"+m.claim+"}"), &have); err != nil {
		panic(err)
	}
	for _, c := range claims {
		found := false
		for k, v := range have {
			found = found || strings.TrimPrefix(c.Name+":"+c.Value, ":") == fmt.Sprintf("%s:%v", k, v)
		}
		if !found {
			return false
		}
	}
	return true
}
