package daemon

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("DAEMON_TEST_SIGNALS") != "" {
		waitForSignals()
	}
	goleak.VerifyTestMain(m)
}

// waitForSignals is the child of TestSignals.
func waitForSignals() {
	ctx, stop := Context()
	defer stop()
	fmt.Println("waiting")
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond) // AfterFunc runs in its own goroutine
	fmt.Println("ended:", context.Cause(ctx))
	select {}
}

func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "DAEMON_TEST_SIGNALS=1")
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(pipe)
			said := func(want string) {
				t.Helper()
				if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
					t.Fatalf("%q, want %q", lines.Text(), want)
				}
			}
			said("waiting")
			_ = cmd.Process.Signal(sig)
			said("ended: " + sig.String())
			_ = cmd.Process.Signal(sig)
			_, _ = io.Copy(io.Discard, pipe)
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != sig {
				t.Errorf("after the second signal: got %v, want the process ended by %s", err, sig)
			}
		})
	}
}

func TestLogger(t *testing.T) {
	for _, c := range []struct {
		level        slog.Level
		format, want string
	}{
		{slog.LevelInfo, "json", `"msg":"told"`},
		{slog.LevelDebug, "text", "msg=told"},
		{slog.LevelWarn, "json", ""},
		{slog.LevelError, "text", ""},
	} {
		var b bytes.Buffer
		NewLogger(c.format, c.level, &b).Info("told")
		if got := b.String(); !strings.Contains(got, c.want) || (c.want == "") != (got == "") {
			t.Errorf("a line of level info, logged at level %s as %s: got %q, want %q in it", c.level, c.format, got, c.want)
		}
	}
}

func TestTeardownInReverse(t *testing.T) {
	var b bytes.Buffer
	td := Teardown{Logger: slog.New(slog.NewTextHandler(&b, nil))}
	var order []string
	for _, name := range []string{"store", "feed", "admin"} {
		td.Add(name, func(context.Context) error {
			order = append(order, name)
			if name == "feed" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	err := td.Run(time.Minute)
	if got := strings.Join(order, " "); got != "admin feed store" {
		t.Errorf("the steps ran in the order %q, want admin feed store", got)
	}
	if err == nil || err.Error() != "feed: stuck" || !strings.Contains(b.String(), "name=feed error=stuck") {
		t.Errorf("a step that fails: %v, logged %s; want its name and error in both", err, b.String())
	}
	if err := td.Run(time.Minute); err != nil || len(order) != 3 {
		t.Errorf("a second run: got %v and the steps %q, want nil and no step run again", err, order)
	}
	empty := Teardown{}
	if err := empty.Run(0); err != nil {
		t.Errorf("a teardown without steps: got %v, want nil", err)
	}
}

func TestTeardownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var td Teardown
		var closed bool
		td.Add("store", func(ctx context.Context) error { // told to hurry, and does
			closed = ctx.Err() != nil
			return nil
		})
		td.Add("deaf", func(context.Context) error { <-release; return nil })
		td.Add("drain", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		begun := time.Now()
		err := td.Run(10 * time.Second)
		if took := time.Since(begun); took != 10*time.Second+late {
			t.Errorf("the teardown took %s, want %s", took, 10*time.Second+late)
		}
		if !closed {
			t.Error("after the time ran out: got the store open, want it closed")
		}
		if err == nil || !strings.Contains(err.Error(), "deaf: did not end in time") || !strings.Contains(err.Error(), "drain: context deadline exceeded") {
			t.Errorf("the teardown returns %v, want the errors of both steps that were late", err)
		}
	})
}
