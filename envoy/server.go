// Package envoy speaks Envoy's external authorization protocol (ext_authz v3).
// It is the only package that knows it.
//
// A Check goes through three steps, each in a file of its own: request.go reads
// the question, authz decides, response.go writes the answer. Nothing in
// between looks at a token.
//
// Check never returns an RPC error: to Envoy that is not a denial, it is a
// reason to follow failure_mode_allow. Whatever goes wrong, a panic included,
// is answered as a denial.
//
// The peer is trusted to be an Envoy that we are configured into, for what it
// says about the client's certificate and the policy of a route. Who may be a
// peer is for the listener to decide: loopback, a socket with a file mode, or
// client certificates.
package envoy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"rescind/authz"
	"rescind/authz/gate"
)

// What one peer may cost. Envoy's own limit for all headers of a request is 60
// KiB; a Check carries them once.
const (
	maxMessage    = 1 << 20
	maxHeaderList = 64 << 10
	maxStreams    = 1024
)

// Options of a [Server].
type Options struct {
	Gate  *gate.Gate
	Ready func() bool // called for each health check; nil: always ready
	TLS   *tls.Config // nil: plaintext
	// Linger is how long Shutdown goes on answering connected peers after the
	// health service reports NOT_SERVING. It must be longer than the health
	// checks of an Envoy that does not retry.
	Linger     time.Duration
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default()
}

// Server answers Checks. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	gate   *gate.Gate
	health *health
	peers  *peers
	linger time.Duration
	log    *slog.Logger
	grpc   *grpc.Server
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
	s := &Server{gate: o.Gate, health: newHealth(o.Ready), peers: newPeers(), linger: o.Linger, log: o.Logger}
	if o.Registerer != nil {
		if err := o.Registerer.Register(s.health.gauge()); err != nil {
			return nil, err
		}
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10 * time.Second),
		// Envoys keep connections alive with pings, on idle ones too.
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

// Serve answers on l until Shutdown. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(countedListener{l, s.peers}); err != nil {
		return fmt.Errorf("serving ext_authz on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown drains: the health service says NOT_SERVING, connections are told to
// go away, and what has been asked is answered. When ctx ends, what is left is
// cut off, and that is the error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.health.Shutdown() // for good, whatever Ready says from now on
	linger := time.NewTimer(s.linger)
	defer linger.Stop()
	select {
	case <-linger.C:
	case <-s.peers.gone():
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
		return fmt.Errorf("ext_authz was not drained in time: %w", context.Cause(ctx))
	}
}

// Check implements the Authorization service.
func (s *Server) Check(ctx context.Context, check *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.answer(ctx, func() (*authz.Request, authz.Reason) { return requestOf(check), "" }), nil
}

// answer decides about the request that read returns.
func (s *Server) answer(ctx context.Context, read func() (*authz.Request, authz.Reason)) *authv3.CheckResponse {
	answer := lastResort
	s.gate.Decide(ctx, read, func(r *authz.Request, d *authz.Decision) { answer = response(d, fromGRPC(r)) })
	return answer
}
