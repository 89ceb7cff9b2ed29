package test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

// The control endpoint's disk fills up. Writes get 503, acknowledged changes stay,
// and the control endpoint goes on without a restart once there is room again.
func TestFaultsDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, envoytest.NodeName(0))
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", log, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("a small tmpfs cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(log, syscall.MNT_DETACH) })
	g := newFaultRig(t, startIn(t, dir, envoytest.Options{}))
	for round := range rounds(1, 10) {
		stop := g.load(4)
		g.goesOn("before", 50)
		stop()
		hog := filepath.Join(log, fmt.Sprint("hog-", round))
		fill(t, hog)
		// The log has set some room aside for itself. That is used up soon.
		for n := 0; ; n++ {
			lines := make([]string, bulk)
			for i := range lines {
				lines[i] = fmt.Sprintf(`{"issuer":%q,"claims":{"jti":"bulk-%d-%d-%d"},"reason":%q}`, g.Issuer.URL(), round, n, i, strings.Repeat("x", 400))
			}
			status, body, err := g.imports(t.Context(), lines)
			if err != nil || status != http.StatusCreated && status != http.StatusServiceUnavailable {
				t.Fatalf("an import while the disk fills up: wanted 201 or 503, got %d %s %v", status, body, err)
			}
			if status == http.StatusServiceUnavailable {
				break
			}
			g.imported += bulk
			if n == 100 {
				t.Fatal("wanted a 503 from a full disk, 200,000 revocations were accepted")
			}
		}
		f := &tokenModel{jti: fmt.Sprint("on-a-full-disk-", round)}
		begun := time.Now()
		if g.revoke(t.Context(), f, false) || time.Since(begun) > 12*time.Second { // it does not hang
			t.Fatalf("a revocation on a full disk: wanted a refusal within 12s, got acknowledged %v after %v", !f.doubtful, time.Since(begun))
		}
		for i := range g.replicas { // decisions go on
			known := g.tokens[len(g.tokens)-1]
			if got, err := g.ask(t.Context(), i, known.jti); known.revoked && !known.doubtful && got != "revoked" {
				t.Errorf("%s about %s on a full disk: wanted revoked, got %q, %v", envoytest.ReplicaName(i), known.jti, got, err)
			}
		}
		if err := os.Remove(hog); err != nil {
			t.Fatal(err)
		}
		g.verify("with room again")
	}
}

// fill writes a file that leaves little room on the disk.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1<<20)
	for left := int64(disk.Bavail)*disk.Bsize - 3<<20; left > 0; left -= int64(len(piece)) {
		_, _ = rand.Read(piece)
		if _, err := f.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
}
