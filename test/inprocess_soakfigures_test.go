package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// usage is a process as the kernel sees it.
type usage struct {
	resident int // MiB, in tenths
	maps     int
	memories int // maps of the module's shared memory
	sockets  int // of TCP
	files    int // all other descriptors
	threads  int
}

func (u usage) String() string {
	return fmt.Sprintf("%d.%d MiB, %d maps (%d shared), %d TCP sockets, %d other descriptors, %d threads", u.resident/10, u.resident%10, u.maps, u.memories, u.sockets, u.files, u.threads)
}

func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for line := range strings.Lines(read("status")) {
		var n int
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &n)
			u.resident = n * 10 / 1024
		}
		if rest, ok := strings.CutPrefix(line, "Threads:"); ok {
			_, _ = fmt.Sscan(rest, &u.threads)
		}
	}
	all := read("maps")
	u.maps, u.memories = strings.Count(all, "\n"), strings.Count(all, "memfd:rescind")
	tcp := map[string]bool{}
	for line := range strings.Lines(read("net/tcp") + read("net/tcp6")) {
		if fields := strings.Fields(line); len(fields) > 9 {
			tcp["socket:["+fields[9]+"]"] = true
		}
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if target, err := os.Readlink(path); err == nil && tcp[target] {
			u.sockets++
		} else if err == nil {
			u.files++
		}
	}
	return u
}

// soakCount counts the answers to requests of one kind.
type soakCount struct{ allowed, denied, unavailable, cut int }

type soakCounts struct {
	began                                         time.Time
	wrong, kills, updates, rotations, revocations atomic.Int64
	wide, starved                                 atomic.Int64
	byEnvoy                                       int64
	longestOutage                                 time.Duration

	mu      sync.Mutex
	of      map[string]*soakCount // by kind
	reasons map[string]int        // why answers had to be denials; "" counts the others
	resets  int
	longest time.Duration // from an acknowledgement to the end of a stream
	late    time.Duration // the same if the replica went away in between
}

// add counts an answer. The status 0 is a connection that was cut.
func (c *soakCounts) add(kind string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[kind]
	if n == nil {
		n = &soakCount{}
		c.of[kind] = n
	}
	switch status {
	case 0:
		n.cut++
	case 200:
		n.allowed++
	case 503:
		n.unavailable++
	default:
		n.denied++
	}
}

// judged counts the reason for which an answer had to be a denial.
func (c *soakCounts) judged(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[reason]++
}

func (c *soakCounts) deniedAs(reason string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reasons[reason]
}

func (c *soakCounts) reset(after time.Duration, away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resets++
	if away {
		c.late = max(c.late, after)
	} else {
		c.longest = max(c.longest, after)
	}
}

// line returns all counts.
func (c *soakCounts) line() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(c.of)) {
		n := c.of[kind]
		total += n.allowed + n.denied + n.unavailable + n.cut
		fmt.Fprintf(&b, "; %s: %d allowed, %d denied, %d unavailable, %d cut", kind, n.allowed, n.denied, n.unavailable, n.cut)
	}
	return fmt.Sprintf("%v: %d requests, %d of them answered by Envoy itself, %d wrong answers, %d good tokens denied without an outage; %d kills, longest outage %v; %d listeners, %d rotations, %d revocations (%d wide); %d streams reset, at most %v after the acknowledgement, and %v if the replica went away in between%s",
		time.Since(c.began).Round(time.Second), total, c.byEnvoy, c.wrong.Load(), c.starved.Load(), c.kills.Load(), c.longestOutage.Round(time.Millisecond), c.updates.Load(), c.rotations.Load(), c.revocations.Load(), c.wide.Load(), c.resets, c.longest.Round(time.Millisecond), c.late.Round(time.Millisecond), b.String())
}

func (k *soak) summary() string {
	return fmt.Sprintf("%s; Envoy at first: %v; at last: %v; the replica at first: %v; at last: %v",
		k.counts.line(), k.envoy[0], k.envoy[len(k.envoy)-1], k.replica[0], k.replica[len(k.replica)-1])
}

// checkTrends compares the medians of the first ten samples after the warm-up of five
// with those of the last ten. A shorter run has no trends.
func (k *soak) checkTrends() {
	k.t.Helper()
	const warm, some = 5, 10
	if len(k.envoy) < warm+2*some {
		return
	}
	for _, c := range []struct {
		name string
		of   []usage
		read func(usage) int
		more float64 // times the first median
		and  int
	}{
		{"Envoy's memory in tenths of a MiB", k.envoy, func(u usage) int { return u.resident }, 1.1, 0},
		{"Envoy's maps", k.envoy, func(u usage) int { return u.maps }, 1.1, 0},
		{"Envoy's TCP sockets", k.envoy, func(u usage) int { return u.sockets }, 1.1, 4},
		{"Envoy's other descriptors", k.envoy, func(u usage) int { return u.files }, 1, 2},
		{"Envoy's threads", k.envoy, func(u usage) int { return u.threads }, 1, 0},
		{"the replica's memory in tenths of a MiB", k.replica, func(u usage) int { return u.resident }, 1.2, 0},
		{"the replica's TCP sockets", k.replica, func(u usage) int { return u.sockets }, 1, 2},
		{"the replica's other descriptors", k.replica, func(u usage) int { return u.files }, 1, 2},
	} {
		first, last := median(c.of[warm:warm+some], c.read), median(c.of[len(c.of)-some:], c.read)
		k.t.Logf("%s: %d at first, %d at last", c.name, first, last)
		if most := int(float64(first)*c.more) + c.and; last > most {
			k.t.Errorf("%s: the median of the first %d minutes is %d and that of the last %d, want at most %d", c.name, some, first, last, most)
		}
	}
}

func median(of []usage, read func(usage) int) int {
	var all []int
	for _, u := range of {
		all = append(all, read(u))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// kidOf returns the kid of a token.
func kidOf(token string) string {
	first, _, _ := strings.Cut(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(first)
	var header struct{ Kid string }
	_ = json.Unmarshal(text, &header)
	return header.Kid
}
