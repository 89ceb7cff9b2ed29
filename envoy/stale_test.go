package envoy

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/tokencache"
	"rescind/jwks"
	"rescind/revocation"
	"rescind/revocation/replica"
)

// fact is a part of the model: whether something denies tokens now. Its owner changes
// it. A reader that sees the same even version before and after a Check knows what the
// fact was all the time.
type fact struct {
	version atomic.Int64 // odd while the owner changes it
	denies  atomic.Bool
}

// set makes the fact true or false, together with the product.
func (f *fact) set(denies bool, change func()) {
	f.version.Add(1)
	change()
	f.denies.Store(denies)
	f.version.Add(1)
}

// staleRig is a server with warm caches, and the model of all that decides.
type staleRig struct {
	server   *Server
	follower *replica.Follower
	counts   *tokencache.Counts
	log      *slog.Logger
	signers  [2]*key

	published atomic.Pointer[keySet]
	revision  uint64 // owned by the revoker, like the entry in force
	revoked   *fact  // nil: none
	entry     revocation.Entry

	subjects [8]fact
	ids      [64]fact
	keys     [2]fact
	audience fact // the configuration accepts another audience
	scope    fact // the policy reports demands a scope that no token has

	tokens []staleToken // never changed
	short  atomic.Pointer[staleToken]

	checks atomic.Int64
	pace   []int64         // of each kind of change: in how many Checks one is due
	due    []chan struct{} // a change is due
}

// keySet are the published keys.
type keySet struct {
	of         [2]bool
	generation uint64
}

func (r *staleRig) Generation() uint64 { return r.published.Load().generation }

func (r *staleRig) Find(_ context.Context, kid, _ string) ([]jwks.Key, error) {
	n := int(kid[0] - 'a')
	if !r.published.Load().of[n] {
		return nil, jwks.ErrUnknownKey
	}
	return []jwks.Key{{ID: kid, Public: r.signers[n].private.Public()}}, nil
}

// staleToken is a token with the facts that decide about it.
type staleToken struct {
	wires [2][]byte // of the Check under each policy
	facts []*fact
	exp   time.Time
}

// mint returns a token of this number that lives until exp.
func (r *staleRig) mint(n int, exp time.Time) *staleToken {
	exp = exp.Truncate(time.Second)
	by, subject := n%2, n%len(r.subjects)
	raw := r.signers[by].signed(string(rune('a'+by)), map[string]any{
		"jti": fmt.Sprint("t", n%len(r.ids)), "sub": fmt.Sprint("s", subject), "exp": exp.Unix(), "iat": exp.Unix() - 3600, "nonce": exp.Unix(),
	})
	t := &staleToken{facts: []*fact{&r.subjects[subject], &r.ids[n%len(r.ids)], &r.keys[by], &r.audience}, exp: exp}
	for i, policy := range []string{"default", "reports"} {
		wire, err := proto.Marshal(Question{Token: raw, Policy: &policy}.request())
		if err != nil {
			panic(err)
		}
		t.wires[i] = wire
	}
	return t
}

// authorizer returns an authorizer in accordance with two facts of the configuration.
func (r *staleRig) authorizer(otherAudience, scope bool) *authz.Authorizer {
	audiences, reports := []string{"api"}, authz.Policy{}
	if otherAudience {
		audiences = []string{"billing"}
	}
	if scope {
		reports.Scopes = []string{"reports"}
	}
	a, err := authz.New(authz.Options{
		Issuers:     []authz.Issuer{{Name: idp, Keys: r, Audiences: audiences, MaxLifetime: 2 * time.Hour}},
		Policies:    map[string]authz.Policy{"default": {}, "reports": reports},
		Revocations: r.follower, Cache: authz.Cache{MaxBytes: 1 << 20, Encode: Encode, Counts: r.counts}, Logger: r.log,
	})
	if err != nil {
		panic(err)
	}
	return a
}

func newStaleRig(t *testing.T) *staleRig {
	r := &staleRig{follower: follower(t), counts: tokencache.NewCounts(), log: slog.New(slog.DiscardHandler), signers: [2]*key{newKey(t), newKey(t)}, revision: 7}
	r.published.Store(&keySet{[2]bool{true, true}, 1})
	g, err := gate.New(gate.Options{Authorizer: r.authorizer(false, false), Logger: r.log})
	if err != nil {
		t.Fatal(err)
	}
	if r.server, err = NewServer(Options{Gate: g, Logger: r.log}); err != nil {
		t.Fatal(err)
	}
	for n := range len(r.ids) {
		r.tokens = append(r.tokens, *r.mint(n, time.Now().Add(time.Hour)))
	}
	r.short.Store(r.mint(0, time.Now().Add(time.Second)))
	return r
}

// revoke revokes a token or a subject, or restores the one that is revoked. So most
// tokens are good at any time.
func (r *staleRig) revoke() {
	f, claim, value := r.revoked, "", ""
	if f == nil {
		if n := rand.IntN(len(r.ids) + len(r.subjects)); n < len(r.ids) {
			f, claim, value = &r.ids[n], "jti", fmt.Sprint("t", n)
		} else {
			n -= len(r.ids)
			f, claim, value = &r.subjects[n], "sub", fmt.Sprint("s", n)
		}
	}
	r.revision++
	change := revocation.Change{Revision: r.revision}
	denies := r.revoked == nil
	if r.revoked = nil; denies {
		r.revoked = f
		v, _ := revocation.ValueOf(value)
		target := revocation.Revocation{
			ID: revocation.ID{Revision: r.revision}, Issuer: idp, ExpiresAt: revocation.MicrosOf(time.Now().Add(3 * time.Hour)),
			Target: revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: claim, Value: v}}},
		}
		r.entry = target.Entry()
		change.Added = []revocation.Entry{r.entry}
	} else {
		change.Removed = []revocation.Entry{r.entry}
	}
	f.set(denies, func() {
		if err := r.follower.Apply([]revocation.Change{change}); err != nil {
			panic(err)
		}
	})
}

