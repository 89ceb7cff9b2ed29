package feed

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// watched is the sending side of a stream. The goroutine of the call watches the
// sending side, because a stuck Send unblocks only when the call returns.
type watched struct {
	start   time.Time
	sending atomic.Int64 // when the send under way began, in ns after start; 0 = none
}

// put calls send, and notes when the call began.
func (w *watched) put(send func() error) error {
	w.sending.Store(int64(time.Since(w.start)))
	err := send()
	w.sending.Store(0)
	return err
}

// watch returns when a goroutine of the stream has ended, when ctx ends, or when
// one message has been stuck for sendTimeout.
func (w *watched) watch(ctx context.Context, ended <-chan error) error {
	tick := time.NewTicker(sendTimeout / 10)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			began := w.sending.Load()
			if began != 0 && time.Since(w.start)-time.Duration(began) > sendTimeout {
				return status.Errorf(codes.ResourceExhausted, "the follower has not read for %v", sendTimeout)
			}
		}
	}
}
