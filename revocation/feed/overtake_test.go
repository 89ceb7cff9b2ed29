package feed

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
	"rescind/revocation/replica"
	"rescind/test/eventually"
)

func manySubjects(n int) []string {
	subs := make([]string, n)
	for i := range subs {
		subs[i] = fmt.Sprint("user-", i)
	}
	return subs
}

// TestAShortRevisionOvertakesALongOne shows that the server sends a short revision
// ahead of the rest of a long one, and again in its turn. A revision that removes
// entries waits for its turn, and so does every revision for a replica of the first
// edition.
func TestAShortRevisionOvertakesALongOne(t *testing.T) {
	for rules, want := range map[uint32][]uint64{0: nil, 2: {2, 4}} {
		t.Run(fmt.Sprint("rules ", rules), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog("log-1")
				wire := &bus{receivers: map[string]func(string, []byte){}}
				s, net := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
				other, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
				hello := newHello("replica-a", "log-1", 0)
				hello.Rules = rules
				r, _ := net.call(t, hello)
				r.receive()
				time.Sleep(time.Second)
				log.revoke(manySubjects(60_000)...)
				synctest.Wait() // the stream is full
				log.revoke("alice")
				log.restore("alice")
				log.revoke("bob")
				time.Sleep(2 * gather)

				var ahead, inTurn []uint64
				whole := false
				for len(inTurn) < 3 {
					for _, c := range r.receive().GetChanges().GetChanges() {
						switch {
						case c.Ahead && whole:
							t.Errorf("revision %d came ahead after revision 1 was whole, want it in its turn alone", c.Revision)
						case c.Ahead:
							ahead = append(ahead, c.Revision)
						case c.Revision == 1:
							whole = !c.More
						default:
							inTurn = append(inTurn, c.Revision)
						}
					}
					if len(ahead) == 2 && inTurn == nil {
						r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Ahead: []uint64{2}}}})
						wantApplied(t, "acknowledged ahead", s, 2, 1, 1)
						wantApplied(t, "the long one", s, 1, 0, 1, "replica-a")
						wantApplied(t, "not acknowledged", s, 4, 0, 1, "replica-a")
						time.Sleep(10 * time.Millisecond)
						wantApplied(t, "acknowledged ahead, at the other node", other, 2, 1, 1)
					}
				}
				if !slices.Equal(ahead, want) || !slices.Equal(inTurn, []uint64{2, 3, 4}) {
					t.Errorf("revisions %v came ahead and %v in their turn, want %v and 2, 3, 4", ahead, inTurn, want)
				}
				r.ack(4)
				wantApplied(t, "all acknowledged", s, 4, 1, 1)
				s.replicas.mu.Lock()
				n := len(s.replicas.all[identity{"replicas", "replica-a", [16]byte(hello.Instance)}].ahead)
				s.replicas.mu.Unlock()
				if n != 0 {
					t.Errorf("%d revisions are remembered as ahead after their turn, want none", n)
				}
			})
		})
	}
}

// A caller that waits for a short revision is released by an acknowledgement
// ahead, and the propagation of each revision is reported once.
func TestAnAcknowledgementAheadReleasesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied []uint64
		log := newLog("log-1")
		log.revoke("first")
		s, net := serveInMemory(t, log, ServerOptions{OnApplied: func(_ string, revision uint64) { applied = append(applied, revision) }})
		r, _ := net.call(t, newHello("replica-a", "log-1", 1))
		r.receive()
		log.revoke("long")
		log.revoke("short")
		done := make(chan Applied, 1)
		go func() { done <- s.WaitApplied(t.Context(), Wanted{Revision: 3}) }()
		synctest.Wait()
		for range 2 {
			r.say(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: &feedpb.Ack{Revision: 1, Ahead: []uint64{3}}}})
		}
		if a := <-done; a.Applied != 1 || a.Total != 1 {
			t.Errorf("after an acknowledgement ahead: %+v, want 1 of 1", a)
		}
		r.ack(3)
		synctest.Wait()
		if !slices.Equal(applied, []uint64{3, 2}) {
			t.Errorf("applied revisions %v were reported, want 3 and then 2", applied)
		}
	})
}

