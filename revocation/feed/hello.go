package feed

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	"rescind/revocation/printable"
)

// first returns the first message of a stream, and waits for the message for
// helloTimeout at most.
func first[M any](ctx context.Context, s *Server, recv func() (M, error)) (m M, err error) {
	type result struct {
		m   M
		err error
	}
	received := make(chan result, 1)
	s.running.Go(func() {
		m, err := recv()
		received <- result{m, err}
	})
	timer := time.NewTimer(helloTimeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return m, context.Cause(ctx)
	case <-timer.C:
		return m, status.Error(codes.DeadlineExceeded, "no hello came within "+helloTimeout.String())
	case r := <-received:
		return r.m, r.err
	}
}

// identityOf returns the identity of the replica that says hello with this
// credential. identityOf fails if the hello cannot be listed or logged.
func identityOf(credential string, h *feedpb.Hello) (identity, error) {
	switch {
	case h == nil || !goodName(h.Name) || len(h.Instance) != 16:
		return identity{}, status.Error(codes.InvalidArgument, "the first message must be a hello with a name and an instance")
	case len(h.Version) > maxVersion || !printable.Valid(h.Version):
		return identity{}, status.Errorf(codes.InvalidArgument, "the version in a hello is at most %d bytes of printable text", maxVersion)
	case h.Rules > maxRules:
		return identity{}, status.Errorf(codes.InvalidArgument, "version %d of the rules does not exist", h.Rules)
	}
	return identity{credential, h.Name, [16]byte(h.Instance)}, nil
}

// goodName reports whether a replica can be listed and logged by this name.
func goodName(name string) bool {
	return name != "" && len(name) <= maxName && printable.Valid(name)
}

// profileOf returns the profile that a replica sends, or nil if the profile is too
// large. Such a replica counts as accepting every issuer, because a replica that
// is turned away gets no revocations.
func profileOf(m *feedpb.Profile, log *slog.Logger) *profile {
	p, err := readProfile(m)
	if err != nil {
		log.Warn("the replica counts as accepting every issuer", "error", err)
		return nil
	}
	return p
}