// rotate stops publishing one of the keys, or publishes both.
func (r *staleRig) rotate() {
	old := r.published.Load()
	next := &keySet{[2]bool{true, true}, old.generation + 1}
	n := slices.Index(old.of[:], false)
	denies := n < 0
	if denies {
		n = rand.IntN(2)
		next.of[n] = false
	}
	r.keys[n].set(denies, func() { r.published.Store(next) })
}

// reload puts another audience, or a policy with another scope, in force, or the
// first configuration again.
func (r *staleRig) reload() {
	f := &r.scope
	if r.audience.denies.Load() || !r.scope.denies.Load() && rand.IntN(3) == 0 {
		f = &r.audience
	}
	denies := !f.denies.Load()
	f.set(denies, func() { r.server.gate.Replace(r.authorizer(denies && f == &r.audience, denies && f == &r.scope)) })
}

// seen counts what a reader could say for certain.
type seen struct{ allowed, denied, expired int }

// check sends one Check and compares the answer with the model.
func (r *staleRig) check(t *testing.T, s *seen) {
	token := &r.tokens[rand.IntN(len(r.tokens))]
	if rand.IntN(4) == 0 {
		token = r.short.Load()
	}
	policy := rand.IntN(2)
	facts := token.facts
	if policy == 1 {
		facts = append(facts[:len(facts):len(facts)], &r.scope)
	}
	var versions [5]int64
	for i, f := range facts {
		versions[i] = f.version.Load()
	}
	before := time.Now()
	code := ask(t, r.server, token.wires[policy]).GetStatus().GetCode()
	after := time.Now()
	expired, alive := !before.Before(token.exp), after.Before(token.exp)
	denied, sure := false, true
	for i, f := range facts {
		stable := versions[i]%2 == 0
		denies := f.denies.Load()
		stable = stable && f.version.Load() == versions[i]
		denied = denied || stable && denies
		sure = sure && stable
	}
	switch {
	case (denied || expired) && code == 0:
		t.Errorf("a token that is denied (by a fact: %v, expired: %v) was allowed, want a denial", denied, expired)
	case sure && !denied && alive && code != 0:
		t.Errorf("a good token was denied with code %d, want it allowed", code)
	case denied:
		s.denied++
	case expired:
		s.expired++
	case sure && alive:
		s.allowed++
	}
	n := r.checks.Add(1)
	for i, checks := range r.pace {
		if n%checks == 0 {
			select {
			case r.due[i] <- struct{}{}:
			default: // the change before is under way
			}
		}
	}
}

// No token is allowed after it was revoked, after its key was removed, after the
// configuration or the policy changed, or after it expired, whatever is remembered of
// it. 28 readers with warm caches compare each answer with a model, while four others
// change everything.
//
//	RESCIND_LONG=1 go test -race -run NoStaleAllow -v ./envoy
func TestNoStaleAllow(t *testing.T) {
	const (
		readers     = 28
		leastChecks = 2000
		waits       = 30 * time.Second // for leastChecks, on a slow machine
	)
	lasts := 1500 * time.Millisecond
	if os.Getenv("RESCIND_LONG") != "" {
		lasts = 2 * time.Minute
	}
	r := newStaleRig(t)
	end := time.Now().Add(lasts)
	var changes, all sync.WaitGroup
	// Each change waits for some Checks, so that the caches are warm.
	every := func(checks int64, change func()) {
		due := make(chan struct{}, 1)
		r.due = append(r.due, due)
		r.pace = append(r.pace, checks)
		changes.Go(func() {
			for range due {
				change()
			}
		})
	}
	every(20, r.revoke)
	every(70, r.rotate)
	every(150, r.reload)
	every(10, func() {
		if time.Now().After(r.short.Load().exp.Add(50 * time.Millisecond)) {
			r.short.Store(r.mint(rand.IntN(64), time.Now().Add(time.Second)))
		}
	})
	var results [readers]seen
	for n := range readers {
		all.Go(func() {
			for time.Now().Before(end.Add(waits)) && !t.Failed() && (time.Now().Before(end) || r.checks.Load() < leastChecks) {
				r.check(t, &results[n])
			}
		})
	}
	all.Wait()
	for _, due := range r.due {
		close(due)
	}
	changes.Wait()
	var total seen
	for _, s := range results {
		total = seen{total.allowed + s.allowed, total.denied + s.denied, total.expired + s.expired}
	}
	hits, misses := r.counts.Hits.Value(), r.counts.Misses.Value()
	t.Logf("%d Checks, of which the model was sure of %+v; %d hits, %d misses", r.checks.Load(), total, hits, misses)
	if !t.Failed() && (total.allowed < 200 || total.denied < 100 || total.expired < 1 || hits < 200) {
		t.Errorf("the model was sure of %+v, with %d hits and %d misses; want 200 allowed, 100 denied, 1 expired and 200 hits at least", total, hits, misses)
	}
}
