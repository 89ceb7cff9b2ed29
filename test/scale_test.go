package test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

// Many revocations are imported. An empty replica fetches them, a replica reads
// them from its disk, and a control endpoint reads them from its log. The figures
// come from
//
//	RESCIND_ENTRIES=10000000 go test -run Scale -timeout 30m -v ./test
//
// The short form runs with all tests.
func TestScale(t *testing.T) {
	withoutRace(t)
	n := 30_000
	if text := os.Getenv("RESCIND_ENTRIES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Parallel()
	}
	g := newFaultRig(t, start(t, envoytest.Options{Replicas: 1}))
	step := func(what string, do func()) {
		t.Helper()
		begun := time.Now()
		do()
		t.Logf("%-38s %8v", what, time.Since(begun).Round(time.Millisecond))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(fmt.Sprintf("%d imported", n), func() {
		for from := 0; from < n; from += 100_000 {
			lines := make([]string, min(100_000, n-from))
			for i := range lines {
				lines[i] = fmt.Sprintf(`{"issuer":%q,"claims":{"jti":"bulk-%d"}}`, g.Issuer.URL(), from+i)
			}
			if status, body, err := g.imports(t.Context(), lines); err != nil || status != http.StatusCreated {
				t.Fatalf("import from line %d: wanted 201, got %d %s %v", from, status, body, err)
			}
		}
	})
	denies := func() {
		t.Helper()
		g.barrier("many")
		for _, i := range []int{0, rand.N(n), n - 1} {
			jti := fmt.Sprint("bulk-", i)
			if got, err := g.ask(t.Context(), 0, jti); got != "revoked" {
				t.Errorf("%s: wanted revoked, got %q, %v", jti, got, err)
			}
		}
		if got, err := g.ask(t.Context(), 0, fmt.Sprint("bulk-", n)); got != "ok" {
			t.Errorf("a token that is not revoked: wanted ok, got %q, %v", got, err)
		}
	}
	denies()
	memory := func(p *envoytest.Process) {
		t.Helper()
		peak := resident(t, p)
		if n > 1_000_000 {
			time.Sleep(5 * time.Second) // the process gives back the memory of its start
		}
		t.Logf("bytes resident a revocation, then and soon after: %d, %d", peak/n, resident(t, p)/n)
	}
	starts := func() {
		must(g.StartReplica(t.Context(), 0))
		must(g.WaitReady(t.Context(), 0))
	}
	g.Replicas[0].Stop()
	must(os.RemoveAll(filepath.Join(g.Dir, envoytest.ReplicaName(0))))
	step("a replica that had none", starts)
	denies()
	if n > 1_000_000 { // worth being put in order
		snapshot := filepath.Join(g.Dir, envoytest.ReplicaName(0), "revocations", "revocations.snapshot")
		for begun := time.Now(); !begins(t, snapshot, `"ordered":true`); time.Sleep(time.Second) {
			if time.Since(begun) > 5*time.Minute {
				t.Fatal("wanted the snapshot to be put in order, it was not")
			}
		}
	}
	memory(g.Replicas[0])
	g.Replicas[0].Stop()
	step("a replica that had all on disk", starts)
	denies()
	memory(g.Replicas[0])
	g.Control[0].Stop()
	step("the control endpoint", func() {
		must(g.StartControl(t.Context(), 0))
		must(g.WaitControl(t.Context(), 0))
	})
	memory(g.Control[0])
	denies()
}

// begins says whether text is near the beginning of a file.
func begins(t *testing.T, path, text string) bool {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 512)
	_, _ = io.ReadFull(f, head)
	return strings.Contains(string(head), text)
}

// resident returns the resident memory of a process, or 0 if the system does not
// tell.
func resident(t *testing.T, p *envoytest.Process) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	return 0
}
