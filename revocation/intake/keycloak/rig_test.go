package keycloak

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/jwks/fetch"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

const issuer = "https://keycloak.example/realms/acme"

// rig is a poller over a real ledger in memory.
type rig struct {
	t      testing.TB
	realm  *realmServer
	log    *ledgertest.Log
	clock  *ledgertest.Clock
	shelf  *shelf
	text   *lines // the log of the poller
	may    []intake.Power
	door   *intake.Door
	poller *Poller
	all    *ledger.Authority
	stop   func()
}

var everything = []intake.Power{intake.Token, intake.Session, intake.Subject, intake.Client, intake.KeyID, intake.All}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, realm: newRealm(t), log: ledgertest.New(), clock: ledgertest.NewClock(), shelf: &shelf{documents: map[string]document{}}, text: &lines{}, may: everything, stop: func() {}}
	r.clock.Advance(time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC).Sub(r.clock.Now())) // after the recorded events
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start starts a control endpoint on the log and the shelf that are there. It
// stops the one before.
func (r *rig) start() {
	r.stop()
	l := ledger.New(r.log, ledger.Options{Retention: 720 * time.Hour, Now: r.clock.Now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	eventually.Succeeds(r.t, "the ledger becomes ready", l.Ready)
	r.all = ledger.NewAuthority(l, ledger.AuthorityOptions{})
	r.door = intake.New(intake.Options{
		Name: "keycloak", Kind: "keycloak", Issuers: []string{issuer}, May: r.may, Authority: r.all, Shelf: r.shelf,
		Logger: slog.New(slog.NewTextHandler(r.text, nil)),
	})
	r.poller = New(Options{
		Issuer: issuer, Server: "https://keycloak.example", Realm: "acme", ClientID: "rescind", UserEvents: true,
		ClientSecret: func() (string, error) { return "secret", nil },
		Fetch:        fetch.Options{Transport: r.realm},
	}, r.door)
	r.stop = func() { cancel(); <-done }
}

// poll polls once, and demands that it goes well.
func (r *rig) poll() {
	r.t.Helper()
	if err := r.poller.Poll(r.t.Context()); err != nil {
		r.t.Fatalf("poll: got the error %v, want none", err)
	}
}

// revoked returns the revocations in force, as texts: "sub=alice until
// 2026-11-26T16:47:02Z". They are sorted.
func (r *rig) revoked() (out []string) {
	r.t.Helper()
	active := true
	items, _, err := r.all.List(&ledger.Caller{Name: "test", Roles: []ledger.Role{ledger.Viewer}}, ledger.Query{Active: &active, Limit: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, i := range items {
		out = append(out, text(i))
	}
	slices.Sort(out)
	return out
}

func text(i ledger.Item) string {
	var parts []string
	for _, c := range i.Target.Claims {
		parts = append(parts, c.Name+"="+c.Value.String())
	}
	if i.Target.KeyID != "" {
		parts = append(parts, "kid="+i.Target.KeyID)
	}
	if len(parts) == 0 {
		parts = append(parts, "all")
	}
	slices.Sort(parts)
	if i.Before == 0 {
		return strings.Join(parts, " ")
	}
	return fmt.Sprintf("%s until %s", strings.Join(parts, " "), i.Before.Time().UTC().Format(time.RFC3339))
}

// shelf is a shelf in memory.
type shelf struct {
	sync.Mutex
	documents map[string]document
	// before is called with each Save; it may fail it. after makes a Save fail that
	// was carried out.
	before, after func() error
}

type document struct {
	text    string
	version uint64
}

func (s *shelf) Load(_ context.Context, name string) ([]byte, uint64, error) {
	s.Lock()
	defer s.Unlock()
	d := s.documents[name]
	return []byte(d.text), d.version, nil
}

func (s *shelf) Save(_ context.Context, name string, text []byte, version uint64) (uint64, error) {
	s.Lock()
	defer s.Unlock()
	if s.before != nil {
		if err := s.before(); err != nil {
			return 0, err
		}
	}
	if s.documents[name].version != version {
		return 0, intake.ErrChanged
	}
	s.documents[name] = document{string(text), version + 1}
	if s.after != nil {
		if err := s.after(); err != nil {
			return 0, err
		}
	}
	return version + 1, nil
}

// lines is the text of a log.
type lines struct {
	sync.Mutex
	strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Builder.Write(p)
}

func (l *lines) has(part string) bool {
	l.Lock()
	defer l.Unlock()
	return strings.Contains(l.String(), part)
}
