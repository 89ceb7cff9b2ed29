package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/jwks/jwt"
	"rescind/revocation"
	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
)

const (
	idp   = "https://idp.example.com/"
	other = "https://other.example.com/"
)

// fakeShelf is a shelf in memory, with failures.
type fakeShelf struct {
	mu        sync.Mutex
	documents map[string][]byte
	versions  map[string]uint64
	last      uint64
	fail      error
}

func newShelf() *fakeShelf {
	return &fakeShelf{documents: map[string][]byte{}, versions: map[string]uint64{}}
}

func (s *fakeShelf) Load(_ context.Context, name string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.documents[name]), s.versions[name], s.fail
}

func (s *fakeShelf) Save(_ context.Context, name string, document []byte, version uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fail != nil:
		return 0, s.fail
	case s.versions[name] != version:
		return 0, ErrChanged
	}
	s.last++
	s.documents[name], s.versions[name] = slices.Clone(document), s.last
	return s.last, nil
}

// world is a ledger with its authority, and the traffic that the replicas saw.
type world struct {
	t         testing.TB
	log       *ledgertest.Log
	clock     *ledgertest.Clock
	ledger    *ledger.Ledger
	authority *ledger.Authority
	shelf     *fakeShelf
	close     func()

	mu   sync.Mutex
	hits uint64 // of 1000 requests that every revocation is said to hit
	ask  bool   // false: no replica answers
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, ledgertest.New(), newShelf(), ledgertest.NewClock())
}

func newWorldOn(t testing.TB, log *ledgertest.Log, shelf *fakeShelf, clock *ledgertest.Clock) *world {
	t.Helper()
	w := &world{t: t, log: log, clock: clock, shelf: shelf, ask: true}
	ctx, stop := context.WithCancel(context.Background())
	w.ledger = ledger.New(w.log, ledger.Options{Retention: 720 * time.Hour, Now: w.clock.Now})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.ledger.Run(ctx) }()
	w.close = func() { stop(); <-ended }
	t.Cleanup(w.close)
	<-w.ledger.CaughtUp()
	w.authority = ledger.NewAuthority(w.ledger, ledger.AuthorityOptions{
		Ask: w.answer, ShareOfTraffic: 0.2, MinRequests: 100, Logger: slog.New(slog.DiscardHandler),
		KnownIssuers: func() revocation.KnownIssuers {
			return revocation.KnownIssuers{AnyReplica: true, Settled: true, Issuers: []revocation.AcceptedIssuer{
				{Issuer: idp, Audiences: []string{"api"}, Claims: map[string][]string{"tenant": {"acme"}}},
			}}
		},
	})
	return w
}

// answer returns the answers of the replicas to a question about weights.
func (w *world) answer(_ context.Context, _ string, body []byte) ([][]byte, int, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var queries []insight.ImpactQuery
	if err := json.Unmarshal(body, &queries); err != nil || !w.ask {
		return nil, 1, 0
	}
	all := insight.Weights{Since: w.clock.Now().Add(-time.Hour), Total: 1000}
	for range queries {
		all.Items = append(all.Items, insight.Weight{Tokens: w.hits, Requests: w.hits})
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return [][]byte{b}, 1, 1
}

func (w *world) hit(of1000 uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits = of1000
}

func (w *world) silent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ask = false
}

// door returns the door of an intake for idp, changed by set.
func (w *world) door(set func(*Options)) *Door {
	o := Options{Name: "kc", Kind: "test", Issuers: []string{idp}, Authority: w.authority, Shelf: w.shelf, Logger: slog.New(slog.DiscardHandler),
		Map: Map{NameEmail: jwt.MemberName("email")}}
	if set != nil {
		set(&o)
	}
	return New(o)
}

func may(powers ...Power) func(*Options) { return func(o *Options) { o.May = powers } }

// take has a door take an event, which must not fail.
func (w *world) take(d *Door, e *Event) Outcome {
	w.t.Helper()
	out, err := d.Take(context.Background(), e)
	if err != nil {
		w.t.Fatalf("event %s %s: got the error %v, want an outcome", e.Type, e.ID, err)
	}
	return out
}

// wantState has a door take an event, and holds its outcome.
func (w *world) wantState(d *Door, e *Event, want State) Outcome {
	w.t.Helper()
	out := w.take(d, e)
	if out.State != want {
		w.t.Errorf("event %s %s: got %s (%s), want %s", e.Type, e.ID, out.State, out.Detail, want)
	}
	return out
}

// inForce returns the revocations in force, oldest first, each as its claims or
// kind, its cut-off in seconds after the start of the clock or "block", and its
// caller.
func (w *world) inForce() (all []string) {
	active := true
	items, _ := w.ledger.List(ledger.Query{Limit: 1000, Active: &active})
	for _, i := range slices.Backward(items) {
		all = append(all, describe(&i.Revocation))
	}
	return all
}

var begin = ledgertest.NewClock().Now()

func describe(r *revocation.Revocation) string {
	target := ledger.TargetOf(&r.Target)
	text := fmt.Sprint(target.Claims)
	switch {
	case target.All:
		text = "all"
	case target.KeyID != "":
		text = "kid " + target.KeyID
	case target.TokenSHA256 != "":
		text = "token"
	}
	switch {
	case r.Block:
		text += " block"
	case r.Before != 0:
		text += fmt.Sprintf(" before %v", r.Before.Time().Sub(begin))
	}
	return strings.TrimPrefix(text, "map") + " by " + r.CreatedBy
}

func (w *world) wantInForce(want ...string) {
	w.t.Helper()
	if got := w.inForce(); !slices.Equal(got, want) {
		w.t.Errorf("in force: got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// audit returns the entries of the audit, newest first.
func (w *world) audit() []ledger.AuditEntry {
	w.t.Helper()
	entries, _, err := w.authority.Audit(context.Background(), &ledger.Caller{Name: "auditor"}, ledger.AuditQuery{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

func (w *world) wantAudited(what string, holds func(*ledger.AuditEntry) bool) {
	w.t.Helper()
	entries := w.audit()
	for i := range entries {
		if holds(&entries[i]) {
			return
		}
	}
	w.t.Errorf("the audit: got no entry that is %s, want one, in\n%+v", what, entries)
}

func sub(name string) []revocation.Claim { return claim("sub", name) }

func claim(name, value string) []revocation.Claim {
	v, _ := revocation.ValueOf(value)
	return []revocation.Claim{{Name: name, Value: v}}
}

func (w *world) event(id string, acts ...Act) *Event {
	return &Event{ID: id, Type: "user-disabled", At: w.clock.Now(), Acts: acts}
}

var errBroken = errors.New("the disk is gone")

// restarted returns a world with a new ledger over the same log and shelf.
func (w *world) restarted() *world {
	w.t.Helper()
	w.close()
	return newWorldOn(w.t, w.log, w.shelf, w.clock)
}

// revoke makes a revocation in the name of an operator.
func (w *world) revoke(by string, r *revocation.Request) string {
	w.t.Helper()
	done, err := w.authority.Revoke(context.Background(), &ledger.Caller{Name: by, Roles: []ledger.Role{ledger.Operator}},
		&ledger.Order{Action: ledger.ActRevoke, Lines: []ledger.Line{{Request: r}}, Confirm: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return done.IDs[0].String()
}

func pointer(t testing.TB, name string) jwt.ClaimName {
	t.Helper()
	n, err := jwt.ParseClaimName(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
