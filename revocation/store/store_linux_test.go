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
				t.Fatalf("append %d of a sole writer: got a conflict, want a revision", acked+1)
			}
			if acked++; acked > 200 {
				t.Fatalf("256 KiB appends to 24 MB: got %d accepted, want the disk full before", acked)
			}
		}
	}
	acked := fill()
	if acked < 10 {
		t.Fatalf("256 KiB appends to 24 MB: got %d accepted, want at least 10", acked)
	}
	start := time.Now()
	if _, err := l.Append(t.Context(), l.Last(), time.Now(), []byte("x")); !errors.Is(err, ErrUnavailable) || time.Since(start) > appendTimeout/2 {
		t.Errorf("an append to a full disk: got %v after %v, want %v within %v", err, time.Since(start), ErrUnavailable, appendTimeout/2)
	}
	// Half of it expires.
	eventually.True(t, "the log frees expired hours and takes writes", func() bool {
		_ = l.Expire(t.Context(), time.Now().Add(10*time.Hour))
		return l.Err() == nil
	})
	if rev, err := l.Append(t.Context(), l.Last(), time.Now().Add(100*time.Hour), []byte("after")); rev == 0 || err != nil {
		t.Fatalf("an append with room again: got revision %d, %v, want one", rev, err)
	}
	head := l.Last()
	_ = l.Close()
	again := mustOpen(t, Options{Dir: dir})
	if again.head != head {
		t.Errorf("after a restart: got head %d, want %d", again.head, head)
	}
	if len(again.got) < acked/2 || !strings.HasSuffix(again.got[len(again.got)-1], ":after") {
		t.Errorf("after a restart: got %d batches, want the %d of %d that have not expired and the one after", len(again.got), acked/2, acked)
	}
}
