package feed

import (
	"context"
	"errors"
	"io"
	"time"

	"rescind/revocation/feed/feedpb"
)

// backlog is how many messages may wait to be applied. Waiting messages are
// applied and acknowledged together.
const backlog = 16

// maxUrgent is how many changes may wait to overtake.
const maxUrgent = 256

// follow applies the messages of n until n ends. When ctx ends, follow says
// goodbye. When the credential changes, follow first makes a connection with the
// new credential and then says goodbye under the old one. In between the replica
// counts twice, so no revocation misses the replica.
func (c *client) follow(ctx context.Context, n *connection) error {
	defer c.follower.Disconnected()
	for {
		err := n.run(ctx)
		switch {
		case ctx.Err() != nil:
			n.goodbye()
			return nil
		case !errors.Is(err, errTokenChanged):
			n.close()
			if errors.Is(context.Cause(n.ctx), errSilent) {
				err = errSilent
			}
			return err
		}
		next, err := c.connect(ctx, n.addr)
		if err != nil {
			if n.failed, err = c.Token(); err == nil {
				c.Logger.Warn("the control endpoint does not take the new credential, following under the old one", "control", n.addr)
			}
			continue
		}
		n.goodbye()
		n = next
	}
}

var errTokenChanged = errors.New("the credential has changed")

// run applies and acknowledges the messages of the connection until the stream
// ends, ctx ends, or the credential changes. After errTokenChanged the caller may
// call run again.
func (n *connection) run(ctx context.Context) error {
	look := time.NewTicker(tokenInterval)
	defer look.Stop()
	var profiles <-chan struct{}
	if p := n.client.Profile; p != nil {
		profiles = p.changed
	}
	confirm := time.NewTimer(time.Until(n.client.ConfirmFrom))
	defer confirm.Stop()
	for {
		if err := n.applyUrgent(); err != nil {
			return err
		}
		var err error
		select {
		case c := <-n.urgent:
			err = n.applyUrgent(c)
		case m, more := <-n.messages:
			if !more {
				return <-n.ended
			}
			err = n.apply(m)
		case <-profiles:
			err = n.send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Profile{Profile: n.client.Profile.message()}})
		case <-confirm.C:
			err = n.acknowledge()
		case <-look.C:
			if n.tokenChanged() {
				return errTokenChanged
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// tokenChanged reports whether there is a credential that has not been tried
// yet. A credential that cannot be read changes nothing.
func (n *connection) tokenChanged() bool {
	secret, err := n.client.Token()
	return err == nil && secret != n.secret && secret != n.failed
}

// apply takes in m and the messages that wait behind m, and acknowledges the
// revision that is then in force. Within a long revision apply takes in one
// message at a time, so that short revisions can overtake.
func (n *connection) apply(m *feedpb.ServerMessage) error {
	in := n.in
	err := in.take(m)
	for waiting := len(n.messages); waiting > 0 && err == nil && in.partial == nil; waiting-- {
		if m, more := <-n.messages; more {
			err = in.take(m)
		}
	}
	if err == nil {
		err = in.flush()
	}
	if in.partial == nil && len(n.messages) == 0 {
		n.long.Store(false)
	}
	if err != nil {
		return err
	}
	return n.acknowledge()
}

// applyUrgent puts the overtaking changes in force, and acknowledges the changes.
func (n *connection) applyUrgent(changes ...*feedpb.Change) error {
	for len(n.urgent) > 0 {
		changes = append(changes, <-n.urgent)
	}
	if err := n.in.overtake(changes); err != nil {
		return err
	}
	return n.acknowledge()
}

// acknowledge sends an acknowledgement, if one is due. Before ConfirmFrom the
// acknowledgement stays due.
func (n *connection) acknowledge() error {
	in := n.in
	if !in.due || time.Now().Before(n.client.ConfirmFrom) {
		return nil
	}
	in.due = false
	ack := &feedpb.Ack{Revision: in.at, Entries: entriesOf(in.follower), Ahead: in.aheadOf()}
	if lasting, ok := in.follower.Lasting(in.minute); ok && in.minute > 0 && len(ack.Ahead) == 0 {
		ack.Minute, ack.Lasting = uint64(in.minute), uint64(lasting)
	}
	in.minute = 0
	return n.send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: ack}})
}

// send sends m. If the stream has ended, send returns nil, because n.ended has the
// reason.
func (n *connection) send(m *feedpb.ClientMessage) error {
	if err := n.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}
