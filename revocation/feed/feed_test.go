package feed

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
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
				t.Fatalf("%s is applied, and not denied", sub)
			}
		}
		if i%2 == 0 {
			continue
		}
		everywhere(t, s.Server, log.restore(sub), 4)
		for _, f := range replicas {
			if denies(t, f, sub) {
				t.Fatalf("%s is restored, and denied", sub)
			}
		}
	}
	for _, r := range s.Replicas() {
		if !r.Connected || r.Revision != log.Revision() || r.Behind != 0 || r.Entries != uint64(log.Len()) || time.Since(r.LastAck) > time.Minute {
			t.Errorf("%+v, with the log at %d", r, log.Revision())
		}
	}
	if n := log.taken(); n != 4 {
		t.Errorf("%d snapshots for 4 replicas", n)
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
		t.Error("the first revocation of a log is not denied")
	}
}

func TestResumeSendsOnlyChanges(t *testing.T) {
	log := newLog("log-1")
	for i := range 10 {
		log.revoke(fmt.Sprint("user-", i))
	}
	s := serve(t, log, ServerOptions{})
	r := call(t, s.addr, newHello("replica-a", "log-1", 7))
	if g := r.hear().GetGreeting(); g.GetLogId() != "log-1" || g.GetRevision() != 10 || g.GetRetention().AsDuration() != 720*time.Hour || g.GetHeartbeat().AsDuration() != time.Second || time.Since(g.GetTime().AsTime()) > time.Minute {
		t.Fatalf("greeting %v", g)
	}
	c := r.hear().GetChanges().GetChanges()
	if len(c) != 3 || c[0].Revision != 8 || c[2].Revision != 10 {
		t.Fatalf("changes %v", c)
	}
	if h := r.hear().GetHeartbeat(); h.GetRevision() != 10 {
		t.Fatalf("heartbeat %v", h)
	}
	log.revoke("user-10")
	if c := r.hear().GetChanges().GetChanges(); len(c) != 1 || c[0].Revision != 11 {
		t.Fatalf("changes %v", c)
	}
	if log.taken() != 0 {
		t.Error("a snapshot was taken")
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
		t.Error("what changed in between is not in force")
	}
	if n := log.taken(); n != 1 {
		t.Errorf("%d snapshots", n)
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
		t.Error("the fresh snapshot is not in force")
	}
	if n := log.taken(); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}

