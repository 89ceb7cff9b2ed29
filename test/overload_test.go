package test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
)

// The binary under four overloads, each made with a weak credential. The test
// prints figures beside the same figures of the quiet product: the time of an
// honest Check, and the time of an operator's revocation until every honest
// replica has it in force. It fails if an honest request is answered wrongly or an
// operator's revocation is not accepted. The load generator shares the machine.
//
//	RESCIND_LONG=1 go test -run Overload -timeout 30m -v ./test
//
// RESCIND_BINARY names another binary of this edition. (The first edition knows no
// confirm=true.)
func TestOverload(t *testing.T) {
	if !longForm {
		t.Skip("a measurement: RESCIND_LONG=1 go test -run Overload -timeout 30m -v ./test")
	}
	for _, c := range []struct {
		name     string
		overload func(ctx context.Context, s *envoytest.Stack, said *tally)
	}{
		{"512 half-sent POSTs and two slow uploads", halfSentPosts},
		{"100,000 shapes", manyShapes},
		{"70,000 entries of one digest", oneDigest},
		{"4,200 made-up replicas", madeUpReplicas},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, envoytest.Options{
				AdminTokens: fmt.Sprintf(", {name: viewer, sha256: %s, roles: [viewer]}, {name: revoker, sha256: %s, roles: [revoker]}",
					envoytest.Digest(viewerToken), envoytest.Digest(revokerToken)),
				FeedTokens: fmt.Sprintf(", {name: stranger, sha256: %s}", envoytest.Digest(strangerToken)),
			})
			quiet := measure(t, s, "quiet", 20*time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			var attack sync.WaitGroup
			said := &tally{counts: map[string]int{}}
			attack.Go(func() { c.overload(ctx, s, said) })
			under := measure(t, s, "overload", 40*time.Second)
			cancel()
			attack.Wait()
			t.Logf("the overload was answered: %s", said)
			t.Logf("Check          quiet %v, overload %v, p99 %.1f times", quiet.checks, under.checks, float64(under.checks.at(99))/float64(quiet.checks.at(99)))
			t.Logf("revoke --wait  quiet %v, overload %v", quiet.revocations, under.revocations)
		})
	}
}

// Credentials of the overloads. None is an operator's.
const (
	viewerToken   = "viewer-of-the-overload"
	revokerToken  = "revoker-of-the-overload"
	strangerToken = "feed-credential-of-the-overload"
)

// figures are the latencies of honest callers.
type figures struct{ checks, revocations latencies }

type latencies []time.Duration

// at returns a percentile.
func (l latencies) at(percent int) time.Duration {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[min(len(l)*percent/100, len(l)-1)]
}

func (l latencies) String() string {
	r := func(percent int) time.Duration { return l.at(percent).Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %v p99 %v longest %v of %d", r(50), r(99), r(100), len(l))
}

// measure asks each replica 200 times a second about good tokens, and revokes as
// an operator five times a second. A late question counts from the time at which
// it was due. A slow product is asked less often.
func measure(t *testing.T, s *envoytest.Stack, when string, length time.Duration) (f figures) {
	t.Helper()
	var mu sync.Mutex
	var callers sync.WaitGroup
	end := time.Now().Add(length)
	every := func(pause time.Duration, do func(n int) error, into *latencies) {
		callers.Go(func() {
			for n, due := 0, time.Now(); due.Before(end) && time.Now().Before(end); n, due = n+1, due.Add(pause) {
				time.Sleep(time.Until(due))
				err := do(n)
				took := time.Since(due)
				mu.Lock()
				*into = append(*into, took)
				mu.Unlock()
				if err != nil {
					t.Errorf("%s, request %d: got %v, want nil", when, n, err)
					return
				}
			}
		})
	}
	var tokens []string
	for n := range 64 {
		tokens = append(tokens, minted(t, s, map[string]any{"jti": fmt.Sprintf("honest-%d", n), "sub": fmt.Sprintf("user-%d", n)}))
	}
	for i, addr := range s.GRPC {
		replica, err := envoy.Dial(addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = replica.Close() }()
		every(5*time.Millisecond, func(n int) error {
			o, err := replica.Check(t.Context(), envoy.Question{Token: tokens[n%len(tokens)]})
			if err == nil && o.Reason() != "ok" {
				err = fmt.Errorf("%s decides %q about a good token", envoytest.ReplicaName(i), o.Reason())
			}
			return err
		}, &f.checks)
	}
	every(200*time.Millisecond, func(n int) error {
		body := map[string]any{"issuer": s.Issuer.URL(), "claims": map[string]any{"jti": fmt.Sprintf("%s-%d", when, n)}}
		a, err := s.Admin(t.Context(), http.MethodPost, "/v1/revocations?wait=all&timeout=10s", body, nil)
		if err == nil && a.Status != http.StatusCreated {
			t.Logf("%s: revoke --wait: %d %s", when, a.Status, a.Body[:min(len(a.Body), 300)])
		}
		if err == nil && a.Status >= 300 {
			err = fmt.Errorf("an operator's revocation is answered %d %s", a.Status, a.Body)
		}
		return err
	}, &f.revocations)
	callers.Wait()
	return f
}

// tally counts the answers to an overload.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(answer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[answer]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for answer, n := range c.counts {
		parts = append(parts, fmt.Sprintf("%s: %d", answer, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
