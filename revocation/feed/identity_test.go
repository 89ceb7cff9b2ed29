package feed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/replica"
)

// twoTokens are those of two groups of replicas.
func twoTokens() []Token {
	return append(tokens(), Token{Name: "others", SHA256: sha256.Sum256([]byte("other-token"))})
}

func goodbye() *feedpb.ClientMessage {
	return &feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Goodbye{Goodbye: &feedpb.Goodbye{}}}
}

func wantApplied(t *testing.T, when string, s *Server, revision uint64, applied, total int, pending ...string) {
	t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := s.WaitApplied(ctx, Wanted{Revision: revision})
	if got.Applied != applied || got.Total != total || !slices.Equal(got.Pending, append([]string{}, pending...)) {
		t.Errorf("%s: revision %d: got %+v, want %d of %d with %q pending", when, revision, got, applied, total, pending)
	}
}

// A feed token says hello as a replica of another feed token, with its name and
// even its process, and acknowledges for it.
func TestAFeedTokenSpeaksForItsOwnReplicasAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{Tokens: twoTokens()})
		victim := newHello("replica-a", "log-1", 0)
		a, hangUp := net.call(t, victim)
		a.receive()
		log.revoke("alice")
		thief, _ := net.callAs(t, "other-token", victim)
		thief.ack(1)
		wantApplied(t, "acknowledged by another token", s, 1, 1, 2, "replica-a")
		if err := a.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: newAck(0)}}); err != nil {
			t.Errorf("an acknowledgement on the stream of the replica itself: got %v, want no error", err)
		}

		// While it is lost, the other token neither replaces it nor says goodbye for it.
		hangUp()
		synctest.Wait()
		again, _ := net.callAs(t, "other-token", newHello("replica-a", "log-1", 1))
		again.receive()
		again.say(goodbye())
		thief.say(goodbye())
		wantApplied(t, "goodbye by another token", s, 1, 0, 1, "replica-a")
		for _, r := range s.Replicas() {
			if r.Credential != "replicas" || r.Connected {
				t.Errorf("listed: %+v, want the lost replica of the token replicas alone", r)
			}
		}
	})
}

// One credential says hello under 4,200 names. Its replicas are bounded, it locks
// out no other credential, and nobody waits for more than it may have.
func TestMadeUpNamesOf4200Replicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(newLog("log-1"), ServerOptions{Tokens: twoTokens()})
		defer s.Close()
		join := func(credential string, i int) (*replicaState, *session, error) {
			id := identity{credential: credential, name: fmt.Sprint("replica-", i)}
			id.instance[0], id.instance[1] = byte(i), byte(i>>8)
			ss := &session{}
			p, err := s.replicas.join(arrival{identity: id, known: true}, ss)
			return p, ss, err
		}
		if _, _, err := join("others", 0); err != nil {
			t.Fatalf("joining as the first replica of another token: got %v, want no error", err)
		}
		var first *replicaState
		var firstSession *session
		refused := 0
		for i := range 4200 {
			p, ss, err := join("replicas", i)
			if i == 0 {
				first, firstSession = p, ss
			}
			if err != nil {
				refused++
			}
		}
		if want := 4200 - defaultMaxReplicas; refused != want || testutil.ToFloat64(s.replicas.figures.refused) != float64(want) {
			t.Errorf("got %d of 4200 names refused and %v counted, want %d", refused, testutil.ToFloat64(s.replicas.figures.refused), want)
		}
		if n := len(s.Replicas()); n != defaultMaxReplicas+1 {
			t.Errorf("after 4200 names: got %d replicas, want %d and one of the other token", n, defaultMaxReplicas)
		}
		if _, _, err := join("others", 1); err != nil {
			t.Errorf("joining as a replica of another token: got %v, want no error", err)
		}

		// A new one takes the place of the oldest lost one, and of no connected one. A
		// gateway may use the tokens of a replica for a moment after the replica is lost.
		s.replicas.leave(first, firstSession)
		time.Sleep(linger - time.Nanosecond)
		if _, _, err := join("replicas", 5000); err == nil || s.replicas.all[first.identity] == nil {
			t.Errorf("joining as replica-5000 beside a replica that was just lost: got %v, want a refusal, and the lost one still counted", err)
		}
		time.Sleep(time.Nanosecond)
		p, ss, err := join("replicas", 5000)
		if err != nil {
			t.Errorf("joining as replica-5000 beside a lost replica: got %v, want no error", err)
		}
		if _, _, err := join("replicas", 5001); err == nil {
			t.Error("joining as replica-5001 beside connected replicas alone: got no error, want a refusal")
		}
		// 4,200 that come and go, one after the other.
		for i := range 4200 {
			s.replicas.leave(p, ss)
			time.Sleep(linger)
			if p, ss, err = join("replicas", 6000+i); err != nil {
				t.Fatalf("joining under name %d after the last one was lost: got %v, want no error", i, err)
			}
		}
		if n := len(s.Replicas()); n != defaultMaxReplicas+2 {
			t.Errorf("after 4200 replicas that came and went: got %d replicas, want %d", n, defaultMaxReplicas+2)
		}
	})
}

func TestTheBoundOfACredentialIsSaidToTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := tokens()
		few[0].MaxReplicas = 2
		_, net := serveInMemory(t, newLog("log-1"), ServerOptions{Tokens: few})
		for i := range 2 {
			r, _ := net.call(t, newHello(fmt.Sprint("replica-", i), "", 0))
			r.receive()
		}
		r, _ := net.call(t, newHello("one-more", "", 0))
		_, err := r.Recv()
		if want := `the feed token "replicas" has 2 replicas connected, and feed.tokens[].max_replicas allows no more`; status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != want {
			t.Errorf("the third of two: got %v, want ResourceExhausted: %s", err, want)
		}
	})
}

// follower is a replica that follows in memory; sever cuts it off without a
// goodbye, stop ends it with one.
type follower struct {
	*replica.Follower
	stop, sever func()
}

func (m *wires) follower(t *testing.T, name string, change func(*ClientOptions)) *follower {
	t.Helper()
	f := &follower{Follower: openFollower(t)}
	o := inMemory(m)
	o.Name = name
	o.dial, f.sever = m.severable()
	if change != nil {
		change(&o)
	}
	f.stop = following(t, f.Follower, o)
	return f
}

// A rolling update replaces every replica, by names that stay and by names that
// change. Nothing waits for those that have stopped.
func TestARollingUpdateLeavesNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		s, net := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		other, _ := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		var running []*follower
		for i := range 3 {
			running = append(running, net.follower(t, fmt.Sprint("replica-", i), nil))
		}
		time.Sleep(time.Second)
		wantApplied(t, "before", s, log.Revision(), 3, 3)
		for i, names := range [][2]string{{"replica-0", "replica-0"}, {"replica-1", "pod-xyz"}, {"replica-2", "pod-abc"}} {
			running[i].stop()
			synctest.Wait()
			revision := log.revoke(fmt.Sprint("user-", i))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			for name, s := range map[string]*Server{"the node it followed": s, "the other node": other} {
				began := time.Now()
				a := s.WaitApplied(ctx, Wanted{Revision: revision})
				if took := time.Since(began); a.Total != 2 || a.Applied != 2 || took > 10*time.Millisecond {
					t.Errorf("%s has stopped: %s waited %v for %+v, want 2 of 2 within 10ms", names[0], name, took, a)
				}
			}
			cancel()
			running[i] = net.follower(t, names[1], nil)
			time.Sleep(time.Second)
			wantApplied(t, names[1]+" has started", s, revision, 3, 3)
		}
		running[0].sever()
		time.Sleep(5 * time.Second)
		wantApplied(t, "one is lost without a goodbye", s, log.revoke("dave"), 2, 3, "replica-0")
	})
}

// The replica's token changes under a running feed. Nothing waits for the replica
// under its old credential, and it is never left out meanwhile.
func TestAChangeOfTheTokenLeavesNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		var logged lines
		s, net := serveInMemory(t, log, ServerOptions{Tokens: twoTokens()})
		var mu sync.Mutex
		token := secret
		set := func(to string) { mu.Lock(); token = to; mu.Unlock() }
		f := net.follower(t, "replica-a", func(o *ClientOptions) {
			o.Logger = logged.logger()
			o.Token = func() (string, error) { mu.Lock(); defer mu.Unlock(); return token, nil }
		})
		time.Sleep(2 * time.Second)

		// A token that the control endpoint does not know changes nothing.
		set("unknown-token")
		for i := range 5 {
			time.Sleep(time.Second)
			wantInForce(t, s, f, log.revoke(fmt.Sprint("user-", i)), "replicas")
		}

		// A counter of those that are missing while it moves.
		set("other-token")
		least := 10
		for range 3000 {
			least = min(least, len(s.Replicas()))
			time.Sleep(time.Millisecond)
		}
		if least != 1 {
			t.Errorf("while the token changed the replica was listed %d times at least, want 1", least)
		}
		wantInForce(t, s, f, log.revoke("bob"), "others")
		if n := log.taken(); n != 1 {
			t.Errorf("after the token changed: got %d snapshots, want the first alone", n)
		}
	})
}

func wantInForce(t *testing.T, s *Server, f *follower, revision uint64, credential string) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a := s.WaitApplied(ctx, Wanted{Revision: revision})
	list := s.Replicas()
	if a.Applied != 1 || a.Total != 1 || time.Since(began) > time.Second || len(list) != 1 || list[0].Credential != credential || !f.Status().Connected {
		t.Errorf("revision %d after %v: %+v with %+v, want 1 of 1 within 1s under the credential %s", revision, time.Since(began), a, list, credential)
	}
}

// The credential of a lost replica is not configured any more when the same
// process comes back under another.
func TestATokenThatIsReplacedAtBothEnds(t *testing.T) {
	r := newReplicas(slog.New(slog.DiscardHandler), []Token{{Name: "new"}}, newKnowledge(time.Hour))
	old := identity{credential: "old", name: "replica-a", instance: [16]byte{1}}
	other := identity{credential: "old", name: "replica-a", instance: [16]byte{2}}
	first := identity{name: "replica-b", instance: [16]byte{3}} // of a file of the first edition
	r.recall([]identity{old, other, first})
	for _, id := range []identity{{"new", "replica-a", [16]byte{1}}, {"new", "replica-b", [16]byte{3}}} {
		if _, err := r.join(arrival{identity: id}, &session{}); err != nil {
			t.Fatalf("joining as %+v: got %v, want no error", id, err)
		}
	}
	got := r.identities()
	if len(got) != 3 || slices.Contains(got, old) || slices.Contains(got, first) || !slices.Contains(got, other) {
		t.Errorf("the replicas are %v, want both that joined and the other process", got)
	}
}
