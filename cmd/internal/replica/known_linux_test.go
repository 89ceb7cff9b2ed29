package replica

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/tokencache"
	"rescind/cmd/internal/config"
	"rescind/envoy/known"
	"rescind/revocation"
	"rescind/revocation/insight"
	revset "rescind/revocation/replica"
)

var knownDigest = revocation.Digest{1, 2, 3}

// newTestAdmission returns an admission with a table that holds one token.
func newTestAdmission(t *testing.T) (*admission, tokencache.Key) {
	t.Helper()
	k := newKnownTokens(&config.Known{Entries: 1024}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	table, err := known.NewTable(known.Options{Entries: 1024, Prefix: "x-jwt-", Policies: []known.Policy{{Name: "default"}}, Counts: &k.counts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(table.Close)
	k.table.Store(table)
	a := &admission{of: k}
	a.table.Store(table)
	key := tokencache.NewSecret().Key("token")
	a.Admit(authz.Offer{Policy: "default", Key: key, Mark: a.Mark(), Ends: time.Now().Add(time.Hour), Digests: []revocation.Digest{knownDigest}})
	if table.Holds(key.Words(), time.Now()) == 0 {
		t.Fatal("the token is not known")
	}
	return a, key
}

// A token that is denied and known is a fault of the table, unless it leaves the
// table a moment later.
func TestContradictionVoidsTheTable(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*admission)
		want      uint64
	}{
		"it stays": {func(*admission) {}, 1},
		"it is revoked": {func(a *admission) {
			a.of.changed(revset.Changed{Added: []revocation.Entry{{Digest: knownDigest}}, Revision: 1})
		}, 0},
		"all are void": {func(a *admission) { a.of.changed(revset.Changed{All: true}) }, 0},
		"other revoked": {func(a *admission) {
			a.of.changed(revset.Changed{Added: []revocation.Entry{{Digest: revocation.Digest{9}}}, Revision: 1})
		}, 1},
		"too many to go": {func(a *admission) { a.of.changed(revset.Changed{Added: make([]revocation.Entry, 2000), Revision: 1}) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, key := newTestAdmission(t)
				var alerts []insight.Alert
				a.of.alert = func(alert insight.Alert) { alerts = append(alerts, alert) }
				a.Denied(key, authz.Decision{Reason: authz.Revoked, Issuer: "https://idp.example.com/", Subject: "alice", RevocationID: revocation.ID{Revision: 7}})
				c.meanwhile(a)
				time.Sleep(2 * secondLook)
				synctest.Wait()
				if got := uint64(testutil.ToFloat64(a.of.contradictions)); got != c.want || uint64(len(alerts)) != c.want {
					t.Errorf("got %d contradictions and the alerts %+v, want %d of each", got, alerts, c.want)
				}
				for _, alert := range alerts {
					if clean, ok := alert.Clean(); !ok || clean.Detector != insight.KnownTokenDenied || clean.Subject != "alice" || clean.RevocationID != "r7.0" || clean.Count != 1 {
						t.Errorf("got the alert %+v, %t; want one about alice and r7.0 that the control endpoint takes", clean, ok)
					}
				}
				if (name != "other revoked" && c.want == 1 || c.want == 0) && a.of.table.Load().Holds(key.Words(), time.Now()) != 0 {
					t.Error("the token is known still")
				}
			})
		})
	}
}

// A token that was decided about before a change is not admitted after it.
func TestLateAdmission(t *testing.T) {
	a, _ := newTestAdmission(t)
	late := tokencache.NewSecret().Key("late")
	for name, change := range map[string]revset.Changed{
		"a revocation of something else": {Added: []revocation.Entry{{Digest: revocation.Digest{9}}}, Revision: 1},
		"a revision without entries":     {Revision: 2},
		"another set":                    {All: true},
	} {
		mark := a.Mark()
		a.of.changed(change)
		a.Admit(authz.Offer{Policy: "default", Key: late, Mark: mark, Ends: time.Now().Add(time.Hour)})
		if a.of.table.Load().Holds(late.Words(), time.Now()) != 0 {
			t.Errorf("%s: a token that was decided about before it is known after it", name)
		}
	}
}

// A known token whose holder the replica has forgotten would be used unseen, so its use
// takes it out of the table. A use whose token is not known any more takes out none.
func TestUnseenTokenLeavesTheTable(t *testing.T) {
	a, key := newTestAdmission(t)
	f := follower(t)
	forgetful, err := authz.New(authz.Options{Issuers: []authz.Issuer{{Name: "https://idp.example.com/", Keys: anyKey{}, AnyAudience: true, MaxLifetime: time.Hour}}, Revocations: f})
	g, err := gate.New(gate.Options{Authorizer: must(t, forgetful, err)})
	p := &process{known: a.of, gate: must(t, g, err), follower: f}
	for _, c := range []struct {
		key             known.Key
		held, forgotten uint64
	}{{known.Key{}, 1, 0}, {key.Words(), 0, 1}, {key.Words(), 0, 1}} {
		p.observeKnown(t.Context(), []known.Use{{Policy: "default", Key: c.key}})
		if held, forgotten := uint64(a.of.table.Load().Len()), a.of.counts.Forgotten.Load(); held != c.held || forgotten != c.forgotten {
			t.Errorf("a use of %v: got %d tokens in the table and %d forgotten, want %d and %d", c.key, held, forgotten, c.held, c.forgotten)
		}
	}
}

func TestSelectorsOfEntries(t *testing.T) {
	got := slices.Collect(selectorsOf([]revocation.Entry{{Digest: knownDigest}, {Digest: revocation.Digest{0, 0, 0, 0, 0, 0, 0, 7, 9}}}))
	if !slices.Equal(got, []uint64{0x0102030000000000, 7}) {
		t.Errorf("got %x, want the first 8 bytes of each digest", got)
	}
}
