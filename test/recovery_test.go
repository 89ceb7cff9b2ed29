package test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
	"rescind/test/freeport"
)

// The control nodes are lost, and come back from a backup that lacks the latest
// revocations. The procedure is that of OPERATIONS.md, "All control nodes are lost".
// No replica forgets a revocation at any step of it.
func TestRecoveryFromABackup(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	for name, nodes := range map[string]int{"one node": 1, "three nodes": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recoverFromABackup(t, nodes)
		})
	}
}

func recoverFromABackup(t *testing.T, nodes int) {
	s := start(t, envoytest.Options{ControlNodes: nodes})
	early, late, fresh, good := minted(t, s, map[string]any{"sub": "early"}), minted(t, s, map[string]any{"sub": "late"}), minted(t, s, map[string]any{"sub": "fresh"}), minted(t, s, map[string]any{"sub": "good"})
	recorded := minted(t, s, map[string]any{"sub": "recorded"}) // no replica has heard of its revocation
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "early"}})

	// The backup: one node after the other is stopped, copied and started again.
	backup := t.TempDir()
	for i := range nodes {
		s.Control[i].Stop()
		if err := os.CopyFS(filepath.Join(backup, envoytest.NodeName(i)), os.DirFS(s.ControlDir(i))); err != nil {
			t.Fatal(err)
		}
		startNode(t, s, i)
	}
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "late"}, "reason": "after the backup"})
	exported := export(t, s)

	wantDenied := func(when string) {
		t.Helper()
		for range 2 * len(s.Replicas) { // each replica is asked
			wantStatus(t, s, when+", revoked before the backup", early, http.StatusUnauthorized)
			wantStatus(t, s, when+", revoked after the backup", late, http.StatusUnauthorized)
			wantStatus(t, s, when+", a good token", good, http.StatusOK)
		}
	}
	for i := range nodes {
		s.Control[i].Kill()
		if err := os.RemoveAll(s.ControlDir(i)); err != nil {
			t.Fatal(err)
		}
	}
	wantDenied("all control nodes are lost")
	s.Replicas[0].Kill()
	if err := s.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "a replica that started without a control endpoint", good, http.StatusOK)
	wantDenied("a replica started from its disk")

	// The copies start apart from the replicas, under a new name of the log.
	name := heldLog(t, s)
	var apart []*child
	for i := range nodes {
		if err := os.CopyFS(s.ControlDir(i), os.DirFS(filepath.Join(backup, envoytest.NodeName(i)))); err != nil {
			t.Fatal(err)
		}
		apart = append(apart, startApart(t, s, i, name))
	}
	for i := range nodes {
		eventually.True(t, "the copy of "+envoytest.NodeName(i)+" is ready", func() bool { return answers(s.ControlURLs[i] + "/readyz") })
	}
	w := &rig{t: t, dir: t.TempDir()}
	out := operator(t, s, "import", w.write("export.ndjson", exported+fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"recorded"}}`, s.Issuer.URL())+"\n"), "--yes", "--unknown-issuer")
	t.Logf("the import says: %s", out)
	wantDenied("the restored log has the revocations that the replicas hold")
	for _, c := range apart {
		if status := c.stop(); status != 0 {
			t.Errorf("the copy of a node stopped with %d, want 0", status)
		}
	}
	for i := range nodes {
		startNode(t, s, i)
	}
	eventually.True(t, "every replica follows the restored log", func() bool {
		for i := range s.Replicas {
			if figures := scraped("http://" + s.HTTP[i] + "/metrics"); !strings.Contains(figures, "\nrescind_feed_connected 1\n") || !strings.Contains(figures, "\nrescind_feed_refused 0\n") {
				return false
			}
		}
		return true
	})
	wantDenied("the replicas follow the restored log")
	for range 2 * len(s.Replicas) {
		wantStatus(t, s, "revoked while the replicas were apart", recorded, http.StatusUnauthorized)
	}
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "fresh"}})
	wantStatus(t, s, "revoked in the restored log", fresh, http.StatusUnauthorized)
	wantDenied("after a revocation in the restored log")
}

// answers reports whether a page is there with status 200.
func answers(url string) bool {
	res, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// startNode starts a control node again and waits until it is ready, if a majority
// of the nodes runs.
func startNode(t *testing.T, s *envoytest.Stack, i int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.StartControl(ctx, i); err != nil {
		t.Fatal(err)
	}
	if len(s.Running()) <= s.ControlNodes/2 {
		return
	}
	for _, j := range s.Running() {
		if err := s.WaitControl(ctx, j); err != nil {
			t.Fatal(err)
		}
	}
}

// jqExport is the program in OPERATIONS.md that turns the list into lines for import.
var jqExport = regexp.MustCompile(`jq -c '([^']+)'`)

