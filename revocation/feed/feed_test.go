package feed

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"rescind/revocation/replica"
	"rescind/test/eventually"
)

func TestAppliedMeansDenied(t *testing.T) {
	log := newLog("log-1")
	log.revoke("early")
	s := serve(t, log, ServerOptions{})
	var replicas []*replica.Follower
	for i := range 4 {
		f := openFollower(t)
		o := options(s.addr)
		o.Name = fmt.Sprintf("replica-%d", i)
		following(t, f, o)
		replicas = append(replicas, f)
	}
	eventually.True(t, "four follow", func() bool { return len(s.Replicas()) == 4 })
	everywhere(t, s.Server, 1, 4)
	for i := range 200 {
		sub := fmt.Sprintf("user-%d", i)
		everywhere(t, s.Server, log.revoke(sub), 4)
		for _, f := range replicas {
			if !denies(t, f, sub) || !denies(t, f, "early") {
				t.Fatalf("after every replica applied it: %s denied %v, early denied %v; want true, true", sub, denies(t, f, sub), denies(t, f, "early"))
			}
		}
		if i%2 == 0 {
			continue
		}
		everywhere(t, s.Server, log.restore(sub), 4)
		for _, f := range replicas {
			if denies(t, f, sub) {
				t.Fatalf("after every replica applied its restoration: %s is denied, want it allowed", sub)
			}
		}
	}
	for _, r := range s.Replicas() {
		if !r.Connected || r.Revision != log.Revision() || r.Behind != 0 || r.Entries != uint64(log.Len()) || time.Since(r.LastAck) > time.Minute {
			t.Errorf("listed: %+v, want it connected at revision %d with %d entries and an acknowledgement within a minute", r, log.Revision(), log.Len())
		}
	}
	if n := log.taken(); n != 4 {
		t.Errorf("got %d snapshots for 4 replicas, want 4", n)
	}
}

func TestAnEmptyLogMakesReady(t *testing.T) {
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	following(t, f, options(s.addr))
	eventually.True(t, "ready", func() bool { return f.Status().Ready })
	everywhere(t, s.Server, log.revoke("alice"), 1)
	if !denies(t, f, "alice") {
		t.Error("after the first revocation of a log: alice is allowed, want her denied")
	}
}

func TestResumeSendsOnlyChanges(t *testing.T) {
	log := newLog("log-1")
	for i := range 10 {
		log.revoke(fmt.Sprint("user-", i))
	}
	s := serve(t, log, ServerOptions{})
	r := call(t, s.addr, newHello("replica-a", "log-1", 7))
	if g := r.receive().GetGreeting(); g.GetLogId() != "log-1" || g.GetRevision() != 10 || g.GetRetention().AsDuration() != 720*time.Hour || g.GetHeartbeat().AsDuration() != time.Second || time.Since(g.GetTime().AsTime()) > time.Minute {
		t.Fatalf("got the greeting %v, want log-1 at revision 10 with 720h of retention, a heartbeat every second and the present time", g)
	}
	c := r.receive().GetChanges().GetChanges()
	if len(c) != 3 || c[0].Revision != 8 || c[2].Revision != 10 {
		t.Fatalf("from revision 7: got the changes %v, want revisions 8 to 10", c)
	}
	if h := r.receive().GetHeartbeat(); h.GetRevision() != 10 {
		t.Fatalf("after the changes: got the heartbeat %v, want one at revision 10", h)
	}
	log.revoke("user-10")
	if c := r.receive().GetChanges().GetChanges(); len(c) != 1 || c[0].Revision != 11 {
		t.Fatalf("after one more revocation: got the changes %v, want revision 11 alone", c)
	}
	if n := log.taken(); n != 0 {
		t.Errorf("a replica at revision 7 of 10: got %d snapshots, want none", n)
	}
}

func TestAReplicaResumes(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	stop := following(t, f, options(s.addr))
	eventually.True(t, "alice", at(f, 1))
	stop()
	log.revoke("bob")
	log.restore("alice")
	following(t, f, options(s.addr))
	eventually.True(t, "the rest", at(f, 3))
	if denies(t, f, "alice") || !denies(t, f, "bob") {
		t.Errorf("after the replica resumed: alice denied %v, bob denied %v; want false, true", denies(t, f, "alice"), denies(t, f, "bob"))
	}
	if n := log.taken(); n != 1 {
		t.Errorf("a replica that resumes: got %d snapshots, want the first alone", n)
	}
}

// A restoration of 100,000 revocations is one revision. A replica that follows
// and one that resumes take all of it, and the disk has it.
func TestALongRestorationIsTakenWhole(t *testing.T) {
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{})
	f, late := openFollower(t), openFollower(t)
	following(t, f, options(s.addr))
	o := options(s.addr)
	o.Name = "late"
	stop := following(t, late, o)
	subs := manySubjects(100_000)
	log.revoke("alice")
	everywhere(t, s.Server, log.revoke(subs...), 2)
	if !denies(t, f, subs[0]) || !denies(t, f, subs[len(subs)-1]) {
		t.Fatal("after a long revision: the first or the last subject is allowed, want both denied")
	}
	stop()
	revision := log.restore(subs...)
	following(t, late, o)
	for _, f := range []*replica.Follower{f, late} {
		eventually.True(t, "the restoration is applied", at(f, revision))
		if denies(t, f, subs[0]) || denies(t, f, subs[len(subs)-1]) || !denies(t, f, "alice") || f.Status().Entries != 1 {
			t.Errorf("after the restoration: %d entries, the first denied %v, the last %v, alice %v; want 1, false, false, true",
				f.Status().Entries, denies(t, f, subs[0]), denies(t, f, subs[len(subs)-1]), denies(t, f, "alice"))
		}
	}
}

