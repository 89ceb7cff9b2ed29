package feed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
)

// session is one Follow stream at the server. One goroutine sends and another
// receives. run, on the goroutine of the call, watches both goroutines.
type session struct {
	server *Server
	ctx    context.Context
	cancel context.CancelCauseFunc
	stream feedpb.Feed_FollowServer
	watched

	marked uint64      // the furthest revision that the replica has ever held,
	mark   uint64      // and its mark; 0: not known
	lane   *lane       // wakes the sending goroutine
	reload atomic.Bool // the replica is to be sent a snapshot

	// The fields below belong to the sending goroutine.
	at    uint64 // every revision up to this one has been sent
	ahead uint64 // every short revision up to this one has been sent, in its turn or before
	rules int    // version of the rules of the replica
	beat  *pulse // to be sent once at has reached its revision
}

func newSession(ctx context.Context, s *Server, cancel context.CancelCauseFunc, stream feedpb.Feed_FollowServer) *session {
	return &session{server: s, ctx: ctx, cancel: cancel, stream: stream, watched: watched{start: time.Now().Add(-1)}}
}

// replace ends the session because its replica has connected again.
func (ss *session) replace() { ss.cancel(errReplaced) }

// Errors that end a stream.
var (
	errReplaced = status.Error(codes.Aborted, "this replica has connected again")
	errGoodbye  = status.Error(codes.Canceled, "the replica said goodbye")
)

// run serves the replica of the credential until the stream ends, and returns
// the reason.
func (ss *session) run(credential string) error {
	s := ss.server
	a, log, err := ss.arrival(credential)
	if err != nil {
		return err
	}
	state, err := s.replicas.join(a, ss)
	if err != nil {
		return s.refuse(ss.ctx, err)
	}
	defer func() {
		if s.replicas.leave(state, ss) {
			s.reports.hangUp(a.identity)
		}
	}()
	s.tail.use(1)
	defer s.tail.use(-1)
	pace := s.paces[credential]
	ss.lane = pace.join(a.remote, s.heartbeat)
	defer pace.leave(ss.lane)
	log.Info("replica connected", "revision", a.revision, "resumes", a.known, "version", a.version)

	ended := make(chan error, 2)
	s.running.Go(func() { ended <- ss.receive(state, log) })
	s.running.Go(func() { ended <- ss.send(a.known) })
	err = ss.watch(ss.ctx, ended)
	log.Info("replica disconnected", "reason", reason(err), "after", time.Since(ss.start).Round(time.Millisecond))
	return err
}

// arrival returns the replica that says hello with this credential, and a logger
// that names the replica. arrival fails if the hello does not fit, if the log
// cannot be followed now, or if the credential has no room. The rest of the hello of
// a replica without room is not read.
func (ss *session) arrival(credential string) (a arrival, log *slog.Logger, err error) {
	s := ss.server
	m, err := first(ss.ctx, s, ss.stream.Recv)
	if err != nil {
		return arrival{}, nil, err
	}
	hello := m.GetHello()
	id, err := identityOf(credential, hello)
	if err != nil {
		return arrival{}, nil, err
	}
	if err := s.src.Ready(); err != nil {
		return arrival{}, nil, status.Error(codes.Unavailable, "this control endpoint is not ready: "+err.Error())
	}
	if err := s.replicas.room(id); err != nil {
		return arrival{}, nil, s.refuse(ss.ctx, err)
	}
	resumes := hello.LogId == s.src.LogID()
	if resumes {
		ss.at = hello.Revision
	}
	ss.rules, ss.marked, ss.mark = int(hello.Rules), hello.Marked, hello.Mark
	from := remote(ss.ctx)
	log = s.logger.With("replica", hello.Name, "from", from, "credential", credential)
	return arrival{identity: id, remote: from, revision: ss.at, known: resumes, entries: hello.Entries, description: description{
		version: hello.Version, rules: ss.rules, profile: profileOf(hello.Profile, log),
	}}, log, nil
}

// receive takes in the messages of the replica until its stream ends.
func (ss *session) receive(p *replicaState, log *slog.Logger) error {
	r := ss.server.replicas
	for {
		m, err := ss.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.GetKind().(type) {
		case *feedpb.ClientMessage_Ack:
			last := slices.Max(append(m.Ack.GetAhead(), m.Ack.GetRevision()))
			if head := ss.server.src.Revision(); last > head {
				return status.Errorf(codes.InvalidArgument, "revision %d is acknowledged, and the log ends at %d", last, head)
			}
			r.ack(p, ss, m.Ack)
			ss.compare(p, m.Ack)
		case *feedpb.ClientMessage_Profile:
			r.describe(p, ss, profileOf(m.Profile, log))
		case *feedpb.ClientMessage_Goodbye:
			r.goodbye(p, ss)
			return errGoodbye
		default:
			return status.Error(codes.InvalidArgument, "after the hello only acknowledgements, a profile and a goodbye are expected")
		}
	}
}
