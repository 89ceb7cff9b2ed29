package feed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/test/eventually"
)

func TestOptionsThatCannotWork(t *testing.T) {
	f := openFollower(t)
	for name, change := range map[string]func(*ClientOptions){
		"no address":     func(o *ClientOptions) { o.Addresses = nil },
		"no name":        func(o *ClientOptions) { o.Name = "" },
		"a line feed":    func(o *ClientOptions) { o.Name = "a\nb" },
		"no credential":  func(o *ClientOptions) { o.Token = nil },
		"plain, unasked": func(o *ClientOptions) { o.Plaintext = false },
	} {
		o := options("127.0.0.1:1")
		change(&o)
		if err := Follow(t.Context(), f, o); err == nil {
			t.Errorf("Follow with %s: got no error, want one", name)
		}
	}
}

// TestThePauses shows that the replica tries its addresses in turn, at once. Then
// the replica pauses, for a short time at first and never for long.
func TestThePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		type attempt struct {
			addr string
			at   time.Time
		}
		var attempts []attempt
		o := options("one:1", "two:1", "three:1")
		o.dial = func(_ context.Context, addr string) (net.Conn, error) {
			attempts = append(attempts, attempt{addr, time.Now()})
			return nil, errors.New("refused")
		}
		if err := Follow(ctx, openFollower(t), o); err != nil {
			t.Fatalf("Follow with three addresses that refuse: got %v, want nil once its time is up", err)
		}
		if n := len(attempts); n < 3*900 || n > 3*1600 {
			t.Errorf("got %d attempts in five minutes, want 900 to 1600 at each of three addresses", n)
		}
		for i, a := range attempts {
			if want := o.Addresses[i%3]; a.addr != want {
				t.Fatalf("attempt %d went to %s, want %s", i, a.addr, want)
			}
			if i == 0 {
				continue
			}
			pause := a.at.Sub(attempts[i-1].at)
			switch {
			case i%3 != 0 && pause != 0:
				t.Errorf("a pause of %v before attempt %d at the next address, want none", pause, i)
			case i == 3 && pause > longestPause/10:
				t.Errorf("a pause of %v before the first repeat, want at most %v", pause, longestPause/10)
			case pause > longestPause:
				t.Errorf("a pause of %v before attempt %d, want at most %v", pause, i, longestPause)
			}
		}
	})
}

// TestAReplicaFollowsWithinASecond lets a control endpoint be away for a while,
// again and again, with connections between that live shortly and long.
func TestAReplicaFollowsWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		var current atomic.Pointer[wires]
		restart := func() (stop func()) {
			m := newWires()
			s := serveOn(t, m, log, ServerOptions{})
			current.Store(m)
			return s.stop
		}
		stop := restart()
		f := openFollower(t)
		o := options("memory:1")
		o.dial = func(ctx context.Context, addr string) (net.Conn, error) { return current.Load().dial(ctx, addr) }
		following(t, f, o)
		time.Sleep(10 * time.Second)
		for round, away := range []time.Duration{0, time.Second, time.Minute, 0, 10 * time.Second, 0, 0, 0, 0, 0, 0, 0, time.Hour, 0, 0} {
			stop()
			time.Sleep(away)
			stop = restart()
			back, revision := time.Now(), log.revoke(fmt.Sprint("user-", round))
			eventually.True(t, "the replica has the revision", at(f, revision))
			if took := time.Since(back); took > time.Second {
				t.Errorf("round %d: away for %v, the replica follows %v after the return, want at most 1s", round, away, took)
			}
			time.Sleep(time.Duration(round%3) * time.Second) // this connection lives so long
		}
	})
}

func inMemory(m *wires) ClientOptions {
	o := options("memory:1")
	o.dial = m.dial
	return o
}

