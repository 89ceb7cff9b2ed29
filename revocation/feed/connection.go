package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// connection is one connection to a control endpoint that has greeted. The
// goroutine of [Follow] owns it, but for read.
type connection struct {
	client *client
	addr   string
	secret string // the credential of this connection
	failed string // a later credential that the control endpoint did not take

	conn   *grpc.ClientConn
	ctx    context.Context // of the streams; ends with close
	cancel context.CancelCauseFunc
	stream feedpb.Feed_FollowClient
	alarm  *time.Timer // ends the connection; runs only while a message is awaited

	in       *inbound
	messages chan *feedpb.ServerMessage // closed by read
	urgent   chan *feedpb.Change        // that overtake a long revision
	long     atomic.Bool                // a long revision is in messages, or partly applied
	parts    uint64                     // the long revision that came last; belongs to read
	ended    chan error                 // why read ended
}

// connect dials the address, says hello and takes the greeting. The connection
// must be closed in the end.
func (c *client) connect(ctx context.Context, addr string) (*connection, error) {
	n := &connection{client: c, addr: addr, in: &inbound{follower: c.follower}}
	if err := n.dial(); err != nil {
		return nil, err
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	n.ctx, n.cancel = metadata.AppendToOutgoingContext(own, "authorization", "Bearer "+n.secret), cancel
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })() // only until the control endpoint has greeted
	n.alarm = time.AfterFunc(greetingTimeout, func() { cancel(errSilent) })
	silence, err := n.greet()
	if err != nil {
		if errors.Is(context.Cause(own), errSilent) {
			err = errSilent
		}
		n.close()
		return nil, err
	}
	n.messages, n.ended = make(chan *feedpb.ServerMessage, backlog), make(chan error, 1)
	n.urgent = make(chan *feedpb.Change, maxUrgent)
	go func() { n.ended <- n.read(silence) }()
	n.report()
	return n, nil
}

// dial prepares the transport, and reads the credential and the TLS files anew.
func (n *connection) dial() (err error) {
	c := n.client
	if n.secret, err = c.Token(); err != nil {
		return fmt.Errorf("the credential: %w", err)
	}
	transport := insecure.NewCredentials()
	if c.TLS != nil {
		config, err := c.TLS()
		if err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		transport = credentials.NewTLS(config)
	}
	n.conn, err = grpc.NewClient("passthrough:///"+n.addr,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(c.dial),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: greetingTimeout}),
	)
	return err
}

// greet says hello and takes the greeting. silence is the time without a
// message after which the control endpoint is gone.
func (n *connection) greet() (silence time.Duration, err error) {
	c := n.client
	if n.stream, err = feedpb.NewFeedClient(n.conn).Follow(n.ctx); err != nil {
		return 0, err
	}
	logID, revision := c.follower.Position()
	marked, mark := c.follower.Mark()
	hello := &feedpb.Hello{
		Name: c.Name, Instance: c.instance[:], LogId: logID, Revision: revision, Entries: entriesOf(c.follower),
		Rules: revocation.Rules, Version: c.Version, Marked: marked, Mark: mark,
	}
	if c.Profile != nil {
		hello.Profile = c.Profile.message()
	}
	err = n.stream.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: hello}})
	if err != nil && !errors.Is(err, io.EOF) { // EOF: Recv returns the reason
		return 0, err
	}
	m, err := n.stream.Recv()
	if err != nil {
		return 0, err
	}
	n.alarm.Stop()
	if silence, err = n.in.greet(m.GetGreeting()); err != nil {
		return 0, err
	}
	c.Logger.Info("following the feed", "control", n.addr, "log", n.in.logID, "revision", n.in.at, "head", m.GetGreeting().GetRevision())
	return silence, nil
}

// report starts the reporter, which uses the connection until the connection is
// closed.
func (n *connection) report() {
	c := n.client
	if c.Reporter != nil {
		hello := &feedpb.Hello{Name: c.Name, Instance: c.instance[:]}
		c.reporting.Go(func() { c.Reporter.serve(n.ctx, n.conn, hello) })
	}
}

// read receives the messages of the stream and passes each on to run. At the end
// of the stream read closes n.messages.
func (n *connection) read(silence time.Duration) error {
	defer close(n.messages)
	for {
		n.alarm.Reset(silence)
		m, err := n.stream.Recv()
		n.alarm.Stop()
		if errors.Is(err, io.EOF) {
			return errEnded
		}
		if err != nil {
			return err
		}
		if m = n.hurry(m); m == nil {
			continue
		}
		select {
		case n.messages <- m:
		case <-n.ctx.Done():
			return context.Cause(n.ctx)
		}
	}
}

// hurry lets the short changes of m overtake a long revision. hurry returns m, or
// nil if every change of m came ahead of its turn. A change that finds no room in
// n.urgent is applied in its turn alone.
func (n *connection) hurry(m *feedpb.ServerMessage) *feedpb.ServerMessage {
	changes := m.GetChanges().GetChanges()
	ahead := 0
	for _, c := range changes {
		if c.Ahead {
			ahead++
		}
		last := c.Revision == n.parts // the last part of a long one
		if c.More {
			n.parts = c.Revision
			n.long.Store(true)
		}
		if !c.More && !last && canOvertake([]*feedpb.Change{c}) && (c.Ahead || n.long.Load()) {
			select {
			case n.urgent <- c:
			default:
			}
		}
	}
	if ahead > 0 && ahead == len(changes) {
		return nil
	}
	return m
}

var errEnded = errors.New("the control endpoint ended the stream")

// goodbye tells the control endpoint that nothing waits for the replica under
// this credential any more, and closes the connection. goodbye waits for
// goodbyeTimeout at most.
func (n *connection) goodbye() {
	defer time.AfterFunc(goodbyeTimeout, func() { n.cancel(errSilent) }).Stop()
	defer n.close()
	if n.stream.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Goodbye{Goodbye: &feedpb.Goodbye{}}}) != nil {
		return
	}
	for range n.messages { // until the control endpoint has taken the goodbye and ends the stream
	}
}

// close ends the streams and abandons a snapshot that is not whole.
func (n *connection) close() {
	n.cancel(nil)
	if n.alarm != nil {
		n.alarm.Stop()
	}
	if n.messages != nil {
		for range n.messages { // until read has ended
		}
	}
	n.in.abandon()
	_ = n.conn.Close()
}