// TestWhatComesAheadIsInForceAndOnDisk shows that the replica puts a change that
// came ahead in force at once, on disk too, and keeps its revision until the turn
// of the rest.
func TestWhatComesAheadIsInForceAndOnDisk(t *testing.T) {
	dir := t.TempDir()
	open := func() *replica.Follower {
		f, err := replica.Open(replica.Options{Dir: dir})
		if err != nil {
			t.Fatalf("opening the set in %s: got %v, want no error", dir, err)
		}
		return f
	}
	f := open()
	in := receiving(t, f)
	if err := takeAll(in, begun(1, 0), ended(1, 0, 0)); err != nil {
		t.Fatalf("an empty snapshot of revision 1: got %v, want no error", err)
	}
	if err := takeAll(in, changed(more(add(2, "bob")))); err != nil {
		t.Fatalf("a part of revision 2: got %v, want no error", err)
	}
	early := []*feedpb.Change{add(1, "mallory"), add(2, "mallory"), add(4, "dave"), add(4, "dave")}
	if err := in.overtake(early); err != nil {
		t.Fatalf("overtake(revisions 1, 2, 4, 4): got %v, want no error", err)
	}
	if _, revision := f.Position(); revision != 1 || !denies(t, f, "dave") || !in.due || !slices.Equal(in.aheadOf(), []uint64{4}) {
		t.Errorf("after revision 4 came ahead: at revision %d, dave denied %v, to acknowledge %v %v; want 1, true, true [4]", revision, denies(t, f, "dave"), in.due, in.ahead)
	}
	if denies(t, f, "mallory") {
		t.Error("revisions 1 and 2 ahead at revision 1: mallory is denied, want both left to their turn")
	}
	if _, ok := f.Lasting(revocation.MinuteOf(time.Now())); ok {
		t.Error("the entries are counted while some came ahead, want no count")
	}
	if err := f.Close(); err != nil {
		t.Fatalf("closing the set in %s: got %v, want no error", dir, err)
	}
	f = open()
	defer f.Close()
	if _, revision := f.Position(); revision != 1 || !denies(t, f, "dave") || !denies(t, f, "bob") {
		t.Errorf("after a restart: at revision %d, dave denied %v, bob denied %v; want 1, true, true", revision, denies(t, f, "dave"), denies(t, f, "bob"))
	}
	in = receiving(t, f)
	if err := takeAll(in, changed(more(add(2, "bob")), add(2, "carol")), changed(add(3, "erin"), add(4, "dave"))); err != nil {
		t.Fatalf("revisions 2 to 4 in their turn: got %v, want no error", err)
	}
	if _, revision := f.Position(); revision != 4 || len(in.aheadOf()) != 0 || !denies(t, f, "erin") {
		t.Errorf("after revisions 2 to 4 in their turn: at revision %d with %v ahead, erin denied %v; want 4, none, true", revision, in.ahead, denies(t, f, "erin"))
	}
}

// The parts of a long revision never overtake: the last one is short, but it is
// not the whole revision.
func TestWhatOvertakes(t *testing.T) {
	n := &connection{urgent: make(chan *feedpb.Change, maxUrgent)}
	removing := &feedpb.Change{Revision: 5, Removed: add(2, "bob").Added}
	aheadOfTurn := add(7, "heidi")
	aheadOfTurn.Ahead = true
	for i, c := range []struct {
		message *feedpb.ServerMessage
		want    []uint64
		keep    bool
	}{
		{changed(add(2, "bob")), nil, true}, // nothing to overtake
		{changed(more(add(3, "carol"))), nil, true},
		{changed(add(3, "dave"), add(4, "erin")), []uint64{4}, true},
		{changed(removing, add(6, "frank")), []uint64{6}, true},
		{changed(aheadOfTurn), []uint64{7}, false},
		{beat(7, timestamppb.Now()), nil, true},
	} {
		kept := n.hurry(c.message)
		var got []uint64
		for len(n.urgent) > 0 {
			got = append(got, (<-n.urgent).Revision)
		}
		if !slices.Equal(got, c.want) || (kept != nil) != c.keep {
			t.Errorf("message %d: revisions %v overtake, the message stays: %v; want %v, %v", i, got, kept != nil, c.want, c.keep)
		}
	}
	for range 2 * maxUrgent { // no room is no error
		n.hurry(changed(add(8, "ivan")))
	}
}

// TestOvertakingAgainstTheLog shows that the set is the log's in the end, in spite
// of every overtaking, when connections are cut at random and the follower keeps
// its set on disk.
func TestOvertakingAgainstTheLog(t *testing.T) {
	log := newLog("log-1")
	log.revoke("canary")
	s := serve(t, log, ServerOptions{Heartbeat: 20 * time.Millisecond})
	proxy, _ := flakyProxy(t, s.addr, 7)
	f, err := replica.Open(replica.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatalf("opening a set on disk: got %v, want no error", err)
	}
	defer f.Close()
	stop := following(t, f, options(proxy))
	for round := range 12 {
		log.revoke(manySubjects(5000 + round)...)
		for i := range 20 {
			sub := fmt.Sprintf("short-%d-%d", round, i)
			log.revoke(sub)
			if i%2 == 0 {
				log.restore(sub)
			}
		}
	}
	eventually.True(t, "the end of the log", at(f, log.Revision()))
	stop()
	compare(t, log, f)
	for round := range 12 {
		for i := range 20 {
			if sub := fmt.Sprintf("short-%d-%d", round, i); denies(t, f, sub) != (i%2 == 1) {
				t.Errorf("%s: denied %v, want %v", sub, i%2 == 0, i%2 == 1)
			}
		}
	}
}
