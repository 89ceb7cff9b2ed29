package feed

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
)

// A refused replica learns of its refusal after a pause, so that thousands of them
// do not keep the control endpoint busy. Nothing but the identity in its hello is
// read. A replica that connects again, and the
// replicas of another credential, are served at once meanwhile.
func TestRefusalIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := append(tokens(), Token{Name: "stranger", SHA256: sha256.Sum256([]byte("stranger")), MaxReplicas: 1})
		log := &lines{}
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{Tokens: few, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		h := newHello("first", "log-1", 0)
		first, _ := net.callAs(t, "stranger", h)
		first.receive()
		refused := func() time.Duration {
			began := time.Now()
			r, _ := net.callAs(t, "stranger", newHello("another", "log-1", 0))
			if err := r.end(); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("a second replica of a credential that may have one: got %v, want ResourceExhausted", err)
			}
			return time.Since(began)
		}
		if took := refused(); took != refusalTime {
			t.Errorf("a refusal: got it after %v, want it after %v", took, refusalTime)
		}
		held, _ := net.callAs(t, "stranger", newHello("held", "log-1", 0))
		synctest.Wait()
		began := time.Now()
		again, _ := net.callAs(t, "stranger", h)
		again.receive()
		honest, _ := net.call(t, newHello("honest", "log-1", 0))
		honest.receive()
		if took := time.Since(began); took != 0 {
			t.Errorf("a replica that connects again and an honest one beside a held refusal: served after %v, want at once", took)
		}
		if err := held.end(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("the held refusal: got %v, want ResourceExhausted", err)
		}
		heavy := newHello("heavy", "log-1", 0)
		heavy.Profile = &feedpb.Profile{Issuers: []*feedpb.AcceptedIssuer{{Issuer: strings.Repeat("a", maxProfile+1)}}}
		r, _ := net.callAs(t, "stranger", heavy)
		if err := r.end(); status.Code(err) != codes.ResourceExhausted || log.text() != "" {
			t.Errorf("the refusal of a replica with a large profile: got %v and the log %q, want ResourceExhausted and the profile not read", err, log.text())
		}
		s.refusing.Store(maxRefusals)
		if took := refused(); took != 0 {
			t.Errorf("a refusal while %d are held: got it after %v, want it at once", maxRefusals, took)
		}
	})
}

// A revision goes to many replicas of one credential at a pace, so that the
// processors have time for others. It goes to the replicas of another credential
// at once.
func TestManyReplicasAreSentAtAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 4 * paceAtOnce
		log := newLog("log-1")
		strangers := append(tokens(), Token{Name: "stranger", SHA256: sha256.Sum256([]byte("stranger"))})
		s, net := serveInMemory(t, log, ServerOptions{Tokens: strangers, Heartbeat: time.Hour})
		came := make(chan time.Duration, many)
		var revoked time.Time
		changesTo := func(r *raw) time.Duration {
			for {
				if m := r.receive(); m.GetChanges() != nil {
					return time.Since(revoked)
				}
			}
		}
		for i := range many {
			r, _ := net.callAs(t, "stranger", newHello(fmt.Sprint("stranger-", i), "log-1", 0))
			go func() { came <- changesTo(r) }()
		}
		honest, _ := net.call(t, newHello("honest", "log-1", 0))
		time.Sleep(time.Second) // all are connected, and the pace has recovered
		revoked = time.Now()
		log.revoke("alice")
		if took := changesTo(honest); took > gather {
			t.Errorf("an honest replica beside %d others: got the change after %v, want it within %v", many, took, gather)
		}
		var last time.Duration
		for range many {
			last = max(last, <-came)
		}
		if n := testutil.ToFloat64(s.replicas.figures.paced); n < many-paceAtOnce {
			t.Errorf("rescind_control_replicas_paced_total: got %v, want at least %d", n, many-paceAtOnce)
		}
		pace := s.paces["stranger"].limit.Limit()
		if want := time.Duration((many - paceAtOnce - 1) / float64(pace) * 1e9); last < want || last > want+2*paceSlice+gather {
			t.Errorf("the last of %d replicas: got the change after %v, want it after %v to %v", many, last, want, want+2*paceSlice+gather)
		}
	})
}

// BenchmarkRefusedHello is the work of a refusal while a credential has all its
// replicas.
func BenchmarkRefusedHello(b *testing.B) {
	r := newReplicas(nil, []Token{{Name: "stranger"}}, newKnowledge(time.Hour))
	for i := range defaultMaxReplicas {
		if _, err := r.join(arrival{identity: identity{credential: "stranger", name: fmt.Sprint(i)}}, &session{}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := r.join(arrival{identity: identity{credential: "stranger", name: "another"}}, &session{}); err == nil {
			b.Fatal("got a replica beyond the bound, want a refusal")
		}
	}
}

// BenchmarkAcknowledgements is one revision that 1,024 replicas acknowledge.
func BenchmarkAcknowledgements(b *testing.B) {
	r := newReplicas(nil, []Token{{Name: "stranger"}}, newKnowledge(time.Hour))
	states, sessions := make([]*replicaState, defaultMaxReplicas), make([]*session, defaultMaxReplicas)
	for i := range states {
		sessions[i] = &session{}
		states[i], _ = r.join(arrival{identity: identity{credential: "stranger", name: fmt.Sprint(i)}, known: true}, sessions[i])
	}
	for revision := uint64(1); b.Loop(); revision++ {
		for i, p := range states {
			r.ack(p, sessions[i], &feedpb.Ack{Revision: revision})
		}
	}
}
