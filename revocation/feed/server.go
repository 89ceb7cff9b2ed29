package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"rescind/revocation"
	"rescind/revocation/bearer"
	"rescind/revocation/feed/feedpb"
	"rescind/revocation/insight"
)

// ServerOptions configure a server.
type ServerOptions struct {
	Tokens    []Token
	Heartbeat time.Duration // default: 1s
	Logger    *slog.Logger  // default: discards
	// OnApplied is called with each revision that a replica has in force, once
	// for each replica. It runs on the path of the acknowledgements.
	OnApplied func(name string, revision uint64)
	// OnAlerts takes the alerts of a replica, and returns when the alerts are
	// kept. After an error the replica sends the alerts again later. The alerts
	// are the replica's own words; from is the replica as the control endpoint
	// knows it. OnAlerts holds up that replica's reports, and nothing else.
	OnAlerts func(ctx context.Context, from Replica, alerts []insight.Alert) error
	// OnPeerAlerts takes the alerts that another node has kept.
	OnPeerAlerts func(name string, alerts []insight.Alert)
	// Nodes are the other control nodes of the same log; nil: no other nodes.
	Nodes  Nodes
	Others int // how many; 0: the number is not known
	// Memory keeps two documents over a restart: the replicas that count, and
	// the issuers that replicas accept. nil: no document is kept.
	Memory Memory
	// Registerer takes the metrics of the feed; nil: no metrics are registered.
	Registerer prometheus.Registerer
}

// Times that bound the delay that one replica can cause.
const (
	helloTimeout = 10 * time.Second // from the call to its first message
	sendTimeout  = 30 * time.Second // that one message may be stuck
	catchUp      = time.Second      // for which a node waits until it has a replica's revision
	refusalTime  = 4 * time.Second  // less than greetingTimeout; before the refusal of a replica beyond max_replicas
)

// maxStreams bounds the streams of one connection.
const maxStreams = 16

// maxRefusals bounds the refused replicas that wait for their refusal.
const maxRefusals = 4096

// Server is the control endpoint's end of the feed.
type Server struct {
	feedpb.UnimplementedFeedServer

	src       Source
	tokens    []Token
	hashes    []bearer.Hash // of tokens, in their order
	heartbeat time.Duration
	logger    *slog.Logger
	refusals  rate.Sometimes // bounds the log lines that callers without a credential cause

	replicas  *replicas
	paces     map[string]*pace // by credential
	knowledge *knowledge
	nodes     Nodes // nil: there are no other nodes
	reports   *reports
	tail      *tail

	ctx     context.Context // ends with Close
	end     context.CancelFunc
	mu      sync.Mutex // guards closed: running does not grow once closed is set
	closed  bool
	running sync.WaitGroup

	refusing atomic.Int64 // refused replicas that wait for their refusal
}

// NewServer returns a server of src. [Server.Close] must be called in the end.
func NewServer(src Source, o ServerOptions) *Server {
	s := &Server{
		src: src, tokens: o.Tokens, heartbeat: o.Heartbeat, logger: o.Logger,
		refusals: rate.Sometimes{Interval: 10 * time.Second},
		tail:     newTail(src),
		reports:  newReports(o.OnAlerts, o.OnPeerAlerts),
	}
	for _, t := range o.Tokens {
		s.hashes = append(s.hashes, t.SHA256)
	}
	if s.heartbeat <= 0 {
		s.heartbeat = time.Second
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.knowledge = newKnowledge(src.Retention())
	s.replicas = newReplicas(s.logger, o.Tokens, s.knowledge)
	s.replicas.onApplied = o.OnApplied
	s.paces = newPaces(o.Tokens, s.replicas.figures.paced)
	if o.Registerer != nil {
		o.Registerer.MustRegister(s.replicas.figures.all()...)
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.running.Go(func() { s.tail.run(s.ctx) })
	for _, p := range s.paces {
		s.running.Go(func() { p.run(s.ctx, s.tail) })
	}
	if s.nodes = o.Nodes; s.nodes != nil {
		s.replicas.others, s.replicas.unmet = o.Others, true
		s.replicas.settle()
	}
	if o.Memory != nil {
		s.remember(o.Memory)
	}
	s.running.Go(func() { s.refreshKnowledge(s.ctx) })
	return s
}

// HandleAlerts sets OnAlerts and OnPeerAlerts of [ServerOptions], for a node that
// can make these functions only after the feed. The caller must call HandleAlerts
// before [Server.Register].
func (s *Server) HandleAlerts(take func(context.Context, Replica, []insight.Alert) error, takePeer func(string, []insight.Alert)) {
	s.reports.onAlerts, s.reports.onPeerAlerts = take, takePeer
}

// refreshKnowledge renews the records of connected replicas, and forgets the
// records that are older than the retention, until ctx ends.
func (s *Server) refreshKnowledge(ctx context.Context) {
	tick := time.NewTicker(refreshTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.replicas.seeAll()
			s.knowledge.refresh()
		}
	}
}

// Options returns the options that the [grpc.Server] must be made with. The options
// demand a credential of every call, and find dead connections. The caller adds
// the credentials of the transport.
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(s.admit),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: time.Minute,
			Time:              5 * time.Second,
			Timeout:           5 * time.Second,
		}),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.MaxRecvMsgSize(maxReport),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.StaticStreamWindowSize(64 << 10), // windows that adapt cost a ping for each packet of acknowledgements
		grpc.StaticConnWindowSize(64 << 10),
	}
}

