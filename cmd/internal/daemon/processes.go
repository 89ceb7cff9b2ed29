package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
)

// Processes are the goroutines that a server consists of. The first one that
// fails ends the server.
type Processes struct {
	failed chan error
	stop   context.CancelCauseFunc
}

// NewProcesses returns Processes and a context that ends with parent, or with
// the first failure of a process.
func NewProcesses(parent context.Context) (*Processes, context.Context) {
	ctx, stop := context.WithCancelCause(parent)
	return &Processes{failed: make(chan error, 1), stop: stop}, ctx
}

// Run starts f and returns a channel that closes when f returns. An error of f
// ends the context of the processes, unless it is context.Canceled.
func (p *Processes) Run(name string, f func() error) (done <-chan struct{}) {
	end := make(chan struct{})
	go func() {
		defer close(end)
		if err := f(); err != nil && !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%s: %w", name, err)
			select {
			case p.failed <- err:
			default:
			}
			p.stop(err)
		}
	}()
	return end
}

// Wait logs that the server is ready once nothing is missing, waits until ctx
// ends, logs the cause, and returns the first failure of a process. ctx is the
// context of the processes.
func (p *Processes) Wait(ctx context.Context, logger *slog.Logger, ready func() Readiness) error {
	logReady(ctx, logger, ready)
	<-ctx.Done()
	logger.Info("ending", "reason", context.Cause(ctx).Error())
	notify(logger, "STOPPING=1\nSTATUS=ending")
	return p.Err()
}

// Err returns the first failure, or nil.
func (p *Processes) Err() error {
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// StopAndWait returns a teardown step that calls stop and then waits for done.
func StopAndWait(stop func(), done <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		stop()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Closing returns a teardown step that calls f, which cannot wait. It ignores
// net.ErrClosed, because a server may have closed its listener already.
func Closing(f func() error) func(context.Context) error {
	return func(context.Context) error {
		if err := f(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