// TestASilentServerIsLeft shows that the replica leaves a silent server after three
// heartbeats, even if the kernel of the server answers.
func TestASilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		_, net := serveInMemory(t, log, ServerOptions{})
		f := openFollower(t)
		stop := following(t, f, inMemory(net))
		defer stop()
		time.Sleep(10*time.Second + 500*time.Millisecond)
		if s := f.Status(); !s.Connected || time.Since(s.LastContact) > 1100*time.Millisecond {
			t.Fatalf("after 10.5s: status %+v, want a connection with contact within 1.1s", s)
		}
		net.setDeaf(true)
		time.Sleep(2 * time.Second)
		if !f.Status().Connected {
			t.Error("2s after the server fell silent: not connected, want the connection to last three heartbeats")
		}
		time.Sleep(1100 * time.Millisecond)
		if f.Status().Connected {
			t.Error("3.1s after the server fell silent: still connected, want the connection ended after three heartbeats")
		}
		net.setDeaf(false)
		log.revoke("alice")
		time.Sleep(2*greetingTimeout + 2*longestPause)
		if !f.Status().Connected || !denies(t, f, "alice") {
			t.Errorf("after the server is heard again: connected %v, alice denied %v; want true, true", f.Status().Connected, denies(t, f, "alice"))
		}
	})
}

// A follower that has stopped is found by its kernel's silence or by its own,
// and is dropped.
func TestAStoppedFollowerIsDropped(t *testing.T) {
	for name, stop := range map[string]func(*wires){
		"it does not read":   func(*wires) {},
		"nothing gets there": func(m *wires) { m.setDeaf(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog("log-1")
				for i := range 300 {
					subs := make([]string, 200)
					for j := range subs {
						subs[j] = fmt.Sprintf("user-%d-%d", i, j)
					}
					log.revoke(subs...)
				}
				s, net := serveInMemory(t, log, ServerOptions{})
				net.call(t, newHello("stopped", "", 0))
				time.Sleep(time.Second)
				if list := s.Replicas(); len(list) != 1 || !list[0].Connected {
					t.Fatalf("a second after its hello: replicas %+v, want one connected", list)
				}
				stop(net)
				time.Sleep(sendTimeout + sendTimeout/10)
				if list := s.Replicas(); len(list) != 1 || list[0].Connected {
					t.Errorf("after sendTimeout (%s): replicas %+v, want one that is not connected", name, list)
				}
			})
		})
	}
}

func TestNoHelloIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		conn, stop := net.connect(t)
		defer stop()
		stream, err := feedpb.NewFeedClient(conn).Follow(withToken(t.Context(), secret))
		if err != nil {
			t.Fatalf("opening a Follow stream: got %v, want no error", err)
		}
		began := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded || time.Since(began) != helloTimeout {
			t.Errorf("a stream without a hello: got %v after %v, want DeadlineExceeded after %v", err, time.Since(began), helloTimeout)
		}
	})
}

