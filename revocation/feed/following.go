package feed

import (
	"context"
	"errors"
	"io"
	"time"

	"rescind/revocation/feed/feedpb"
)

// backlog is how many messages may wait to be applied. They are then applied
// and acknowledged together.
const backlog = 16

// converse speaks the protocol on one stream until it ends. alarm cancels the
// stream; it runs only while a message is waited for, so that a set that takes
// long to load is not taken for silence. begun is called once it is clear that
// the server is one to follow.
func (c *client) converse(ctx context.Context, cancel context.CancelCauseFunc, addr string, stream feedpb.Feed_FollowClient, alarm *time.Timer, begun func()) (greeted bool, err error) {
	logID, revision := c.follower.Position()
	err = stream.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: &feedpb.Hello{
		Name: c.Name, Instance: c.instance[:], LogId: logID, Revision: revision, Entries: held(c.follower),
	}}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the reason comes with Recv
		return false, err
	}
	m, err := stream.Recv()
	if err != nil {
		return false, err
	}
	in := &inbound{follower: c.follower}
	silence, err := in.greet(m.GetGreeting())
	if err != nil {
		return false, err
	}
	defer in.close()
	c.Logger.Info("following the feed", "control", addr, "log", in.logID, "held", in.at, "head", m.GetGreeting().GetRevision())

	begun()

	messages := make(chan *feedpb.ServerMessage, backlog)
	ended := make(chan error, 1)
	go func() { ended <- read(ctx, stream, messages, alarm, silence) }()
	if err = apply(in, messages, stream.Send); err != nil {
		cancel(err)
		<-ended //nolint:errcheck // because of the cancel
		return true, err
	}
	return true, <-ended
}

// read passes on what comes, and closes messages at the end.
func read(ctx context.Context, stream feedpb.Feed_FollowClient, messages chan<- *feedpb.ServerMessage, alarm *time.Timer, silence time.Duration) error {
	defer close(messages)
	for {
		alarm.Reset(silence)
		m, err := stream.Recv()
		alarm.Stop()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		select {
		case messages <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

var errEnded = errors.New("the control endpoint ended the stream")

// apply takes in messages, all that are there at once, and acknowledges what
// is in force then.
func apply(in *inbound, messages <-chan *feedpb.ServerMessage, send func(*feedpb.ClientMessage) error) error {
	for m := range messages {
		err := in.take(m)
		for n := len(messages); n > 0 && err == nil; n-- {
			err = in.take(<-messages)
		}
		if err == nil {
			err = in.flush()
		}
		if err != nil {
			return err
		}
		if !in.due {
			continue
		}
		in.due = false
		ack := &feedpb.Ack{Revision: in.at, Entries: held(in.follower)}
		err = send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: ack}})
		if err != nil && !errors.Is(err, io.EOF) { // EOF: the reason comes with Recv
			return err
		}
	}
	return nil
}
