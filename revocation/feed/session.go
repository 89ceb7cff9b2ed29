package feed

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
	"rescind/revocation/printable"
)

// session is one stream at the server. One goroutine sends, one receives, and
// run, on the goroutine of the call, watches over both: only when the call
// returns is a send that is stuck let go.
type session struct {
	server *Server
	ctx    context.Context
	cancel context.CancelCauseFunc
	stream feedpb.Feed_FollowServer
	watched

	reload atomic.Bool // the replica is to be sent a snapshot

	// Owned by the sending goroutine.
	at    uint64 // every revision up to it has been sent
	ahead uint64 // every short revision up to it has been sent, in its turn or before
	rules int    // version of the rules of the replica
	beat  *pulse // to be sent once at has reached its revision
}

// pulse is where the log stood at a time.
type pulse struct {
	revision uint64
	time     time.Time
	age      time.Duration
}

// maxAge is as good as never.
const maxAge = 10 * 365 * 24 * time.Hour

func newSession(ctx context.Context, s *Server, cancel context.CancelCauseFunc, stream feedpb.Feed_FollowServer) *session {
	return &session{server: s, ctx: ctx, cancel: cancel, stream: stream, watched: watched{start: time.Now().Add(-1)}}
}

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// replace ends the session because its replica has connected again.
func (ss *session) replace() { ss.cancel(errReplaced) }

var errReplaced = status.Error(codes.Aborted, "this replica has connected again")

func (ss *session) run(token string) error {
	s := ss.server
	m, err := first(ss.ctx, s, ss.stream.Recv)
	if err != nil {
		return err
	}
	hello := m.GetHello()
	id, err := identityOf(token, hello)
	if err != nil {
		return err
	}
	if err := s.src.Ready(); err != nil {
		return status.Error(codes.Unavailable, "this control endpoint is not ready: "+err.Error())
	}
	resumes := hello.LogId == s.src.LogID()
	if resumes {
		ss.at = hello.Revision
	}
	from := remote(ss.ctx)
	log := s.logger.With("replica", hello.Name, "from", from, "credential", token)
	a := arrival{identity: id, remote: from, revision: ss.at, known: resumes, entries: hello.Entries, description: description{
		version: hello.Version, rules: int(hello.Rules), profile: profileOf(hello.Profile, log),
	}}
	ss.rules = a.rules
	state, err := s.replicas.join(a, ss)
	if err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer func() {
		if s.replicas.leave(state, ss) {
			s.reports.hangUp(id)
		}
	}()
	s.tail.use(1)
	defer s.tail.use(-1)
	log.Info("replica connected", "revision", ss.at, "resumes", resumes, "version", hello.Version)

	ended := make(chan error, 2)
	s.running.Go(func() { ended <- ss.receive(state, log) })
	s.running.Go(func() { ended <- ss.send(resumes) })
	err = ss.watch(ss.ctx, ended)
	log.Info("replica disconnected", "reason", reason(err), "after", time.Since(ss.start).Round(time.Millisecond))
	return err
}

// first waits for the first message of a stream, but not for ever.
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
		return m, status.Error(codes.DeadlineExceeded, "no hello came")
	case r := <-received:
		return r.m, r.err
	}
}

// identityOf returns the identity of the replica that says hello with this
// credential. It fails if the hello cannot be listed or logged.
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

// profileOf returns the profile that a replica sends. A replica whose profile
// is too large counts as one that sends none, since to turn it away would keep
// revocations from it.
func profileOf(m *feedpb.Profile, log *slog.Logger) *profile {
	p, err := readProfile(m)
	if err != nil {
		log.Warn("the replica counts as accepting every issuer", "error", err)
		return nil
	}
	return p
}

// watched is the sending side of a stream, of which somebody sees to it that
// it does not get stuck.
type watched struct {
	start   time.Time
	sending atomic.Int64 // when the send under way began, in ns after start; 0 = none
}

func (w *watched) put(send func() error) error {
	w.sending.Store(int64(time.Since(w.start)))
	err := send()
	w.sending.Store(0)
	return err
}

// watch waits for the end of the stream, whoever brings it.
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

// receive takes in what the replica says, until the end of its stream.
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
			r.bid(p, ss)
			return errGoodbye
		default:
			return status.Error(codes.InvalidArgument, "after the hello only acknowledgements, a profile and a goodbye are expected")
		}
	}
}

// errGoodbye ends a stream whose replica has said goodbye.
var errGoodbye = status.Error(codes.Canceled, "the replica said goodbye")

func (ss *session) put(m *feedpb.ServerMessage) error {
	return ss.watched.put(func() error { return ss.stream.Send(m) })
}

// send greets, brings the follower up to date and keeps it there.
func (ss *session) send(resumes bool) error {
	if err := ss.greet(resumes); err != nil {
		return err
	}
	if !resumes {
		if err := ss.snapshot(); err != nil {
			return err
		}
	}
	tick := time.NewTicker(ss.server.heartbeat)
	defer tick.Stop()
	ss.takePulse()
	for {
		select {
		case <-tick.C:
			ss.takePulse()
		default:
		}
		if ss.reload.Swap(false) {
			if err := ss.snapshot(); err != nil {
				return err
			}
		}
		parts, grown, err := ss.more()
		switch {
		case err != nil:
		case len(parts) > 0:
			err = ss.changes(parts)
		default: // a long revision may be on its way into the tail
			err = ss.overtake(ss.at)
		}
		if err == nil {
			err = ss.pulse()
		}
		if err != nil {
			return err
		}
		if grown == nil {
			continue
		}
		select {
		case <-grown:
		case <-tick.C:
			ss.takePulse()
		case <-ss.ctx.Done():
			return context.Cause(ss.ctx)
		}
	}
}