// TestItStaysOnWhatItHolds shows that a replica keeps its set when a control
// endpoint has another log or an older revision. The replica logs this once, and
// tries the other control endpoints.
func TestItStaysOnWhatItHolds(t *testing.T) {
	mine, foreign, older := newLog("log-1"), newLog("log-2"), newLog("log-1")
	mine.revoke("alice")
	mine.revoke("bob")
	foreign.revoke("mallory")
	foreign.revoke("mallory")
	foreign.revoke("mallory")
	older.revoke("carol")
	a := serve(t, mine, ServerOptions{})
	f := openFollower(t)
	stop := following(t, f, options(a.addr))
	eventually.True(t, "revision 2", at(f, 2))
	stop()
	a.stop()

	var logged lines
	b, c := serve(t, foreign, ServerOptions{}), serve(t, older, ServerOptions{})
	o := options(b.addr, c.addr, a.addr)
	o.Logger = logged.logger()
	var attempts atomic.Int64
	token := o.Token
	o.Token = func() (string, error) { attempts.Add(1); return token() }
	following(t, f, o)
	count := func(part string) (n int) {
		logged.mu.Lock()
		defer logged.mu.Unlock()
		for _, line := range logged.all {
			if strings.Contains(line, part) {
				n++
			}
		}
		return n
	}
	eventually.True(t, "all three are told", func() bool {
		return count("another log") > 0 && count("older revision, keeping") > 0 && count("endpoint not followed") > 0
	})
	more := attempts.Load() + 6
	eventually.True(t, "two more attempts at each address", func() bool { return attempts.Load() >= more })
	if count("another log") != 1 || count("older revision, keeping") != 1 || count("endpoint not followed") != 1 {
		t.Errorf("after several attempts at another log, an older log and no log: log lines %q, want each of the three named once", logged.all)
	}
	if id, revision := f.Position(); id != "log-1" || revision != 2 || !denies(t, f, "alice") || !denies(t, f, "bob") || denies(t, f, "mallory") || denies(t, f, "carol") {
		t.Errorf("after attempts at another and an older log: the replica is at %q revision %d, denies alice %v, bob %v, mallory %v, carol %v; want log-1 revision 2, true, true, false, false",
			id, revision, denies(t, f, "alice"), denies(t, f, "bob"), denies(t, f, "mallory"), denies(t, f, "carol"))
	}
	if f.Status().Connected {
		t.Errorf("beside control endpoints that do not fit: status %+v, want it not connected", f.Status())
	}

	lis, err := net.Listen("tcp", a.addr)
	if err != nil {
		t.Fatalf("listening on %s again: got %v, want no error", a.addr, err)
	}
	again := serveOn(t, lis, mine, ServerOptions{})
	revision := mine.revoke("dave")
	eventually.True(t, "the right log again", at(f, revision))
	everywhere(t, again.Server, revision, 1)
}

// A node that is a moment behind catches up instead of being refused.
func TestANodeAMomentBehind(t *testing.T) {
	log := newLog("log-1")
	log.revoke("alice")
	s := serve(t, log, ServerOptions{})
	r := call(t, s.addr, newHello("replica-a", "log-1", 2))
	eventually.True(t, "it follows", func() bool { return len(s.Replicas()) == 1 })
	log.revoke("bob")
	if g := r.receive().GetGreeting(); g.GetRevision() != 2 {
		t.Errorf("the greeting to a replica at revision 2: got %v, want one at revision 2", g)
	}
	if h := r.receive().GetHeartbeat(); h.GetRevision() != 2 {
		t.Errorf("after the greeting: heartbeat %v, want one at revision 2", h)
	}
}

// A replica takes another log, or an older copy of its own under another name,
// only if an operator of the control endpoint has named its log.
func TestALogIsReplacedByTheOperatorsWord(t *testing.T) {
	old := newLog("log-1")
	old.revoke("alice")
	old.revoke("bob")
	a := serve(t, old, ServerOptions{})
	f := openFollower(t)
	stop := following(t, f, options(a.addr))
	eventually.True(t, "revision 2", at(f, 2))
	stop()
	a.stop()

	fresh := newLog("log-1.1")
	fresh.replaces = []string{"log-0"}
	fresh.revoke("carol")
	b := serve(t, fresh, ServerOptions{})
	stop = following(t, f, options(b.addr))
	eventually.True(t, "it refuses", func() bool { return f.Status().Refused != "" })
	if !strings.Contains(f.Status().Refused, "--accept-log log-1") {
		t.Errorf("the refusal of log-1.1 reads %q, want the flag --accept-log log-1 in it", f.Status().Refused)
	}
	stop()
	b.stop()
	if !denies(t, f, "alice") || denies(t, f, "carol") {
		t.Errorf("after the refusal: alice denied %v, carol denied %v; want true, false", denies(t, f, "alice"), denies(t, f, "carol"))
	}

	fresh.replaces = []string{"log-0", "log-1"}
	c := serve(t, fresh, ServerOptions{})
	following(t, f, options(c.addr))
	everywhereSoon := func() bool { id, revision := f.Position(); return id == "log-1.1" && revision == 1 }
	eventually.True(t, "the new log", everywhereSoon)
	if denies(t, f, "alice") || !denies(t, f, "carol") {
		t.Errorf("after the new log was accepted: alice denied %v, carol denied %v; want false, true", denies(t, f, "alice"), denies(t, f, "carol"))
	}
}
