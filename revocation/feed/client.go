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

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"rescind/revocation/replica"
)

// ClientOptions say which control endpoint to follow, and as which replica.
type ClientOptions struct {
	Addresses []string // host:port, tried in turn
	Name      string   // by which operators know this replica
	Version   string   // of the product
	// Profile is sent to the control endpoint, which needs a part of the
	// replica's configuration. Without it the replica counts as accepting every issuer.
	Profile *Profile
	// Token returns the credential. Follow calls Token at each connection, and
	// once a second during a connection. When the credential has changed, the
	// replica moves to a connection with the new credential, and then says
	// goodbye under the old one.
	Token func() (string, error)
	// TLS returns the configuration of a connection. Without TLS, Plaintext must
	// be set, and the credential travels in the clear.
	TLS       func() (*tls.Config, error)
	Plaintext bool
	// ConfirmFrom is the time before which the replica confirms no revocation that it
	// receives: a gateway may still use tokens that an earlier process of the replica allowed.
	// The revocations on disk had reached the gateway before they came there.
	ConfirmFrom time.Time
	// Reporter, if there is one, reports over the same connections. The feed
	// does not wait for the reporter.
	Reporter *Reporter
	Logger   *slog.Logger // default: discards

	dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Times of a connection.
const (
	dialTimeout     = 3 * time.Second
	greetingTimeout = 5 * time.Second // from the call to the greeting, connecting included
	goodbyeTimeout  = time.Second     // for a goodbye to arrive
	tokenInterval   = time.Second     // between two looks at the credential
)

// Follow keeps f up to date until ctx ends, then says goodbye and returns nil.
// After the goodbye no revocation waits for this replica, so ctx must end only
// after the replica has answered its last request. Follow returns an error only if
// the options cannot work.
func Follow(ctx context.Context, f *replica.Follower, o ClientOptions) error {
	c, err := newClient(f, o)
	if err != nil {
		return err
	}
	pauses := newPauses()
	defer c.reporting.Wait()
	for failed := 0; ctx.Err() == nil; {
		addr := c.addresses[c.next]
		c.next = (c.next + 1) % len(c.addresses)
		conn, err := c.connect(ctx, addr)
		greeted := err == nil
		if greeted {
			pauses.Reset()
			err = c.follow(ctx, conn)
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller ended ctx
		}
		c.logEnd(addr, greeted, err)
		if failed++; greeted || failed >= len(c.addresses) {
			failed = 0
			rest(ctx, pauses.NextBackOff())
		}
	}
	return nil
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// client is the part of a replica that stays from one connection to the next.
type client struct {
	ClientOptions
	follower  *replica.Follower
	instance  [16]byte
	addresses []string
	next      int               // index of the address to try
	logged    map[string]string // by address: the end that was logged last
	reporting sync.WaitGroup
}

// newClient returns a client for f. It fails if the options cannot work.
func newClient(f *replica.Follower, o ClientOptions) (*client, error) {
	switch {
	case len(o.Addresses) == 0:
		return nil, errors.New("the feed needs at least one address of a control endpoint")
	case !goodName(o.Name):
		return nil, fmt.Errorf("the replica's name must be 1 to %d bytes of printable text, and %q is not", maxName, o.Name)
	case o.Token == nil:
		return nil, errors.New("the feed needs a credential")
	case o.TLS == nil && !o.Plaintext:
		return nil, errors.New("the feed needs TLS, or plaintext: true")
	}
	c := &client{ClientOptions: o, follower: f, addresses: slices.Clone(o.Addresses), logged: make(map[string]string)}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.dial == nil {
		c.dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
		}
	}
	_, _ = rand.Read(c.instance[:]) // rand.Read never fails
	return c, nil
}

var errSilent = errors.New("the control endpoint is silent")

// localPort matches the text that differs between two failures of one kind.
var localPort = regexp.MustCompile(`\d+->`)

// logEnd logs how a connection ended, unless the last attempt at that address
// ended the same way.
func (c *client) logEnd(addr string, greeted bool, err error) {
	state := localPort.ReplaceAllString(err.Error(), "")
	msg := "control endpoint not followed"
	switch {
	case errors.Is(err, replica.ErrForeignLog):
		state, msg = "foreign", "control endpoint has another log, keeping the current set"
	case errors.Is(err, replica.ErrOlderRevision):
		state, msg = "older", "control endpoint is at an older revision, keeping the current set"
	case errors.Is(err, replica.ErrOtherHistory):
		state, msg = "other history", "control endpoint has other revisions of the log, keeping the current set"
	case errors.Is(err, errNewerRules):
		state, msg = "newer", "control endpoint is newer than this replica, keeping the current set"
	case status.Code(err) == codes.Unauthenticated:
		msg = "credential refused; compare the token_file of this replica with feed.tokens of the control endpoint"
	case greeted:
		msg = "revocation feed lost, keeping the current set"
	}
	if c.logged[addr] == state && !greeted {
		return
	}
	c.logged[addr] = state
	c.Logger.Warn(msg, "control", addr, "error", err)
}
