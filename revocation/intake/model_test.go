package intake

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
	"rescind/revocation/ledger"
)

// modelRow is a revocation that the model expects.
type modelRow struct {
	by, subject string
	event       string    // ID of the event; empty: an admin's
	at          time.Time // of the event
	before      time.Time // zero: block
	created     time.Time
	restored    bool
}

func (r *modelRow) String() string {
	cut := "block"
	if !r.before.IsZero() {
		cut = fmt.Sprintf("before %v", r.before.Sub(begin))
	}
	return fmt.Sprintf("[sub:%s] %s by %s", r.subject, cut, r.by)
}

// modelEvent is an event that a sender has sent, perhaps more than once.
type modelEvent struct {
	intake, id, subject string
	at                  time.Time
	block, undo         bool
}

func (e *modelEvent) event() *Event {
	a := Act{Power: Subject, Issuer: idp, Claims: sub(e.subject), Block: e.block, Undo: e.undo}
	if !e.block && !e.undo {
		a.Cutoff = e.at
	}
	return &Event{ID: e.id, Type: "t", At: e.at, Acts: []Act{a}}
}

type doorModel struct {
	*world
	doors  map[string]*Door
	rows   []*modelRow
	undone map[string]time.Time // by intake and subject: the latest event that undid
	events []modelEvent
}

// take expects that an event is carried out once, and then never again.
func (m *doorModel) takes(t *rapid.T, e modelEvent) {
	out, err := m.doors[e.intake].Take(t.Context(), e.event())
	if err != nil {
		t.Fatalf("%+v: got the error %v, want an outcome", e, err)
	}
	if want := m.expect(&e); out.State != want {
		t.Fatalf("%+v: got %s (%s), want %s", e, out.State, out.Detail, want)
	}
}

// expect makes the effect of an event part of the model, and returns its outcome.
func (m *doorModel) expect(e *modelEvent) State {
	by := ledger.ByIntake + e.intake
	if e.undo {
		state := Ignored
		if key := e.intake + e.subject; e.at.After(m.undone[key]) {
			m.undone[key] = e.at
		}
		for _, r := range m.rows {
			if r.by != by || r.subject != e.subject || !r.before.IsZero() || r.at.After(e.at) {
				continue
			}
			if !r.restored {
				state = Undone
			} else if state == Ignored {
				state = Already
			}
			r.restored = true
		}
		return state
	}
	row := &modelRow{by: by, subject: e.subject, event: e.id, at: e.at, created: m.clock.Now()}
	if !e.block {
		row.before = e.at.Truncate(time.Second).Add(time.Second)
	}
	for _, r := range m.rows {
		repeated := r.by == by && r.event == e.id && r.subject == e.subject
		if repeated || m.standsIn(r, row) {
			return Already
		}
	}
	if e.block && e.at.Before(m.undone[e.intake+e.subject]) {
		return Already
	}
	m.rows = append(m.rows, row)
	return Revoked
}

// standsIn reports whether a row in force is the answer to a request for another.
// A block of an intake never is, because an event may undo it.
func (m *doorModel) standsIn(r, wanted *modelRow) bool {
	ends := func(r *modelRow) bool { return r.before.IsZero() && strings.HasPrefix(r.by, ledger.ByIntake) }
	return !r.restored && r.subject == wanted.subject && r.before.Equal(wanted.before) && !ends(r) && !ends(wanted) &&
		!r.created.Before(m.clock.Now().Add(-time.Minute))
}

func (m *doorModel) check(t *rapid.T) {
	var want []string
	for _, r := range m.rows {
		if !r.restored {
			want = append(want, r.String())
		}
	}
	got := m.inForce()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("in force: got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// No event is lost, none is carried out twice with another meaning, and no undo
// lifts the revocation of somebody else: through repetitions, failing appends,
// restorations by operators and restarts.
func TestDoorModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &doorModel{world: newWorld(t), undone: map[string]time.Time{}}
		defer func() { m.close() }()
		open := func() {
			m.doors = map[string]*Door{}
			for _, name := range []string{"kc", "rival"} {
				m.doors[name] = m.door(func(o *Options) { o.Name, o.May = name, Powers })
			}
		}
		open()
		subjects := rapid.SampledFrom([]string{"a", "b"})
		draw := func(t *rapid.T, undo bool) modelEvent {
			e := modelEvent{
				intake: rapid.SampledFrom([]string{"kc", "kc", "rival"}).Draw(t, "intake"), id: fmt.Sprint("e", len(m.events)),
				subject: subjects.Draw(t, "subject"), undo: undo, block: !undo && rapid.Bool().Draw(t, "block"),
				at: m.clock.Now().Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "seconds ago")) * time.Second),
			}
			m.events = append(m.events, e)
			return e
		}
		rt.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) { m.takes(t, draw(t, false)) },
			"undo":  func(t *rapid.T) { m.takes(t, draw(t, true)) },
			"repetition": func(t *rapid.T) {
				if len(m.events) == 0 {
					t.Skip("no event yet")
				}
				m.takes(t, m.events[rapid.IntRange(0, len(m.events)-1).Draw(t, "event")])
			},
			"event that fails first": func(t *rapid.T) {
				e := draw(t, false)
				m.log.FailAppend = func() error { return errBroken }
				_, err := m.doors[e.intake].Take(t.Context(), e.event())
				m.log.FailAppend = nil
				if err != nil && !errors.Is(err, errBroken) {
					t.Fatalf("got %v, want the error of the log, or none if the same is in force", err)
				}
				m.check(t)
				m.takes(t, e)
			},
			"admin revokes": func(t *rapid.T) {
				row := &modelRow{by: "alice", subject: subjects.Draw(t, "subject"), created: m.clock.Now()}
				r := &revocation.Request{Issuer: idp, Claims: sub(row.subject), Block: rapid.Bool().Draw(t, "block")}
				if !r.Block {
					row.before = m.clock.Now().Truncate(time.Second).Add(time.Second)
				}
				m.revoke("alice", r)
				if !slices.ContainsFunc(m.rows, func(o *modelRow) bool { return m.standsIn(o, row) }) {
					m.rows = append(m.rows, row)
				}
			},
			"admin restores": func(t *rapid.T) {
				active := true
				items, _ := m.ledger.List(ledger.Query{Limit: 1000, Active: &active})
				if len(items) == 0 {
					t.Skip("nothing is in force")
				}
				item := items[rapid.IntRange(0, len(items)-1).Draw(t, "revocation")]
				if _, err := m.authority.Restore(t.Context(), &operator, item.ID.String()); err != nil {
					t.Fatal(err)
				}
				for _, r := range m.rows {
					if of, _ := parseEventName(item.Reason); !r.restored && r.String() == describe(&item.Revocation) && (r.event == "" || r.event == of.id) && r.created.Equal(item.CreatedAt) {
						r.restored = true
						break
					}
				}
			},
			"time passes": func(t *rapid.T) {
				m.clock.Advance(time.Duration(rapid.IntRange(1, 120_000).Draw(t, "milliseconds")) * time.Millisecond)
			},
			"restart": func(t *rapid.T) {
				m.world = m.restarted()
				open()
			},
			"": m.check,
		})
	})
}
