package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestWatchLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		events, hup, lost := make(chan fsnotify.Event), make(chan os.Signal), make(chan error)
		var changed atomic.Bool
		var calls atomic.Int32
		w := watch{
			look:   func() bool { return changed.Swap(false) },
			events: events, errors: lost, hup: hup, debounce: 100 * time.Millisecond,
			onChange: func() { calls.Add(1) },
		}
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx) }()
		after := func(d time.Duration, want int32, what string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if calls.Load() != want {
				t.Fatalf("%s: %d calls, want %d", what, calls.Load(), want)
			}
		}
		events <- fsnotify.Event{}
		after(time.Second, 0, "another file of the folder")
		changed.Store(true)
		events <- fsnotify.Event{}
		after(60*time.Millisecond, 0, "not settled")
		changed.Store(true)
		events <- fsnotify.Event{}
		after(60*time.Millisecond, 0, "changed again")
		events <- fsnotify.Event{}
		after(60*time.Millisecond, 1, "settled, though the folder is busy")
		changed.Store(true)
		after(pollInterval+100*time.Millisecond, 2, "no event: polled")
		changed.Store(true)
		lost <- errors.New("overflow")
		after(100*time.Millisecond, 3, "events were lost")
		hup <- syscall.SIGHUP
		after(0, 4, "SIGHUP")
		changed.Store(true)
		hup <- syscall.SIGHUP
		after(pollInterval+time.Second, 5, "SIGHUP and a change are one call")
		close(events)
		changed.Store(true)
		after(pollInterval+100*time.Millisecond, 6, "no events any more: polled")
		cancel()
		<-done
	})
}

// The files of a real file system, in each way that they are replaced.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	put("plain.yaml", "1")
	for _, version := range []string{"v1", "v2"} { // as Kubernetes mounts a volume
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		put(version+"/mounted.yaml", version)
	}
	link("v1", "..data")
	link("..data/mounted.yaml", "mounted.yaml")

	ctx, cancel := context.WithCancel(t.Context())
	called, done := make(chan struct{}, 10), make(chan struct{})
	files := []string{filepath.Join(dir, "plain.yaml"), filepath.Join(dir, "mounted.yaml")}
	go func() {
		defer close(done)
		Watch(ctx, files, time.Millisecond, slog.New(slog.DiscardHandler), func() { called <- struct{}{} })
	}()
	defer func() { cancel(); <-done }()
	expect := func(what string, change func()) {
		t.Helper()
		// A change before the watch has begun is none, so it is made again.
		for begun := time.Now(); time.Since(begun) < 2*pollInterval; {
			change()
			select {
			case <-called:
				for { // a change in several steps may cause several calls
					select {
					case <-called:
					case <-time.After(50 * time.Millisecond):
						return
					}
				}
			case <-time.After(500 * time.Millisecond):
			}
		}
		t.Errorf("%s: got no call, want one", what)
	}
	n := 0
	expect("a file written over", func() { n++; put("plain.yaml", string(make([]byte, n))) })
	expect("a file replaced by a rename", func() { put("next", "2"); move("next", "plain.yaml") })
	expect("a swapped symlink", func() {
		n++
		link([]string{"v1", "v2"}[n%2], "..data_tmp")
		move("..data_tmp", "..data")
	})
	expect("SIGHUP", func() { _ = syscall.Kill(os.Getpid(), syscall.SIGHUP) })
	put("unrelated", "x")
	select {
	case <-called:
		t.Error("a change of a file that is not watched: got a call, want none")
	case <-time.After(100 * time.Millisecond):
	}
}

func TestWatchWithoutEvents(t *testing.T) {
	if _, err := watchFolders([]string{filepath.Join(t.TempDir(), "none", "x")}); err == nil {
		t.Error("a folder that does not exist: got it watched, want an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Watch(ctx, []string{"/no/such/folder/x"}, 0, slog.New(slog.DiscardHandler), func() {})
}
