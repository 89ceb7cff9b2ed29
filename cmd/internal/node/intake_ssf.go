package node

import (
	"context"

	"golang.org/x/sync/errgroup"

	"rescind/cmd/internal/config"
	"rescind/cmd/internal/daemon"
	"rescind/revocation/intake"
	"rescind/revocation/intake/ssf"
	"rescind/revocation/intake/ssf/stream"
)

// ssfPush makes an intake that a transmitter pushes to. With the access of
// management: its stream is watched.
func ssfPush(n *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	s := c.Settings.(*config.SSF)
	r, tx, err := n.ssf(s, door)
	if err != nil {
		return intakePart{}, err
	}
	part := intakePart{push: r}
	if tx != nil && s.Stream != "" {
		part.pull = (&ssf.Watch{Receiver: r, Transmitter: tx, Every: s.Management.VerifyEvery}).Run
	}
	return part, nil
}

// ssfPoll makes an intake that polls a transmitter, and watches its stream.
func ssfPoll(n *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	s := c.Settings.(*config.SSF)
	r, tx, err := n.ssf(s, door)
	if err != nil {
		return intakePart{}, err
	}
	return intakePart{pull: func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		poller := &ssf.Poller{Receiver: r, Transmitter: tx, URL: s.PollURL, Interval: s.PollInterval}
		group.Go(func() error { return poller.Run(ctx) })
		if s.Stream != "" {
			watch := &ssf.Watch{Receiver: r, Transmitter: tx, Every: s.Management.VerifyEvery}
			group.Go(func() error { return watch.Run(ctx) })
		}
		return group.Wait()
	}}, nil
}

// ssf makes the receiver of an entry, and a client of its transmitter where the
// entry has access to it.
func (n *node) ssf(s *config.SSF, door *intake.Door) (*ssf.Receiver, *stream.Transmitter, error) {
	signer, err := n.signer(&s.Transmitter)
	if err != nil {
		return nil, nil, err
	}
	r := ssf.New(ssf.Options{
		Door: door, Signer: signer, Rules: s.Rules, Events: s.Events, Subjects: s.Subjects, Stream: s.Stream, Authorization: s.Authorization,
	})
	if s.Management == nil {
		return r, nil, nil
	}
	tx, err := stream.Open(s.StreamOptions())
	if err != nil {
		return nil, nil, err
	}
	n.teardown.Add("transmitter of "+door.Name, daemon.Closing(func() error { tx.Close(); return nil }))
	return r, tx, nil
}
