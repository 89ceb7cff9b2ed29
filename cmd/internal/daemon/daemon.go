// Package daemon holds the parts that both server processes need: listeners,
// files that are reread, health and metrics, goroutines, and the teardown. It
// knows nothing of tokens, and of our own packages it imports config alone.
//
// # How a process ends
//
// [Context] ends with the first SIGTERM or SIGINT. A run then returns, and its
// [Teardown] closes the parts, last in, first out, within a bound. A part that
// does not end in time is left behind and named in the log. A second signal ends
// the process at once.
//
// # Files that change
//
// Operators replace certificates and configuration by a rename, by the swapped
// symlink of a Kubernetes volume, or by writing over them, one file of a pair
// before the other. So any difference that stat shows is a change. The files read
// after a change count only if they are whole. A faulty file is refused and
// logged once, and the last good one stays in force.
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

// Context returns a context that ends with the first SIGTERM or SIGINT. Its cause
// names the signal. From then on a signal ends the process, as usual.
func Context() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// Teardown is the list of steps that close the parts of a process. Each
// constructor's step is added on the next line. A Teardown belongs to one
// goroutine.
type Teardown struct {
	Logger *slog.Logger // default: discards
	steps  []step
}

type step struct {
	name string
	f    func(context.Context) error
}

// late is the time that a step has once the timeout of Run is over: enough to cut
// connections and close files.
const late = time.Second

// Add adds a step, to be run before all steps that were added earlier.
func (t *Teardown) Add(name string, f func(context.Context) error) {
	t.steps = append(t.steps, step{name, f})
}

// Run runs the steps, last in, first out. They share timeout. After it their
// context has ended, and each step that is left has one second to close in a
// hurry. A step that takes longer is left running, because the process is about
// to end. Run logs and returns the errors. A second Run does nothing.
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
			logger.Error("a part of the process failed to close", "name", last.name, "error", err, "took", time.Since(begun))
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
