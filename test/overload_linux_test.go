package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
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
// operator's revocation is not accepted. The load generator is a process of its own
// that shares the machine, with a lower priority: it stands for a machine of a
// stranger, whose processors are not the product's.
//
//	RESCIND_LONG=1 go test -run Overload -timeout 30m -v ./test
//
// RESCIND_BINARY names another binary of this edition. (The first edition knows no
// confirm=true.)
func TestOverload(t *testing.T) {
	if !longForm {
		t.Skip("a measurement: RESCIND_LONG=1 go test -run Overload -timeout 30m -v ./test")
	}
	for _, c := range overloads {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, envoytest.Options{
				AdminTokens: fmt.Sprintf(", {name: viewer, sha256: %s, roles: [viewer]}, {name: revoker, sha256: %s, roles: [revoker]}",
					envoytest.Digest(viewerToken), envoytest.Digest(revokerToken)),
				FeedTokens: fmt.Sprintf(", {name: stranger, sha256: %s}", envoytest.Digest(strangerToken)),
			})
			quiet := measure(t, s, "quiet", 20*time.Second)
			end := generate(t, c.name, &place{Issuer: s.Issuer.URL(), Control: s.ControlURLs[0], Feed: s.FeedAddr(0)})
			under := measure(t, s, "overload", 40*time.Second)
			answers := end()
			t.Logf("the overload was answered: %s", answers)
			t.Logf("Check          quiet %v, overload %v, p99 %.1f times", quiet.checks, under.checks, float64(under.checks.at(99))/float64(quiet.checks.at(99)))
			t.Logf("revoke --wait  quiet %v, overload %v", quiet.revocations, under.revocations)
			t.Logf("processor time of each second: quiet %v, overload %v", quiet.spent, under.spent)
			if n := acceptedImports(answers); n > 0 {
				t.Logf("processor time of each accepted line: %v", perLine(quiet, under, n))
			}
		})
	}
}

// Credentials of the overloads. None is an operator's.
const (
	viewerToken   = "viewer-of-the-overload"
	revokerToken  = "revoker-of-the-overload"
	strangerToken = "feed-credential-of-the-overload"
)

// figures are the latencies of honest callers, and the processor time meanwhile.
type figures struct {
	length              time.Duration
	checks, revocations latencies
	spent               map[string]time.Duration // of each second, by process
}

// measure asks each replica 200 times a second about good tokens, and revokes as
// an operator five times a second. A late question counts from the time at which
// it was due. A slow product is asked less often.
func measure(t *testing.T, s *envoytest.Stack, when string, length time.Duration) (f figures) {
	t.Helper()
	f.length = length
	var mu sync.Mutex
	var callers sync.WaitGroup
	began := time.Now()
	end := began.Add(length)
	every := func(pause time.Duration, do func(n int) error, into *latencies) {
		callers.Go(func() {
			for n, due := 0, time.Now(); due.Before(end) && time.Now().Before(end); n, due = n+1, due.Add(pause) {
				time.Sleep(time.Until(due))
				err := do(n)
				took := time.Since(due)
				if into == &f.revocations && took > 100*time.Millisecond {
					t.Logf("%s: the revocation of %v took %v", when, due.Sub(began).Round(time.Second), took.Round(time.Millisecond))
				}
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
	before := processorTimes(t, s)
	callers.Wait()
	f.spent = processorTimes(t, s)
	for name := range f.spent {
		f.spent[name] = (f.spent[name] - before[name]) / (length / time.Second)
	}
	return f
}

// acceptedImports returns the number of accepted imports among the answers to an
// overload.
func acceptedImports(answers string) (n int) {
	if _, rest, ok := strings.Cut(answers, "201 Created: "); ok {
		_, _ = fmt.Sscan(rest, &n)
	}
	return n
}

// perLine returns how much processor time one line of n imports took beside the
// honest callers, by process.
func perLine(quiet, under figures, imports int) map[string]time.Duration {
	took := map[string]time.Duration{}
	for _, name := range []string{"control", "replicas"} {
		more := float64(under.spent[name]-quiet.spent[name]) * under.length.Seconds()
		took[name] = time.Duration(more / float64(imports*linesOfAnImport))
	}
	return took
}

// processorTimes returns the processor time of the control endpoint, of the
// replicas together, and of this process.
func processorTimes(t *testing.T, s *envoytest.Stack) map[string]time.Duration {
	t.Helper()
	spent := map[string]time.Duration{"test": processorTime(t, os.Getpid()), "control": processorTime(t, s.Control[0].PID())}
	for _, r := range s.Replicas {
		spent["replicas"] += processorTime(t, r.PID())
	}
	return spent
}

// processorTime returns the processor time of a process, threads that have ended
// included.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the state on
	ticks := 0
	for _, field := range fields[11:13] { // in user mode, in the kernel
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every Linux that Go runs on
}

// tally counts the answers to an overload.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

// place is where an overload goes.
type place struct{ Issuer, Control, Feed string }

var overloads = []struct {
	name     string
	overload func(ctx context.Context, at *place, said *tally)
}{
	{"512 half-sent POSTs and two slow uploads", halfSentPosts},
	{"100,000 shapes", manyShapes},
	{"70,000 entries of one digest", oneDigest},
	{"4,200 made-up replicas", madeUpReplicas},
}

// generatorOf names the overload that this process makes in the place of tests.
const generatorOf = "RESCIND_OVERLOAD"

// generate starts a process that makes an overload until end is called. end returns
// the answers that the overload got.
func generate(t *testing.T, name string, at *place) (end func() string) {
	t.Helper()
	where, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "5", os.Args[0])
	cmd.Env = append(os.Environ(), generatorOf+"="+name, generatorOf+"_AT="+string(where))
	cmd.Stderr = os.Stderr
	var answers bytes.Buffer
	cmd.Stdout = &answers
	goOn, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceValue(func() string {
		_ = goOn.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the generator: wanted exit status 0, got %v", err)
		}
		spent := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		t.Logf("processor time of the generator in each second: %v", (spent / (time.Since(began) / time.Second)).Round(time.Millisecond))
		return answers.String()
	})
	t.Cleanup(func() { end() })
	return end
}

// overloadUntilEOF makes the named overload until standard input ends, and prints
// the answers.
func overloadUntilEOF(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	at, said := &place{}, &tally{counts: map[string]int{}}
	if err := json.Unmarshal([]byte(os.Getenv(generatorOf+"_AT")), at); err != nil {
		panic(err)
	}
	for _, o := range overloads {
		if o.name == name {
			o.overload(ctx, at, said)
		}
	}
	fmt.Println(said)
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

// A generator is this program with another environment. It runs no tests.
func init() {
	if name := os.Getenv(generatorOf); name != "" {
		overloadUntilEOF(name)
		os.Exit(0)
	}
}
