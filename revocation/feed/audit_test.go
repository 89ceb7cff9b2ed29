package feed

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// TestALostEntryIsFoundOut shows that the control endpoint finds the loss of an
// entry at a replica, waits for the replica, and sends all entries again.
func TestALostEntryIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		log := newLog("log-1")
		log.revoke("alice", "bob", "carol")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		s, net := serveInMemory(t, log, ServerOptions{Logger: logged.logger(), Nodes: on{wire, "n1"}, Others: 1})
		other, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		f := net.follower(t, "replica-a", nil)
		time.Sleep(auditTime)
		wantApplied(t, "with all entries", s, 1, 1, 1)

		// The set loses alice behind the back of the feed.
		lost := revocation.Change{Revision: 2, Removed: []revocation.Entry{entryOf("alice", log.of["alice"])}}
		log.mu.Lock()
		lost.Removed[0].ExpiresAt = log.standing[log.of["alice"]].ExpiresAt
		log.mu.Unlock()
		if err := f.Apply([]revocation.Change{lost}); err != nil {
			t.Fatalf("applying the loss of alice: got %v, want no error", err)
		}
		log.revoke("dave")
		if denies(t, f.Follower, "alice") {
			t.Fatal("after the loss was applied: alice is denied, want her allowed")
		}
		flagged := false
		for range 40 {
			time.Sleep(auditTime / 20)
			if list := s.Replicas(); list[0].Incomplete {
				flagged = true
				wantApplied(t, "while it is incomplete", s, 1, 0, 1, "replica-a")
				time.Sleep(50 * time.Millisecond)
				wantApplied(t, "while it is incomplete, at the other node", other, 1, 0, 1, "replica-a")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				began := time.Now()
				s.WaitApplied(ctx, Wanted{Revision: 1})
				cancel()
				if d := time.Since(began); d != 10*time.Millisecond {
					t.Errorf("WaitApplied(revision 1) beside an incomplete replica waited %v, want all of its 10ms", d)
				}
				if list[0].Behind != 2 {
					t.Errorf("the incomplete replica is %d revisions behind, want 2", list[0].Behind)
				}
				break
			}
		}
		if !flagged {
			t.Fatalf("two times auditTime after the loss of alice: replicas %+v, want replica-a incomplete", s.Replicas())
		}
		time.Sleep(3 * time.Second)
		if !denies(t, f.Follower, "alice") {
			t.Error("after all entries were sent again: alice is allowed, want her denied")
		}
		wantApplied(t, "complete again", s, 2, 1, 1)
		wantApplied(t, "complete again, at the other node", other, 2, 1, 1)
		if all := logged.text(); !strings.Contains(all, "replica incomplete") || !strings.Contains(all, "replica complete again") {
			t.Errorf("the log has %q, want both that it is incomplete and that it is complete again", all)
		}
	})
}

// TestNothingIsTakenForALoss shows that a replica counts as complete while entries
// end at every instant and revisions come all the time.
func TestNothingIsTakenForALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged lines
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{Logger: logged.logger()})
		net.follower(t, "replica-a", nil)
		for i := range 3000 {
			log.revokeFor(time.Duration(1+i%90)*time.Second, fmt.Sprint("user-", i))
			if i%3 == 0 {
				log.restore(fmt.Sprint("user-", i))
			}
			time.Sleep(100 * time.Millisecond)
			if i%700 == 699 {
				log.sweep()
				net.follower(t, fmt.Sprint("replica-", i), nil)
			}
			for _, r := range s.Replicas() {
				if r.Incomplete {
					t.Fatalf("after %d rounds: %s is incomplete, want it complete", i+1, r.Name)
				}
			}
		}
		compared := 0
		s.replicas.mu.Lock()
		for _, r := range s.replicas.all {
			if r.audit.failures == 0 {
				compared++
			}
		}
		s.replicas.mu.Unlock()
		if compared != 5 || strings.Contains(logged.text(), "incomplete") {
			t.Errorf("after 3000 rounds: %d replicas without a difference and the log lines %q, want 5 replicas and no line about an incomplete one", compared, logged.all)
		}
	})
}

// TestADifferenceMustLast shows that one difference, or a few within a short time,
// is no alarm.
func TestADifferenceMustLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		log.revoke("alice")
		s, net := serveInMemory(t, log, ServerOptions{})
		r, _ := net.call(t, newHello("replica-a", "log-1", 1))
		r.receive()
		minute := uint64(revocation.MinuteOf(time.Now()))
		ack := func(lasting uint64) {
			r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Revision: 1, Minute: minute, Lasting: lasting}}})
			synctest.Wait()
		}
		incomplete := func() bool { return s.Replicas()[0].Incomplete }
		for range 20 {
			ack(0)
		}
		if incomplete() {
			t.Error("20 differences at one time are an alarm, want none")
		}
		time.Sleep(auditTime)
		ack(1)
		ack(0)
		if incomplete() {
			t.Error("a difference after a match is an alarm, want none")
		}
		for range auditFailures - 1 {
			time.Sleep(auditTime)
			ack(0)
		}
		if !incomplete() {
			t.Errorf("%d differences over %v are no alarm, want one", auditFailures, auditTime*(auditFailures-1))
		}
	})
}