// greet says what the follower has before it. A node of a cluster may be a
// moment behind the one that the follower comes from; the follower would have
// to refuse it.
func (ss *session) greet(resumes bool) error {
	src := ss.server.src
	if resumes && ss.at > src.Revision() {
		ctx, cancel := context.WithTimeout(ss.ctx, catchUp)
		_ = src.Wait(ctx, ss.at-1) // if it does not get there, the greeting says so
		cancel()
	}
	revision := src.Revision()
	err := ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Greeting{Greeting: &feedpb.Greeting{
		LogId: src.LogID(), Replaces: src.Replaces(), Revision: revision, Retention: durationpb.New(src.Retention()),
		Heartbeat: durationpb.New(ss.server.heartbeat), Time: timestamppb.Now(), Rules: revocation.Rules,
	}}})
	if err == nil && resumes && ss.at > revision {
		return status.Errorf(codes.FailedPrecondition, "this control endpoint is at revision %d of the log, before the follower's %d", revision, ss.at)
	}
	return err
}

// more are the next parts to send. If the tail has none, grown is not nil and
// tells when to ask again.
func (ss *session) more() (parts_ []*feedpb.Change, grown <-chan struct{}, err error) {
	recent, grown, held := ss.server.tail.after(ss.at)
	if held {
		if len(recent) > 0 {
			grown = nil
		}
		return recent, grown, nil
	}
	changes, held := ss.server.src.Changes(ss.at, readChanges)
	if !held {
		return nil, nil, ss.snapshot()
	}
	if len(changes) == 0 { // a source that breaks its promise must not make us spin
		return nil, grown, nil
	}
	for _, c := range changes {
		parts_ = append(parts_, partsOf(c, nil)...)
	}
	return parts_, nil, nil
}

// changes sends parts, as many in a message as fit. The last of them ends a
// revision.
func (ss *session) changes(parts []*feedpb.Change) error {
	last := parts[len(parts)-1].Revision
	for len(parts) > 0 {
		n, bytes := 0, 0
		for limit := maxMessage; n < len(parts) && bytes < limit; n++ {
			bytes += size(parts[n])
			if parts[n].More {
				limit = maxSlice
			}
		}
		if err := ss.putChanges(parts[:n:n]); err != nil {
			return err
		}
		if sent := parts[n-1]; sent.More {
			if err := ss.overtake(sent.Revision); err != nil {
				return err
			}
		}
		parts = parts[n:]
	}
	ss.at = last
	return nil
}

// overtake sends short revisions that have come since ahead of the rest of a
// long one, so that they need not wait for it. What a revision removes waits for
// its turn.
func (ss *session) overtake(long uint64) error {
	if ss.rules < aheadRules {
		return nil
	}
	t := ss.server.tail
	later, _, _ := t.after(max(long, ss.ahead))
	later = slices.Concat(later, t.overtaking(max(long, ss.ahead)))
	var short []*feedpb.Change
	for bytes := 0; len(later) > 0 && bytes < maxAheadBytes; {
		n := 1
		for n < len(later) && later[n].Revision == later[0].Revision {
			n++
		}
		if c := later[0]; canOvertake(later[:n]) {
			short = append(short, &feedpb.Change{Revision: c.Revision, Added: c.Added, Ahead: true})
			bytes += size(c)
		}
		ss.ahead = later[0].Revision
		later = later[n:]
	}
	if short == nil {
		return nil
	}
	return ss.putChanges(short)
}

func (ss *session) putChanges(changes []*feedpb.Change) error {
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Changes{Changes: &feedpb.Changes{Changes: changes}}})
}

// snapshot sends the whole set. It is one at the revision that the source had
// before it began, or at a later one, which is the same once the changes in
// between are sent again.
func (ss *session) snapshot() error {
	src := ss.server.src
	revision := src.Revision()
	err := ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotBegin{SnapshotBegin: &feedpb.SnapshotBegin{
		Revision: revision, Expect: uint64(src.Len()),
	}}})
	if err != nil {
		return err
	}
	var count uint64
	var sum uint32
	taken, err := src.Snapshot(func(entries []revocation.Entry) error {
		return pack(entries, packEntries, func(part []byte, n int) error {
			count += uint64(n)
			sum = crc32.Update(sum, crcTable, part)
			return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotChunk{SnapshotChunk: &feedpb.SnapshotChunk{Entries: part}}})
		})
	})
	if err != nil {
		return err
	}
	if taken < revision {
		return fmt.Errorf("the source gave a snapshot at revision %d after it was at %d", taken, revision)
	}
	ss.at = revision
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotEnd{SnapshotEnd: &feedpb.SnapshotEnd{
		Revision: revision, Count: count, Checksum: sum,
	}}})
}

// takePulse prepares a heartbeat: where the log stands now. It is sent when
// the follower has been sent that much.
func (ss *session) takePulse() {
	if ss.beat == nil {
		age := ss.server.src.Age() // first: it holds for what comes later too
		ss.beat = &pulse{ss.server.src.Revision(), time.Now(), min(age, maxAge)}
	}
}

func (ss *session) pulse() error {
	if ss.beat == nil || ss.at < ss.beat.revision {
		return nil
	}
	if err := ss.server.src.Ready(); err != nil {
		return status.Error(codes.Unavailable, "this control endpoint cannot go on: "+err.Error())
	}
	b := ss.beat
	ss.beat = nil
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Heartbeat{Heartbeat: &feedpb.Heartbeat{
		Revision: b.revision, Time: timestamppb.New(b.time), Age: durationpb.New(b.age + time.Since(b.time)),
	}}})
}
