package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rescind/test/eventually"
)

func echo(name string) func(string, []byte) ([]byte, error) {
	return func(kind string, query []byte) ([]byte, error) {
		switch kind {
		case "fail":
			return nil, errors.New("no such kind\n\x1b[2J")
		case "large":
			return make([]byte, maxReport), nil
		}
		return []byte(name + ":" + kind + ":" + string(query)), nil
	}
}

func TestAsk(t *testing.T) {
	l := &lines{}
	s := serve(t, newLog("log-1"), ServerOptions{Logger: l.logger()})
	if answers, asked, answered := s.Ask(t.Context(), "activity", nil); answers != nil || asked != 0 || answered != 0 {
		t.Errorf("without replicas: got %q, %d of %d answers; want none", answers, answered, asked)
	}
	following(t, openFollower(t), options(s.addr)) // one that does not report
	for _, name := range []string{"replica-b", "replica-c"} {
		reporting(t, name, s.addr, ReporterOptions{Answer: echo(name)})
	}
	eventually.True(t, "all are there", func() bool {
		_, asked, answered := s.Ask(t.Context(), "ping", nil)
		return asked == 3 && answered == 2
	})
	answers, asked, answered := s.Ask(t.Context(), "activity", []byte(`{"by":"sub"}`))
	var got []string
	for _, a := range answers {
		got = append(got, string(a))
	}
	slices.Sort(got)
	if asked != 3 || answered != 2 || !slices.Equal(got, []string{`replica-b:activity:{"by":"sub"}`, `replica-c:activity:{"by":"sub"}`}) {
		t.Errorf("a query by sub: got %q, %d of %d answers; want those of replica-b and replica-c, 2 of 3", got, answered, asked)
	}
	for _, kind := range []string{"fail", "large", strings.Repeat("x", maxKind+1)} {
		if answers, asked, answered := s.Ask(t.Context(), kind, nil); len(answers) != 0 || asked != 3 || answered != 0 {
			t.Errorf("a query of kind %.10s: got %d of %d answers, want 0 of 3", kind, answered, asked)
		}
	}
	if _, _, answered := s.Ask(t.Context(), "x", make([]byte, maxQuery+1)); answered != 0 {
		t.Errorf("a query of %d bytes: got %d answers, want none", maxQuery+1, answered)
	}
	var all sync.WaitGroup
	for range 4 * maxAsking {
		all.Go(func() { s.Ask(t.Context(), "ping", nil) })
	}
	all.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := strings.Join(l.all, ""); strings.ContainsRune(text, '\x1b') {
		t.Errorf("after a refusal with an escape character: got the log %q, want no such character", text)
	}
}

// A replica that does not answer a brief query holds it up for 100 ms, once. The
// replica is waited for again after it has answered something.
func TestLateReplicaIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		wire := &bus{receivers: map[string]func(string, []byte){}}
		here, near := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n1"}, Others: 1})
		_, far := serveInMemory(t, log, ServerOptions{Nodes: on{wire, "n2"}, Others: 1})
		var hold atomic.Pointer[chan struct{}]
		slow := func(name string) func(string, []byte) ([]byte, error) {
			return func(string, []byte) ([]byte, error) {
				if c := hold.Load(); c != nil {
					<-*c
				}
				return []byte(name), nil
			}
		}
		for name, net := range map[string]*wires{"near": near, "far": far} {
			for _, r := range []*Reporter{NewReporter(ReporterOptions{Answer: echo("quick " + name)}), NewReporter(ReporterOptions{Answer: slow(name)})} {
				o := options("memory")
				o.Name, o.dial, o.Reporter = fmt.Sprintf("%s-%p", name, r), net.dial, r
				following(t, openFollower(t), o)
			}
		}
		time.Sleep(time.Second)
		ask := func(when string, wantAnswers int, wantTime time.Duration) {
			t.Helper()
			began := time.Now()
			_, asked, answered := here.AskBriefly(t.Context(), "ping", nil)
			if d := time.Since(began); asked != 4 || answered != wantAnswers || d != wantTime {
				t.Errorf("%s: got %d of %d answers after %v, want %d of 4 after %v", when, answered, asked, d, wantAnswers, wantTime)
			}
		}
		ask("all answer", 4, 0)
		stuck := make(chan struct{})
		hold.Store(&stuck)
		ask("two are stuck", 2, briefTime)
		for range 2 * maxAsking {
			began := time.Now()
			here.AskBriefly(t.Context(), "ping", nil)
			if d := time.Since(began); d != 0 {
				t.Fatalf("a replica that missed an answer is waited for again: got %v, want no wait", d)
			}
		}
		if _, _, answered := here.Ask(t.Context(), "ping", nil); answered != 2 {
			t.Errorf("a patient query: got %d answers, want the 2 of those that answer", answered)
		}
		hold.Store(nil)
		close(stuck)
		time.Sleep(time.Second) // the late answers arrive
		ask("the two are back", 4, 0)
		wire.cut("n2") // the other node says nothing any more, and is not lost yet
		ask("the other node is silent", 2, briefTime)
		ask("the other node is late", 2, 0)
	})
}

