package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// The service manager learns the reason why a server waits, that it is ready, and that
// it ends. A unit of the type notify starts and stops by that.
func TestTheServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)

	var isReady atomic.Bool
	processes, ctx := NewProcesses(t.Context())
	ctx, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- processes.Wait(ctx, slog.New(slog.DiscardHandler), func() Readiness {
			if isReady.Load() {
				return Readiness{}
			}
			return Readiness{Missing: []string{"no issuer has keys", "the set is not complete"}}
		})
	}()
	for _, step := range []struct {
		want string
		next func()
	}{
		{"STATUS=not ready: no issuer has keys; the set is not complete", func() { isReady.Store(true) }},
		{"READY=1\nSTATUS=ready", end},
		{"STOPPING=1\nSTATUS=ending", func() {}},
	} {
		if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 1024)
		n, err := manager.Read(message)
		if got := string(message[:n]); err != nil || got != step.want {
			t.Fatalf("the service manager is told %q (%v), want %q", got, err, step.want)
		}
		step.next()
	}
	if err := <-ended; err != nil {
		t.Errorf("a server without a failure ended with %v, want nil", err)
	}
}

// A service manager that is gone costs a line in the log and nothing else.
func TestAServiceManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nothing"))
	processes, ctx := NewProcesses(t.Context())
	ctx, end := context.WithCancel(ctx)
	end()
	if err := processes.Wait(ctx, slog.New(slog.DiscardHandler), func() Readiness { return Readiness{} }); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
