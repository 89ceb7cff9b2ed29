package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// profileTurn is how long a profile lasts.
const profileTurn = 8 * time.Second

// profiles keeps a processor profile of the product under each kind of traffic, and
// describes the one of seen tokens. The product is a build with a listener for
// profiles.
func (b *bench) profiles(ctx context.Context) error {
	if b.profile == "" || len(b.entries) == 0 {
		return nil
	}
	if err := os.MkdirAll(b.profile, 0o750); err != nil {
		return err
	}
	note("building rescind with a listener for profiles")
	plain := b.binary
	defer func() { b.binary = plain }()
	b.binary += "-pprof"
	if err := build(ctx, b.binary, true); err != nil {
		return err
	}
	entries := b.entries[len(b.entries)-1]
	d, err := b.product(ctx, "rescind-profile", entries)
	if err != nil {
		return err
	}
	s, err := d.replica(ctx)
	if err != nil {
		return err
	}
	if s.pprof, err = s.listening("pprof"); err != nil {
		return err
	}
	traffic, err := b.issuer.traffic(b.algorithms[0], b.unseen)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		path := filepath.Join(b.profile, strings.ReplaceAll(kind, " ", "-")+".pprof")
		note("profile of %s tokens, in %s", kind, path)
		if err := b.keepProfile(ctx, s, traffic, kind, path); err != nil {
			return err
		}
		if kind != seen {
			continue
		}
		traces, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", "-unit=us", b.binary, path).Output() //nolint:gosec // our own
		if err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
		b.tables.add("profile", profileMarkdown(b.options, entries, costsOf(string(traces))))
	}
	return errors.Join(b.end(s.process), b.end(d.control))
}

// keepProfile writes a profile of a server under one kind of traffic.
func (b *bench) keepProfile(ctx context.Context, s *server, t *traffic, kind, path string) error {
	o := b.options
	o.turn = profileTurn + time.Second
	driven := make(chan error, 1)
	go func() { _, err := measure(ctx, s, t, kind, o); driven <- err }()
	text, err := s.fetchProfile(ctx)
	if err = errors.Join(err, <-driven); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func (s *server) fetchProfile(ctx context.Context) ([]byte, error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.pprof, int(profileTurn.Seconds()))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", url, answer.Status, text)
	}
	return text, err
}

// items name the parts of the processor time. A sample belongs to the first function
// of its stack, from the innermost, that is in an item. So each sample counts once, and
// the helpers of the runtime count for the code that calls them.
var items = []struct {
	name     string
	prefixes []string
}{
	{"the system writes to the connection", []string{"internal/poll.(*FD).Write", "internal/poll.(*FD).Writev"}},
	{"the system reads from the connection", []string{"internal/poll.(*FD).Read"}},
	{"goroutines and threads are switched and woken", []string{
		"runtime.findRunnable", "runtime.schedule", "runtime.netpoll", "runtime.mcall", "runtime.gopark", "runtime.goready", "runtime.ready", "runtime.wakep",
		"runtime.park_m", "runtime.goexit0", "runtime.newproc", "runtime.chansend", "runtime.chanrecv", "runtime.selectgo", "runtime.notewakeup", "runtime.stopm", "runtime.startm",
		"runtime.sysmon", "runtime.gosched", "runtime.mstart", "runtime.resetspinning", "runtime.send", "runtime.recv", "runtime.closechan", "runtime.timer", "time.", "sync.(*Cond)", "sync.(*WaitGroup)",
	}},
	{"memory is allocated and collected", []string{"runtime.mallocgc", "runtime.gcBgMark", "runtime.gcAssist", "runtime.gcDrain", "runtime.bgsweep", "runtime.bgscavenge", "runtime.newobject", "runtime.makeslice", "runtime.growslice", "runtime.gcWriteBarrier", "runtime.wbBufFlush", "runtime.gcStart"}},
	{"stacks of goroutines grow", []string{"runtime.copystack", "runtime.newstack", "runtime.morestack"}},
	{"HTTP/2 frames and header compression", []string{"golang.org/x/net/http2"}},
	{"rescind reads the Check and writes the answer", []string{"rescind/envoy."}},
	{"rescind finds the token in the cache", []string{"rescind/authz/tokencache", "rescind/authz.(*Authorizer).recall", "github.com/dchest/siphash", "github.com/puzpuzpuz/xsync"}},
	{"rescind looks the token up among the revocations", []string{"rescind/revocation"}},
	{"rescind verifies a token", []string{"crypto/", "rescind/jwks", "encoding/json", "github.com/go-json-experiment", "github.com/golang-jwt"}},
	{"rescind counts and observes", []string{"rescind/authz/watch", "rescind/authz/decisionlog", "rescind/authz/gate", "github.com/prometheus"}},
	{"rescind decides otherwise", []string{"rescind/"}},
	{"gRPC transports and dispatches the call", []string{"google.golang.org/grpc"}},
}

// cost is the processor time of an item.
type cost struct {
	item   string
	micros float64
	most   map[string]float64 // by innermost function
}

// costsOf adds up the samples of a profile, as `go tool pprof -traces` prints them, by
// item. The largest comes first.
func costsOf(traces string) (all []cost) {
	by := map[string]*cost{}
	var micros float64
	var stack []string
	count := func() {
		if len(stack) == 0 {
			return
		}
		item := itemOf(stack)
		if by[item] == nil {
			by[item] = &cost{item: item, most: map[string]float64{}}
		}
		by[item].micros += micros
		by[item].most[stack[0]] += micros
		stack = nil
	}
	for scanner := bufio.NewScanner(strings.NewReader(traces)); scanner.Scan(); {
		line := strings.TrimSuffix(strings.TrimSpace(scanner.Text()), " (inline)")
		if strings.HasPrefix(line, "----") {
			count()
			continue
		}
		value, function, _ := strings.Cut(line, "us ")
		if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil && function != "" {
			count()
			micros, stack = n, []string{strings.TrimSpace(function)}
		} else if len(stack) > 0 && line != "" {
			stack = append(stack, line)
		}
	}
	count()
	for _, c := range by {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b cost) int { return int(b.micros - a.micros) })
	return all
}

// itemOf returns the item of a stack.
func itemOf(stack []string) string {
	for _, function := range stack {
		for _, item := range items {
			for _, prefix := range item.prefixes {
				if strings.HasPrefix(function, prefix) {
					return item.name
				}
			}
		}
	}
	return "other"
}

// profileMarkdown returns the table of the items of a profile.
func profileMarkdown(o options, entries int, all []cost) string {
	var b bytes.Buffer
	b.WriteString(taken(o, "A profile of %v of a replica with %s revocations, seen tokens with %s. A sample belongs to the innermost function that is in an item.", profileTurn, thousands(entries), o.algorithms[0]))
	total := 0.0
	for _, c := range all {
		total += c.micros
	}
	fmt.Fprintln(&b, "| item | share of the processor time | most of it in |\n|---|---|---|")
	for _, c := range all {
		most, least := "", -1.0
		for function, n := range c.most {
			if n > least {
				most, least = function, n
			}
		}
		fmt.Fprintf(&b, "| %s | %.1f %% | `%s` %.1f %% |\n", c.item, c.micros/total*100, most, least/total*100)
	}
	return b.String()
}
