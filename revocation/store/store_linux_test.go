package store

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/test/eventually"
)

// A full disk: appends fail at once, nothing acknowledged is lost, and when
// there is room again it goes on without a restart.
func TestDiskFullAndRoomAgain(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("a small tmpfs cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	l := mustOpen(t, Options{Dir: dir})
	body := strings.Repeat("x", 256<<10)
	fill := func() (acked int) {
		for {
			rev, err := l.Append(t.Context(), l.Last(), time.Now().Add(time.Duration(acked%2)*50*time.Hour), []byte(body))
			if err != nil {
				if !errors.Is(err, ErrUnavailable) {
					t.Fatal(err)
				}
				return acked
			}
			if rev == 0 {
				t.Fatal("a conflict without another writer")
			}
			if acked++; acked > 200 {
				t.Fatal("24 MB take more than 50")
			}
		}
	}
	acked := fill()
	if acked < 10 {
		t.Fatalf("only %d appends were accepted", acked)
	}
	start := time.Now()
	if _, err := l.Append(t.Context(), l.Last(), time.Now(), []byte("x")); !errors.Is(err, ErrUnavailable) || time.Since(start) > appendTimeout/2 {
		t.Errorf("on a full disk: %v after %v", err, time.Since(start))
	}
	// Half of it expires.
	eventually.True(t, "the log frees expired hours and takes writes", func() bool {
		_ = l.Expire(t.Context(), time.Now().Add(10*time.Hour))
		return l.Err() == nil
	})
	if rev, err := l.Append(t.Context(), l.Last(), time.Now().Add(100*time.Hour), []byte("after")); rev == 0 || err != nil {
		t.Fatalf("with room again: %d, %v", rev, err)
	}
	head := l.Last()
	_ = l.Close()
	again := mustOpen(t, Options{Dir: dir})
	if again.head != head {
		t.Errorf("head %d after the restart, was %d", again.head, head)
	}
	if len(again.got) < acked/2 || !strings.HasSuffix(again.got[len(again.got)-1], ":after") {
		t.Errorf("%d batches after the restart, %d of %d were not expired", len(again.got), acked/2, acked)
	}
}