func TestARevisionOfManyEntriesComesWhole(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	f := openFollower(t)
	following(t, f, options(s.addr))
	watch := call(t, s.addr, newHello("watch", "log-1", 1))
	watch.hear()
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
				t.Error("a part of a revision counts as the revision")
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
			t.Fatalf("%s is not denied", subs[i])
		}
	}
	n := 0
	for more := true; more; {
		for _, c := range watch.hear().GetChanges().GetChanges() {
			n++
			more = c.More
			if len(c.Added) > maxPart {
				t.Errorf("a part of %d bytes", len(c.Added))
			}
		}
	}
	if n < 2 {
		t.Error("the revision came in one part")
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
			t.Errorf("%+v", r)
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
			t.Errorf("%s is not denied", sub)
		}
	}
	everywhereSoon(a, "alice")
	a.stop()
	everywhereSoon(b, "bob")
	lis, err := net.Listen("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	again := serveOn(t, lis, log, ServerOptions{})
	b.stop()
	everywhereSoon(again, "carol")
	if n := log.taken(); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

// Whatever a stream is cut at, the set is that of one revision, and it gets
// there in the end.
func TestCutAtRandom(t *testing.T) {
	log := newLog("log-1")
	log.remember = 40
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	log.revoke("canary") // is never restored
	delete(log.of, "canary")
	log.grow(r, 300)
	s := serve(t, log, ServerOptions{Heartbeat: 20 * time.Millisecond})
	proxy, cuts := cutter(t, s.addr, seed)
	f := openFollower(t)
	stop := following(t, f, options(proxy))

	last := uint64(0)
	for round := range 60 {
		log.grow(r, 1+r.IntN(30))
		if round%10 == 9 {
			log.grow(r, 100) // too far behind for changes
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
		if !f.Status().Ready {
			continue
		}
		_, revision := f.Position()
		if revision < last {
			t.Fatalf("revision %d after %d", revision, last)
		}
		last = revision
		if !denies(t, f, "canary") {
			t.Fatalf("at revision %d the set is not whole", revision)
		}
	}
	eventually.True(t, "the end of the log", at(f, log.Revision()))
	stop()
	compare(t, log, f)
	t.Logf("%d cuts, %d snapshots begun", cuts.Load(), log.taken())
	if cuts.Load() == 0 { // the eighth at the latest is left alone
		t.Error("nothing was cut")
	}
}

// compare holds a follower that has stopped against its log.
func compare(t *testing.T, log *memLog, f *replica.Follower) {
	t.Helper()
	id, revision := f.Position()
	if id != log.id {
		t.Fatalf("log %q", id)
	}
	want := log.revokedAt(revision)
	if got := f.Status().Entries; got != len(want) {
		t.Errorf("%d entries at revision %d, not %d", got, revision, len(want))
	}
	digests := make(map[revocation.Digest]bool)
	for _, e := range want {
		digests[e.Digest] = true
	}
	revoked := 0
	for i := range 20_000 { // of the subjects that grow takes from
		sub := fmt.Sprintf("user-%d", i)
		want := digests[entryOf(sub, revocation.ID{}).Digest]
		if want {
			revoked++
		}
		if want != denies(t, f, sub) {
			t.Errorf("%s is wrong at revision %d", sub, revision)
		}
	}
	if revoked == 0 {
		t.Error("nothing was compared")
	}
}

// A server that is cut off says so, and its followers know how old they are.
func TestAgeIsPassedOn(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{Heartbeat: 10 * time.Millisecond})
	f := openFollower(t)
	defer following(t, f, options(s.addr))()
	eventually.True(t, "word", func() bool { return !f.Status().LastContact.IsZero() })
	if age := time.Since(f.Status().LastContact); age > 20*time.Second || f.Status().Stale {
		t.Errorf("%v old", age)
	}
	log.setAge(time.Hour)
	// What was heard before holds, and nothing is added to it.
	time.Sleep(50 * time.Millisecond)
	before := f.Status().LastContact
	time.Sleep(50 * time.Millisecond)
	if now := f.Status().LastContact; !now.Equal(before) {
		t.Errorf("of %v, and then of %v", before, now)
	}
	young := openFollower(t)
	defer following(t, young, options(s.addr))()
	eventually.True(t, "word", func() bool { return !young.Status().LastContact.IsZero() })
	if s := young.Status(); !s.Stale || !s.Ready || time.Since(s.LastContact) < time.Hour || !denies(t, young, "alice") {
		t.Errorf("a new one is %+v", s)
	}
	log.setAge(math.MaxInt64) // it never knew
	never := openFollower(t)
	defer following(t, never, options(s.addr))()
	eventually.True(t, "word", func() bool { return !never.Status().LastContact.IsZero() })
	if s := never.Status(); !s.Stale || !denies(t, never, "alice") {
		t.Errorf("one of a server that never knew is %+v", s)
	}
}

func TestNotReady(t *testing.T) {
	log := newLog("log-1")
	log.setReady(errNoLog)
	s := serve(t, log, ServerOptions{Heartbeat: 10 * time.Millisecond})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("before the log is read: %v", err)
	}
	log.setReady(nil)
	r = call(t, s.addr, newHello("replica-a", "", 0))
	r.hear()
	log.setReady(errNoLog)
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("after the log was lost: %v", err)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	s := serve(t, newLog("log-1"), ServerOptions{})
	r := call(t, s.addr, newHello("replica-a", "", 0))
	r.hear()
	s.Close()
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("an open stream: %v", err)
	}
	r = call(t, s.addr, newHello("replica-a", "", 0))
	if err := r.end(); status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream: %v", err)
	}
}

func TestFollowersThatSpeakWrong(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	hello := func(change func(*feedpb.Hello)) *feedpb.ClientMessage {
		h := newHello("replica-a", "log-1", 1)
		change(h)
		return &feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: h}}
	}
	ack := func(revision uint64) *feedpb.ClientMessage {
		return &feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Revision: revision}}}
	}
	good := hello(func(*feedpb.Hello) {})
	for name, messages := range map[string][]*feedpb.ClientMessage{
		"empty":          {{}},
		"ack first":      {ack(1)},
		"no name":        {hello(func(h *feedpb.Hello) { h.Name = "" })},
		"long name":      {hello(func(h *feedpb.Hello) { h.Name = string(make([]byte, 300)) })},
		"control chars":  {hello(func(h *feedpb.Hello) { h.Name = "a\nb" })},
		"no instance":    {hello(func(h *feedpb.Hello) { h.Instance = nil })},
		"short instance": {hello(func(h *feedpb.Hello) { h.Instance = h.Instance[:3] })},
		"two hellos":     {good, good},
		"from ahead":     {good, ack(2)},
		"empty later":    {good, {}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(withToken(t.Context(), secret), 10*time.Second)
			defer cancel()
			stream, err := feedpb.NewFeedClient(dial(t, s.addr)).Follow(ctx)
			if err != nil {
				t.Fatal(err)
			}
			r := &raw{stream, t}
			for _, m := range messages {
				r.say(m)
			}
			if err := r.end(); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%v", err)
			}
		})
	}
}
