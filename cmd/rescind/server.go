package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
)

// drainTime bounds how long a server takes to end after it was told to.
const drainTime = 20 * time.Second

// serverFlags are those that both servers take.
type serverFlags struct {
	config string
	check  bool
}

func (f *serverFlags) add(cmd *cobra.Command, example string) {
	cmd.Flags().StringVar(&f.config, "config", "", "the configuration file, such as "+example)
	cmd.Flags().BoolVar(&f.check, "check", false, "read the configuration, print every fault of it, start nothing")
	_ = cmd.MarkFlagRequired("config")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// readConfig reads the configuration with read. Where that is all that was
// asked for, done is true.
func readConfig[C any](f *serverFlags, out io.Writer, read func(string) (*C, error)) (c *C, done bool, err error) {
	c, err = read(f.config)
	if err != nil {
		return nil, false, usageError{err}
	}
	if f.check {
		_, err = fmt.Fprintf(out, "%s: in order\n", f.config)
	}
	return c, f.check, err
}

// newLogger logs to stderr as the configuration says; its level can change.
func newLogger(l config.Log, level *slog.LevelVar, stderr io.Writer) *slog.Logger {
	level.Set(l.Level)
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "text" {
		return slog.New(slog.NewTextHandler(stderr, o))
	}
	return slog.New(slog.NewJSONHandler(stderr, o))
}

// listen opens a listener of the configuration, and the TLS that it has, if
// any. It does not say yet that it listens.
func listen(ctx context.Context, l config.Listener, log *slog.Logger) (net.Listener, *tls.Config, error) {
	var secure *tls.Config
	if l.TLS != nil {
		var err error
		if secure, err = daemon.ServerTLS(l.TLS.CertFile, l.TLS.KeyFile, l.TLS.ClientCAFile, log); err != nil {
			return nil, nil, err
		}
	}
	spec := l.Address
	if l.Network == "unix" {
		spec = "unix://" + spec
	}
	listener, err := daemon.Listen(ctx, spec, l.SocketMode)
	return listener, secure, err
}

// secretOf reads a file with one secret each time it is asked.
func secretOf(path string) func() (string, error) {
	return func() (string, error) { return config.ReadSecret(path) }
}

// processes are goroutines that a server lives by: the first that fails ends
// it.
type processes struct {
	failed chan error
	stop   context.CancelCauseFunc
}

func newProcesses(ctx context.Context) (*processes, context.Context) {
	ctx, stop := context.WithCancelCause(ctx)
	return &processes{failed: make(chan error, 1), stop: stop}, ctx
}

// run starts f. What it returns after ctx has ended is how it ended.
func (p *processes) run(name string, f func() error) (done <-chan struct{}) {
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

// err is the first failure, if there was one.
func (p *processes) err() error {
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// awaited is a teardown step: stop something, then wait for it.
func awaited(stop func(), done <-chan struct{}) func(context.Context) error {
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

// closing is a teardown step that cannot wait. A listener may have been closed
// by its server.
func closing(f func() error) func(context.Context) error {
	return func(context.Context) error {
		if err := f(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}