// Register makes r serve the feed, and begins to talk to the other nodes. A
// server made without [Server.Options] refuses every follower.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	feedpb.RegisterFeedServer(r, s)
	if s.nodes != nil {
		s.spawn(func() { s.gossip(s.ctx) })
	}
}

// Close ends all streams and waits for their goroutines. The replicas connect to
// another node, or connect again later.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.running.Wait()
}

// Replicas returns the replicas that follow now, here or at another node, and
// those lost less than a minute ago, by name.
func (s *Server) Replicas() []Replica { return s.replicas.list(s.src.Revision()) }

// Accepted returns the known issuers that replicas accept, and takes no lock.
func (s *Server) Accepted() revocation.KnownIssuers { return s.knowledge.issuers() }

// WaitApplied waits until every replica has the wanted revision in force, or ctx
// ends, and returns how far the revision has got.
func (s *Server) WaitApplied(ctx context.Context, wanted Wanted) Applied {
	w := s.replicas.wait(wanted)
	select {
	case <-w.done:
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return s.replicas.giveUp(w)
}

var errClosing = status.Error(codes.Unavailable, "the control endpoint is shutting down")

// Follow serves one replica until its stream ends.
func (s *Server) Follow(stream feedpb.Feed_FollowServer) error {
	ctx, cancel, credential, leave, err := s.enter(stream.Context())
	if err != nil {
		return err
	}
	defer leave()
	err = newSession(ctx, s, cancel, stream).run(credential)
	return s.verdict(stream.Context(), ctx, err)
}

// enter begins a stream, and returns a context that also ends with the server and
// the name of the stream's feed token. The caller must call leave in the end.
func (s *Server) enter(of context.Context) (ctx context.Context, cancel context.CancelCauseFunc, credential string, leave func(), err error) {
	credential, ok := of.Value(tokenKey{}).(string)
	if !ok {
		return nil, nil, "", nil, errUnauthenticated
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, "", nil, errClosing
	}
	s.running.Add(1)
	ctx, cancel = context.WithCancelCause(of)
	stop := context.AfterFunc(s.ctx, func() { cancel(errClosing) })
	return ctx, cancel, credential, func() { stop(); cancel(nil); s.running.Done() }, nil
}

// refuse waits for refusalTime, and returns the status of a replica that is refused
// because of err. A refused replica comes again at once, and thousands of them would
// keep the control endpoint busy with streams. refuse does not wait if maxRefusals
// wait already.
func (s *Server) refuse(ctx context.Context, err error) error {
	defer s.refusing.Add(-1)
	if s.refusing.Add(1) <= maxRefusals {
		rest(ctx, refusalTime)
	}
	return status.Error(codes.ResourceExhausted, err.Error())
}

// verdict returns the error of a stream. If the server ended the stream, verdict
// returns the cause.
func (s *Server) verdict(of, ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && of.Err() == nil {
		return cause
	}
	return err
}

// remote returns the address of the caller.
func remote(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	return p.Addr.String()
}

// reason returns the reason for the end of a stream, for the log.
func reason(err error) string {
	if err == nil {
		return "the replica closed the stream"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	if errors.Is(err, context.Canceled) {
		return "the connection is gone"
	}
	return err.Error()
}
