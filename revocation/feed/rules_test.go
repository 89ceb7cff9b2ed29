package feed

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
)

// TestAReplicaOfEarlierRulesIsPendingForWhatItCannotMatch shows that the server
// serves a replica of the first edition, and counts the replica as pending for each
// revocation that the replica cannot match in full.
func TestAReplicaOfEarlierRulesIsPendingForWhatItCannotMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		log.revoke("alice")
		s, net := serveInMemory(t, log, ServerOptions{})
		old := newHello("replica-old", "log-1", 1)
		older, hangUp := net.call(t, old)
		if g := older.receive().GetGreeting(); g.GetRules() != revocation.Rules {
			t.Errorf("the greeting has rules %d, want %d", g.GetRules(), revocation.Rules)
		}
		current := newHello("replica-new", "log-1", 1)
		current.Rules, current.Version = revocation.Rules, "2.0"
		r, _ := net.call(t, current)
		older.ack(1)
		r.ack(1)
		synctest.Wait()
		for _, c := range []struct {
			name             string
			rules            int
			applied, waiting int
		}{{"that every edition matches", 1, 2, 0}, {"of a kid", 2, 1, 1}, {"of a client", 3, 1, 1}, {"of unknown needs", 0, 2, 0}} {
			began := time.Now()
			var a Applied
			if c.waiting == 0 {
				a = s.WaitApplied(t.Context(), Wanted{Revision: 1, Rules: c.rules})
			} else {
				w := s.replicas.wait(Wanted{Revision: 1, Rules: c.rules})
				select {
				case <-w.done:
					t.Errorf("a revocation %s releases its caller, want it to wait for the older replica", c.name)
				default:
				}
				a = s.replicas.giveUp(w)
			}
			if a.Applied != c.applied || len(a.Pending) != c.waiting || time.Since(began) != 0 {
				t.Errorf("a revocation %s after %v: %+v, want %d applied and %d pending", c.name, time.Since(began), a, c.applied, c.waiting)
			}
		}
		list := s.Replicas()
		if list[0].Version != "2.0" || list[0].Rules != revocation.Rules || list[1].Version != "" || list[1].Rules != 1 {
			t.Errorf("listed: %+v, want versions 2.0 and none, rules %d and 1", list, revocation.Rules)
		}

		// Its upgrade releases the caller.
		w := s.replicas.wait(Wanted{Revision: 1, Rules: 2})
		hangUp()
		synctest.Wait()
		upgraded := newHello("replica-old", "log-1", 1)
		upgraded.Rules = revocation.Rules
		r, _ = net.call(t, upgraded)
		r.ack(1)
		synctest.Wait()
		if a := s.replicas.giveUp(w); a.Applied != 2 || len(a.Pending) != 0 {
			t.Errorf("after its upgrade: %+v, want 2 applied", a)
		}
	})
}

// TestAControlEndpointOfNewerRulesIsRefused shows that a replica does not follow a
// control endpoint of newer rules, and that the error names both versions.
func TestAControlEndpointOfNewerRulesIsRefused(t *testing.T) {
	f := holding(t)
	in := &inbound{follower: f}
	g := newGreeting(100)
	g.Rules = revocation.Rules + 1
	_, err := in.greet(g)
	if want := fmt.Sprintf("version %d of the matching rules, and this replica has version %d; upgrade the replica", g.Rules, revocation.Rules); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("a greeting with rules %d: got %v, want a refusal that names both versions", g.Rules, err)
	}
	if s := f.Status(); s.Refused != err.Error() {
		t.Errorf("the status after the refusal: got %q, want %q", s.Refused, err)
	}
	if !denies(t, f, "alice") {
		t.Error("after the refusal: alice is allowed, want the current set to stay")
	}
	if _, err := in.greet(newGreeting(100)); err != nil || f.Status().Refused != "" {
		t.Errorf("a greeting that fits, after that: %v, refused %q; want neither", err, f.Status().Refused)
	}
}
