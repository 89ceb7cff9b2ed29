// Package daemon is what a server process is made of beside its purpose: how
// it listens, rereads its files, says that it lives, and ends. It knows
// nothing of tokens, and of our own packages it imports config alone.
//
// # How a process ends
//
// [Context] ends with the first SIGTERM or SIGINT. A run then returns, and its
// [Teardown] undoes what was constructed, last in, first out, within a bound:
// what does not end in time is left behind and named in the log. A second
// signal ends the process at once.
//
// # Files that change
//
// Certificates and configuration are files that somebody else replaces: by a
// rename, by the swapped symlink of a Kubernetes volume, or by writing over
// them, one file of a pair before the other. So a change is whatever makes a
// file look different to stat, and what is read after one counts only if it is
// whole: a faulty file is refused and logged once, and the last good one stays
// in force.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"
	"time"
)

// Context ends with the first SIGTERM or SIGINT; its cause names the signal.
// From then on a signal has its usual effect, which is to end the process.
func Context() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Teardown is what must be undone when a process ends. Each constructor's
// teardown is added right after it. It belongs to one goroutine.
type Teardown struct {
	Logger *slog.Logger // default: discards
	steps  []step
}

type step struct {
	name string
	f    func(context.Context) error
}

// late is what a step may still take once the time of Run is over: enough to
// cut connections and close files.
const late = time.Second

// Add registers f to be run before everything that was added earlier.
func (t *Teardown) Add(name string, f func(context.Context) error) {
	t.steps = append(t.steps, step{name, f})
}

// Run runs the steps, last in, first out. All of them have timeout together;
// when it is over their context has ended, and those that are left get a
// second each to close in a hurry. A step that takes longer is left running:
// the process is about to end. What failed is logged and returned. Run again,
// it does nothing.
func (t *Teardown) Run(timeout time.Duration) error {
	logger := t.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var failed []error
	for len(t.steps) > 0 {
		last := t.steps[len(t.steps)-1]
		t.steps = t.steps[:len(t.steps)-1]
		begun := time.Now()
		if err := last.run(ctx); err != nil {
			logger.Error("not torn down as it should be", "name", last.name, "error", err, "took", time.Since(begun))
			failed = append(failed, fmt.Errorf("%s: %w", last.name, err))
		}
	}
	return errors.Join(failed...)
}

func (s step) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	patience := time.NewTimer(late)
	defer patience.Stop()
	select {
	case err := <-done:
		return err
	case <-patience.C:
		return fmt.Errorf("did not end in time and is left behind: %w", ctx.Err())
	}
}