// TestBriefQueriesHaveTheirOwnRoom shows that slow queries leave room for brief
// queries.
func TestBriefQueriesHaveTheirOwnRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		stuck := make(chan struct{})
		for name, answer := range map[string]func(string, []byte) ([]byte, error){
			"stuck": func(string, []byte) ([]byte, error) { <-stuck; return nil, nil }, "quick": echo("quick"),
		} {
			o := options("memory")
			o.Name, o.dial, o.Reporter = name, net.dial, NewReporter(ReporterOptions{Answer: answer})
			following(t, openFollower(t), o)
		}
		synctest.Wait()
		var all sync.WaitGroup
		for range 2 * maxAsking {
			all.Go(func() { s.Ask(t.Context(), "slow", nil) })
		}
		synctest.Wait()
		if _, _, answered := s.AskBriefly(t.Context(), "ping", nil); answered != 1 {
			t.Errorf("beside %d slow queries: got %d answers, want the one of the quick replica", 2*maxAsking, answered)
		}
		close(stuck)
		all.Wait()
	})
}

// A replica that was lost moments ago makes a brief answer incomplete: the
// traffic that it saw is not known.
func TestLostReplicaCountsAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, net := serveInMemory(t, newLog("log-1"), ServerOptions{})
		o := options("memory")
		dial, sever := net.severable()
		o.Name, o.dial, o.Reporter = "replica-a", dial, NewReporter(ReporterOptions{Answer: echo("a")})
		following(t, openFollower(t), o)
		synctest.Wait()
		if _, asked, answered := s.AskBriefly(t.Context(), "ping", nil); asked != 1 || answered != 1 {
			t.Errorf("while it follows: got %d of %d answers, want 1 of 1", answered, asked)
		}
		sever()
		synctest.Wait()
		if _, asked, answered := s.AskBriefly(t.Context(), "ping", nil); asked != 1 || answered != 0 {
			t.Errorf("once it is lost: got %d of %d answers, want 0 of 1", answered, asked)
		}
		time.Sleep(lostTime + time.Second)
		if _, asked, _ := s.AskBriefly(t.Context(), "ping", nil); asked != 0 {
			t.Errorf("a minute later: got %d asked, want none", asked)
		}
	})
}

// TestASlowAnswer shows that a stuck replica costs a second, and its own answer
// alone.
func TestASlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog("log-1")
		s, net := serveInMemory(t, log, ServerOptions{})
		release := make(chan struct{})
		start := func(name string, answer func(string, []byte) ([]byte, error)) {
			o := options("memory")
			o.Name, o.dial, o.Reporter = name, net.dial, NewReporter(ReporterOptions{Answer: answer})
			following(t, openFollower(t), o)
		}
		start("quick", echo("quick"))
		start("stuck", func(string, []byte) ([]byte, error) { <-release; return nil, nil })
		synctest.Wait()
		for range 2 * maxQueries {
			began := time.Now()
			answers, asked, answered := s.Ask(t.Context(), "ping", nil)
			if asked != 2 || answered != 1 || len(answers) != 1 || time.Since(began) > time.Second {
				t.Fatalf("beside a stuck replica: got %d of %d answers after %v, want 1 of 2 within a second", answered, asked, time.Since(began))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		s.Ask(ctx, "ping", nil)
		if d := time.Since(began); d != 50*time.Millisecond {
			t.Errorf("a query with a context of 50ms took %v, want 50ms", d)
		}
		if a := s.WaitApplied(t.Context(), Wanted{Revision: log.revoke("alice")}); a.Applied != 2 {
			t.Errorf("a revocation beside a stuck query: got %+v, want 2 applied", a)
		}
		s.reports.mu.Lock()
		left := len(s.reports.pending)
		s.reports.mu.Unlock()
		if left != 0 {
			t.Errorf("after the last query: got %d queries remembered, want none", left)
		}
		close(release)
	})
}
