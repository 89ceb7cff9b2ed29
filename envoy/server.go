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
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"rescind/authz"
	"rescind/revocation/replica"
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
	Authorizer  *authz.Authorizer
	Revocations *replica.Follower // for its figures
	Ready       func() bool       // asked for each health check; nil: always
	TLS         *tls.Config       // nil: plaintext
	// Linger is for how long Shutdown goes on answering, while anybody is
	// connected, after the health service has said NOT_SERVING: longer than
	// the health checks of an Envoy that does not retry.
	Linger     time.Duration
	Registerer prometheus.Registerer // nil: no figures
	// Trace, if not nil, may record each decision in a trace, and says in which
	// span it has. It and the observers are told on the path of the Check: they
	// must not block, and not keep what they are given.
	Trace     func(context.Context, Observation) trace.SpanContext
	Observers []func(context.Context, Observation)
	Logger    *slog.Logger
}

// Observation is a decision and what it was about.
type Observation struct {
	Request  *authz.Request // nil if it could not be read
	Decision *authz.Decision
	At       time.Time // when the question came
	Took     time.Duration
	Span     trace.SpanContext // that the decision was recorded in; the zero one if it was not
}

// Server answers Checks. It is safe for concurrent use.
type Server struct {
	authv3.UnimplementedAuthorizationServer

	authorizer atomic.Pointer[authz.Authorizer]
	figures    *figures
	trace      func(context.Context, Observation) trace.SpanContext
	observers  []func(context.Context, Observation)
	health     *health
	peers      *peers
	linger     time.Duration
	log        *slog.Logger
	grpc       *grpc.Server
}

// NewServer makes a server that does not listen yet.
func NewServer(o Options) (*Server, error) {
	if o.Authorizer == nil {
		return nil, errors.New("an ext_authz server needs an authorizer")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	s := &Server{health: newHealth(o.Ready), peers: newPeers(), linger: o.Linger, log: o.Logger, figures: newFigures(), trace: o.Trace, observers: o.Observers}
	if o.Registerer != nil {
		if err := s.figures.register(o.Registerer, o.Revocations, o.Ready); err != nil {
			return nil, err
		}
	}
	s.Replace(o.Authorizer)
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

// Replace puts another authorizer in force, for every Check that begins after.
func (s *Server) Replace(a *authz.Authorizer) { s.authorizer.Store(a) }

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
	return s.answer(ctx, func() *authz.Request { return requestOf(check) }), nil
}

// answer decides about what read returns.
func (s *Server) answer(ctx context.Context, read func() *authz.Request) *authv3.CheckResponse {
	begin := time.Now()
	r, d, answer := s.decide(ctx, read)
	o := Observation{Request: r, Decision: &d, At: begin, Took: time.Since(begin)}
	s.tell(ctx, &o)
	return answer
}

// tell cannot change the answer any more, not even by a panic.
func (s *Server) tell(ctx context.Context, o *Observation) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "an observer failed", slog.String("decision_id", o.Decision.ID), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	defer func() { s.figures.observe(o) }()
	if s.trace != nil {
		o.Span = s.trace(ctx, *o)
	}
	for _, observe := range s.observers {
		observe(ctx, *o)
	}
}

// decide turns a panic anywhere into a denial.
func (s *Server) decide(ctx context.Context, read func() *authz.Request) (r *authz.Request, d authz.Decision, answer *authv3.CheckResponse) {
	defer func() {
		if p := recover(); p != nil {
			d = authz.Decision{Reason: authz.Internal, ID: rand.Text()}
			answer = response(&d, false)
			s.log.ErrorContext(ctx, "a check failed; the request was denied", slog.String("decision_id", d.ID), slog.String("panic", fmt.Sprintf("%T", p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	r = read()
	d = s.authorizer.Load().Authorize(ctx, r)
	if d.Reason == authz.Internal && d.Detail != "" { // without one it has been logged
		s.log.ErrorContext(ctx, "a decision could not be made; the request was denied", slog.String("decision_id", d.ID), slog.String("detail", d.Detail))
	}
	return r, d, response(&d, fromGRPC(r))
}
