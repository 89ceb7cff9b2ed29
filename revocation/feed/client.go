package feed

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"rescind/revocation/feed/feedpb"
	revset "rescind/revocation/replica"
)

// ClientOptions say whom to follow, and as whom.
type ClientOptions struct {
	Addresses []string // host:port, tried in turn
	Name      string   // that operators know this replica by
	// Token is the credential. It is asked for at each connection.
	Token func() (string, error)
	// TLS is asked for at each connection. Without it, Plaintext must be set:
	// the credential then travels as it is.
	TLS       func() (*tls.Config, error)
	Plaintext bool
	// Reporter, if there is one, reports over the same connections. The feed
	// does not wait for it.
	Reporter *Reporter
	Logger   *slog.Logger // default: discards

	dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Times of a connection.
const (
	dialTimeout     = 3 * time.Second
	greetingTimeout = 5 * time.Second // from the call to the greeting, connecting included
)

// Follow keeps f up to date until ctx ends; then it returns nil. It returns an
// error only if the options cannot work.
func Follow(ctx context.Context, f *revset.Follower, o ClientOptions) error {
	c, err := newClient(f, o)
	if err != nil {
		return err
	}
	pauses := newPauses()
	defer c.reporting.Wait()
	for failed := 0; ctx.Err() == nil; {
		addr := c.addresses[c.next]
		c.next = (c.next + 1) % len(c.addresses)
		greeted, err := c.follow(ctx, addr)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		c.tell(addr, greeted, err)
		if greeted {
			pauses.Reset()
		}
		if failed++; greeted || failed >= len(c.addresses) {
			failed = 0
			rest(ctx, pauses.NextBackOff())
		}
	}
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// client is what stays from one connection to the next.
type client struct {
	ClientOptions
	follower  *revset.Follower
	instance  [16]byte
	addresses []string
	next      int               // index of the address to try
	told      map[string]string // by address: what was logged last
	reporting sync.WaitGroup
}

func newClient(f *revset.Follower, o ClientOptions) (*client, error) {
	switch {
	case len(o.Addresses) == 0:
		return nil, errors.New("the feed needs at least one address of a control endpoint")
	case !goodName(o.Name):
		return nil, fmt.Errorf("a replica's name is 1 to %d bytes of printable text; %q is not", maxName, o.Name)
	case o.Token == nil:
		return nil, errors.New("the feed needs a credential")
	case o.TLS == nil && !o.Plaintext:
		return nil, errors.New("the feed needs TLS, or leave to send its credential without")
	}
	c := &client{ClientOptions: o, follower: f, addresses: slices.Clone(o.Addresses), told: make(map[string]string)}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.dial == nil {
		c.dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
		}
	}
	_, _ = rand.Read(c.instance[:]) // it never fails
	return c, nil
}

// follow is one connection, from dialling to its end. greeted tells whether
// the server was one to follow.
func (c *client) follow(ctx context.Context, addr string) (greeted bool, err error) {
	secret, err := c.Token()
	if err != nil {
		return false, fmt.Errorf("the credential: %w", err)
	}
	transport := insecure.NewCredentials()
	if c.TLS != nil {
		config, err := c.TLS()
		if err != nil {
			return false, fmt.Errorf("TLS: %w", err)
		}
		transport = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(c.dial),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcbackoff.DefaultConfig, MinConnectTimeout: greetingTimeout}),
	)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	alarm := time.AfterFunc(greetingTimeout, func() { cancel(errSilent) })
	defer alarm.Stop()
	known := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+secret)
	stream, err := feedpb.NewFeedClient(conn).Follow(known)
	if err == nil {
		greeted, err = c.converse(ctx, cancel, addr, stream, alarm, func() { c.report(known, conn) })
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	return greeted, err
}

// report lets the reporter have the connection, until ctx ends.
func (c *client) report(ctx context.Context, conn *grpc.ClientConn) {
	if c.Reporter != nil {
		hello := &feedpb.Hello{Name: c.Name, Instance: c.instance[:]}
		c.reporting.Go(func() { c.Reporter.serve(ctx, conn, hello) })
	}
}

var errSilent = errors.New("nothing comes from the control endpoint any more")

// localPort is what differs between two failures of the same kind.
var localPort = regexp.MustCompile(`\d+->`)

// tell logs how a connection ended, if the last one to that address did not
// end the same way.
func (c *client) tell(addr string, greeted bool, err error) {
	state := localPort.ReplaceAllString(err.Error(), "")
	msg := "the feed cannot be followed"
	switch {
	case errors.Is(err, revset.ErrForeignLog):
		state, msg = "foreign", "this control endpoint has another log; what is held stays in force"
	case errors.Is(err, revset.ErrOlderRevision):
		state, msg = "older", "this control endpoint is behind what is held; what is held stays in force"
	case status.Code(err) == codes.Unauthenticated:
		msg = "the control endpoint does not know our credential; compare the token_file with its feed.tokens"
	case greeted:
		msg = "the feed is lost; what is held stays in force"
	}
	if c.told[addr] == state && !greeted {
		return
	}
	c.told[addr] = state
	c.Logger.Warn(msg, "control", addr, "error", err)
}