// export runs the commands of the regular export.
func export(t *testing.T, s *envoytest.Stack) string {
	t.Helper()
	guide, err := os.ReadFile("../.github/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	program := jqExport.FindSubmatch(guide)
	if program == nil {
		t.Fatalf("OPERATIONS.md has no jq program, want the one of the export")
	}
	jq := exec.CommandContext(t.Context(), "jq", "-c", string(program[1]))
	jq.Stdin = strings.NewReader(operator(t, s, "list", "--active", "--all", "-o", "json"))
	var said bytes.Buffer
	jq.Stderr = &said
	out, err := jq.Output()
	if err != nil {
		t.Fatalf("jq: got %v %s, want the lines of the export", err, said.String())
	}
	return string(out)
}

// operator runs a command at the first control node and returns its output.
func operator(t *testing.T, s *envoytest.Stack, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), rescind, append(args, "--control", s.ControlURLs[0], "--token-file", s.TokenFile)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("rescind %v: got %v, want exit status 0\n%s%s", args, err, out, said.String())
	}
	return string(out)
}

var heldLogName = regexp.MustCompile(`"msg":"following the feed".*"log":"([0-9a-f.]+)"`)

// heldLog returns the name of the log that a replica has in its log file.
func heldLog(t *testing.T, s *envoytest.Stack) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, envoytest.ReplicaName(1)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	found := heldLogName.FindSubmatch(text)
	if found == nil {
		t.Fatalf("the log of a replica is\n%s\nwant the name of the log that it follows", text)
	}
	return string(found[1])
}

// startApart starts a control node with --accept-log and a feed that no replica
// knows.
func startApart(t *testing.T, s *envoytest.Stack, i int, name string) *child {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, envoytest.NodeName(i)+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w := &rig{t: t, dir: t.TempDir()}
	config := strings.Replace(string(text), s.FeedAddr(i), freeport.Addrs(t, 1)[0], 1)
	return w.run(envoytest.NodeName(i)+"-apart", rescind, "control", "--config", w.write("apart.yaml", config), "--accept-log", name)
}

// An older copy of the log is started under its own name, which OPERATIONS.md
// forbids, and grows beyond the revisions that the replica has. The replica goes on
// denying, takes nothing from that log, and says so. The control endpoint says of no
// new revocation that it is in force.
func TestRestoredLogUnderItsOldNameIsNotFollowed(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	s := start(t, envoytest.Options{ControlNodes: 1, Replicas: 1})
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "before"}})
	s.Control[0].Stop()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(s.ControlDir(0))); err != nil {
		t.Fatal(err)
	}
	startNode(t, s, 0)
	lost := minted(t, s, map[string]any{"sub": "lost-2"})
	for i := range 3 {
		revoked(t, s, map[string]any{"claims": map[string]any{"sub": fmt.Sprint("lost-", i)}})
	}
	s.Control[0].Kill()
	if err := os.RemoveAll(s.ControlDir(0)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.ControlDir(0), os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	startNode(t, s, 0)
	for i := range 6 {
		cmd := exec.CommandContext(t.Context(), rescind, "revoke", "--issuer", s.Issuer.URL(), "--sub", fmt.Sprint("later-", i), "--wait", "--timeout", "500ms", "--control", s.ControlURLs[0], "--token-file", s.TokenFile)
		out, _ := cmd.CombinedOutput()
		if status := cmd.ProcessState.ExitCode(); status != 3 {
			t.Errorf("revocation %d of the restored log: got exit status %d, want 3, because no replica has it in force\n%s", i, status, out)
		}
		wantStatus(t, s, "revoked by the lost log", lost, http.StatusUnauthorized)
	}
	eventually.True(t, "the replica says that it refuses the log", func() bool {
		return strings.Contains(scraped("http://"+s.HTTP[0]+"/metrics"), "\nrescind_feed_refused 1\n")
	})
	if out := operator(t, s, "replicas"); !strings.Contains(out, envoytest.ReplicaName(0)) {
		t.Errorf("rescind replicas: got\n%s\nwant the replica, which is pending", out)
	}
}
