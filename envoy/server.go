// Package envoy speaks Envoy's external authorization protocol (ext_authz v3).
// No other package knows the protocol.
//
// # The way of a Check
//
// receive.go reads the message from the connection, within bounds. read.go
// takes the headers and the policy out of it. The gate (authz/gate) decides.
// response.go writes the answer. Nothing in this package looks at a token.
//
// # Failure
//
// To Envoy an RPC error is not a denial but a reason to follow
// failure_mode_allow. So a Check is always answered with a decision, and a
// panic in any of the steps denies. Two things are RPC errors: a connection that
// fails, and a message larger than max_message, which is counted and logged.
//
// # Trust
//
// The peer is trusted to be an Envoy that is configured to ask this replica. Its
// word counts for the client's certificate and for the policy of a route. The
// listener decides which peers can connect: loopback, a socket with a file mode,
// or client certificates. The request that a peer asks about is not trusted.
package envoy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"rescind/authz/gate"
)

// Bounds of one connection. The messages of the calls on it have bounds of
// their own, see receiver.
const (
	maxHeaderList = 64 << 10 // of a call, not of the request that it asks about
	maxStreams    = 1024
	connWindow    = 1 << 20
)

// Options of a [Server].
type Options struct {
	Gate  *gate.Gate
	Ready func() bool // called for each health check; nil: always ready
	TLS   *tls.Config // nil: plaintext
	// Linger is how long Shutdown goes on answering connected peers after the
	// health service reports NOT_SERVING. It must be longer than the health
	// checks of an Envoy that does not retry.
	Linger time.Duration
	// MaxMessage is the largest CheckRequest in bytes, MaxReceiving the bound of
	// all CheckRequests in reception together. 0 stands for the defaults.
	MaxMessage, MaxReceiving int
	Registerer               prometheus.Registerer // nil: no metrics
	Logger                   *slog.Logger          // nil: slog.Default()
}

// Server answers Checks. It is safe for concurrent use.
type Server struct {
	gate     *gate.Gate
	receiver *receiver
	health   *health
	peers    *peers
	linger   time.Duration
	log      *slog.Logger
	grpc     *grpc.Server
}

// NewServer returns a server that does not listen yet.
func NewServer(o Options) (*Server, error) {
	if o.Gate == nil {
		return nil, errors.New("an ext_authz server needs a gate")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = DefaultMaxMessage
	}
	if o.MaxReceiving == 0 {
		o.MaxReceiving = DefaultMaxReceiving
	}
	s := &Server{gate: o.Gate, receiver: newReceiver(o.MaxMessage, o.MaxReceiving, o.Logger), health: newHealth(o.Ready), peers: newPeers(), linger: o.Linger, log: o.Logger}
	if o.Registerer != nil {
		if err := errors.Join(o.Registerer.Register(s.health.gauge()), o.Registerer.Register(s.receiver.refused)); err != nil {
			return nil, err
		}
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10 * time.Second),
		// Envoy sends pings to keep connections alive, also on idle ones.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	s.grpc.RegisterService(&authorization, s)
	healthpb.RegisterHealthServer(s.grpc, s.health)
	return s, nil
}

// Serve answers Checks on l until Shutdown. It may run for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(countedListener{l, s.peers}); err != nil {
		return fmt.Errorf("serving ext_authz on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown drains the server. The health service reports NOT_SERVING, peers are
// told to close their connections, and open Checks are answered. If ctx ends
// first, Shutdown cuts off the remaining Checks and returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown() // final: Ready has no effect any more
	linger := time.NewTimer(s.linger)
	defer linger.Stop()
	select {
	case <-linger.C:
	case <-s.peers.disconnected():
	case <-ctx.Done():
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.grpc.GracefulStop()
	}()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-drained
		return fmt.Errorf("ext_authz server not drained in time: %w", context.Cause(ctx))
	}
}