func TestTooFarBehindGetsASnapshot(t *testing.T) {
	log := newLog("log-1")
	log.remember = 5
	log.revoke("alice", "bob")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	stop := following(t, f, options(s.addr))
	eventually.True(t, "alice", at(f, 1))
	stop()
	eventually.True(t, "it has said goodbye", func() bool { return len(s.Replicas()) == 0 })
	log.restore("alice")
	for i := range 10 {
		log.revoke(fmt.Sprint("user-", i))
	}
	following(t, f, options(s.addr))
	eventually.True(t, "the snapshot", at(f, 12))
	if denies(t, f, "alice") || !denies(t, f, "bob") || !denies(t, f, "user-9") {
		t.Errorf("after the second snapshot: alice denied %v, bob denied %v, user-9 denied %v; want false, true, true", denies(t, f, "alice"), denies(t, f, "bob"), denies(t, f, "user-9"))
	}
	if n := log.taken(); n != 2 {
		t.Errorf("a replica too far behind: got %d snapshots, want 2", n)
	}
}

func TestARevisionOfManyEntriesComesWhole(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	following(t, f, options(s.addr))
	watch := call(t, s.addr, newHello("watch", "log-1", 1))
	watch.receive()
	eventually.True(t, "alice", at(f, 1))

	subs := make([]string, 60_000)
	for i := range subs {
		subs[i] = fmt.Sprint("user-", i)
	}
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() { // the revision counts only once the last of it is in force
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, revision := f.Position()
			if last := denies(t, f, subs[len(subs)-1]); revision == 2 && !last {
				t.Errorf("at revision 2: %s is allowed, want the revision to count only when its last entry is in force", subs[len(subs)-1])
				return
			}
		}
	})
	revision := log.revoke(subs...)
	eventually.True(t, "all of it", at(f, revision))
	close(stop)
	looking.Wait()
	for i := 0; i < len(subs); i += 997 {
		if !denies(t, f, subs[i]) {
			t.Fatalf("after revision %d: %s is allowed, want it denied", revision, subs[i])
		}
	}
	n := 0
	for more := true; more; {
		for _, c := range watch.receive().GetChanges().GetChanges() {
			n++
			more = c.More
			if len(c.Added) > maxPart {
				t.Errorf("part %d of revision %d has %d bytes, want at most %d", n, c.Revision, len(c.Added), maxPart)
			}
		}
	}
	if n < 2 {
		t.Errorf("a revision of %d entries: got %d part, want several", len(subs), n)
	}
	everywhereBut(t, s.Server, revision, "watch")
}

// everywhereBut waits until all replicas but one have the revision.
func everywhereBut(t testing.TB, s *Server, revision uint64, name string) {
	t.Helper()
	eventually.True(t, "all but "+name, func() bool {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return slices.Equal(s.WaitApplied(ctx, Wanted{Revision: revision}).Pending, []string{name})
	})
}

// A follower that does not read costs the others nothing.
func TestAStoppedReaderHoldsUpNobody(t *testing.T) {
	log := newLog("log-1")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	following(t, f, options(s.addr))
	eventually.True(t, "ready", func() bool { return f.Status().Ready })
	call(t, s.addr, newHello("stopped", "", 0)) // and never reads
	eventually.True(t, "both", func() bool { return len(s.Replicas()) == 2 })
	subs := make([]string, 200)
	for i := range 200 { // far more than the connection's buffers take
		for j := range subs {
			subs[j] = fmt.Sprintf("user-%d-%d", i, j)
		}
		log.revoke(subs...)
	}
	began := time.Now()
	revision := log.revoke("alice")
	everywhereBut(t, s.Server, revision, "stopped")
	t.Logf("in force beside a stopped reader after %v", time.Since(began))
	for _, r := range s.Replicas() {
		if stopped := r.Name == "stopped"; stopped != (r.Behind > 0) {
			t.Errorf("listed: %+v, want only the replica that does not read to be behind", r)
		}
	}
}

func TestFailover(t *testing.T) {
	log := newLog("log-1")
	a, b := serve(t, log, ServerOptions{}), serve(t, log, ServerOptions{})
	f := openFollower(t)
	following(t, f, options(a.addr, b.addr))
	everywhereSoon := func(s *control, sub string) {
		t.Helper()
		eventually.True(t, "connected", func() bool { r := s.Replicas(); return len(r) == 1 && r[0].Connected })
		everywhere(t, s.Server, log.revoke(sub), 1)
		if !denies(t, f, sub) {
			t.Errorf("after every replica applied it: %s is allowed, want it denied", sub)
		}
	}
	everywhereSoon(a, "alice")
	a.stop()
	everywhereSoon(b, "bob")
	lis, err := net.Listen("tcp", a.addr)
	if err != nil {
		t.Fatalf("listening on %s again: got %v, want no error", a.addr, err)
	}
	again := serveOn(t, lis, log, ServerOptions{})
	b.stop()
	everywhereSoon(again, "carol")
	if n := log.taken(); n != 1 {
		t.Errorf("after two failovers: got %d snapshots, want the first alone", n)
	}
}
