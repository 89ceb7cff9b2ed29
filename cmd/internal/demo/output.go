package demo

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnread says that the reader of the output went away.
var ErrUnread = errors.New("the reader of the output has gone away, so the demo ended")

// output is the writer of the story. When its reader goes away, or a write fails,
// it ends the context of the demo. The demo then closes its parts as at Ctrl-C.
type output struct {
	w   io.Writer
	end context.CancelCauseFunc
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil {
		o.end(ErrUnread)
	}
	return n, err
}

// watch returns a context that ends with the reader of w, and the function that
// ends the watch. A process gets SIGPIPE for a write to a closed pipe, and SIGHUP
// when its terminal is closed. Both kill it before it has closed its parts, so
// they are taken meanwhile.
func watch(parent context.Context, w io.Writer) (context.Context, *output, func()) {
	ctx, end := context.WithCancelCause(parent)
	broken, hung := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE) // the write fails instead, and the parts do not inherit this
	signal.Notify(hung, syscall.SIGHUP)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hung:
				end(ErrUnread)
			case <-time.After(200 * time.Millisecond):
				if f, ok := w.(*os.File); ok && unread(f) {
					end(ErrUnread)
				}
			}
		}
	})
	return ctx, &output{w, end}, func() {
		end(nil)
		watching.Wait()
		signal.Stop(hung)
		signal.Stop(broken)
	}
}

// unread reports whether f is a pipe without a reader.
func unread(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}} //nolint:gosec // a file descriptor is a small number
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
