// Package control is the admin API of the control endpoint: HTTP over the
// [ledger.Ledger]. It identifies callers, bounds the cost of a request, reads
// documents and writes documents. It never holds a lock of the ledger.
//
// # The meaning of a 2xx
//
// The batch is durable, the entry of the audit is durable, and the state of
// this node has it. With wait=all, every replica has it in force.
//
// A 503 to a change means that this node does not know whether the change is
// durable: it may come into force all the same. Asking again is safe. The same
// revocation is not made twice, and restoring twice is restoring once.
//
// # Trust
//
// Callers are known by bearer tokens, of which the configuration holds the
// SHA-256 alone. A raw JWT in a request is reduced to its identity as soon as
// it is read. It is never stored, logged or answered. Where its issuer is to be
// told, the raw token stays in memory until then ([Upstream]).
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"rescind/revocation/bearer"
	"rescind/revocation/control/alert"
	"rescind/revocation/intake"
	"rescind/revocation/ledger"
)

// Options are the parts of the API.
type Options struct {
	Authority   *ledger.Authority
	Credentials []Credential
	Version     string // of the product, for /openapi.json

	// Replicas lists the followers of the feed.
	Replicas func() []Replica
	// WaitApplied returns when every replica has the change in force, or when
	// ctx ends.
	WaitApplied func(ctx context.Context, w ledger.Wanted) Applied
	Ask         ledger.Ask
	Alerts      *alert.Inbox // nil: there are none
	Intakes     *intake.Doors
	// Stopping is closed when the process ends. Imports that wait then end too.
	Stopping <-chan struct{}

	Registerer prometheus.Registerer // default: metrics are not registered
	Logger     *slog.Logger          // default: discards
}

// Server is the admin API. It serves /v1/ and /openapi.json.
type Server struct {
	authority   *ledger.Authority
	credentials []Credential
	hashes      []bearer.Hash // of the credentials, in their order
	replicas    func() []Replica
	waitApplied func(context.Context, ledger.Wanted) Applied
	ask         ledger.Ask
	alerts      *alert.Inbox
	intakes     *intake.Doors
	logger      *slog.Logger
	metrics     *metrics

	mux        *http.ServeMux
	operations map[string]string // IDs by the pattern of mux
	failures   *rate.Limiter     // of credentials: beyond, 429
	requests   *slots
	imports    *slots
	waits      *slots
	refused    refusedImports
	pace       *pace // of imports and restorations of a write
	bodyTime   time.Duration
}

// NewServer returns the API. It fails if the credentials are unsound.
func NewServer(o Options) (*Server, error) {
	if err := checkCredentials(o.Credentials); err != nil {
		return nil, err
	}
	s := &Server{
		authority: o.Authority, credentials: o.Credentials,
		replicas: o.Replicas, waitApplied: o.WaitApplied, logger: o.Logger,
		ask: o.Ask, alerts: o.Alerts, intakes: o.Intakes,
		metrics: newMetrics(o.Replicas),
		mux:     http.NewServeMux(), operations: map[string]string{},
		refused:  newRefusedImports(o.Credentials),
		failures: rate.NewLimiter(10, 50),
		requests: newSlots("requests", maxRequests, maxRequests/2, maxRequests/8),
		imports:  newSlots("imports", maxImports, 1, 1),
		bodyTime: bodyTime,
		waits:    newSlots("waits", maxWaits, maxWaits/2, maxWaits/8),
	}
	s.pace = newPace(s.metrics.paced, o.Stopping)
	for _, c := range o.Credentials {
		s.hashes = append(s.hashes, c.SHA256)
	}
	if s.intakes == nil {
		s.intakes = intake.NewDoors("", nil)
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(s.metrics); err != nil {
			return nil, err
		}
	}
	config := huma.DefaultConfig("rescind control", o.Version)
	config.Info.Description = "Revokes tokens, and undoes it. Every error is a problem document (RFC 9457)."
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"bearer": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"bearer": {}}}
	config.Tags, config.Servers = tags, []*huma.Server{{URL: "/", Description: "The control endpoint that serves this description"}}
	s.register(humago.New(s.mux, config))
	return s, nil
}

// call is one request of a known caller.
type call struct {
	ledger.Caller
	slot *slot // which the request holds
	// decided says that the authority has the request, so its outcome is in the
	// log and in the audit.
	decided bool
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	if c == nil {
		return &call{slot: &slot{}} // may do nothing
	}
	return c
}

// ServeHTTP identifies the caller, refuses requests that no operation takes and
// callers that may not do this at all, bounds the cost of the request, and then
// hands the request on. Only the description of the API is served without a
// credential.
func (s *Server) ServeHTTP(writer http.ResponseWriter, r *http.Request) {
	w, end := s.count(writer, r)
	defer end()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		s.route(w, r)
		return
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	i, err := bearer.Identify(s.hashes, r.Header.Values("Authorization"))
	if err != nil {
		s.refuseUnknown(w, r, host, err)
		return
	}
	if w.operation == noOperation {
		dropBody(w, r)
		s.route(w, r)
		return
	}
	c := &call{Caller: s.credentials[i].caller(host), slot: &slot{}}
	defer func() { c.slot.free() }()
	if err := s.enter(w, r, c); err != nil {
		dropBody(w, r)
		s.problemOf(err).write(w)
	} else {
		s.route(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
	}
	if changes(r) && !c.decided && w.status >= http.StatusBadRequest {
		s.authority.Announce(&c.Caller, actionOf(r), fmt.Sprintf("answered %d %s", w.status, http.StatusText(w.status)))
	}
}

// changes reports whether a request asks for a change.
func changes(r *http.Request) bool {
	return r.Method != http.MethodGet && r.Method != http.MethodHead
}

// enter decides from the credential and the request line, gives the call its
// slot, and only then reads the body.
func (s *Server) enter(w *counted, r *http.Request, c *call) error {
	if changes(r) {
		if err := s.authority.Admit(r.Context(), &c.Caller, actionOf(r)); err != nil {
			c.decided = true
			return err
		}
	}
	if err := checkQuery(r.URL.Query()); err != nil {
		return err
	}
	slots := s.requests
	if w.operation == importOperation || w.operation == restoreWriteOperation {
		slots = s.imports
		if p := s.refused.check(&c.Caller); p != nil {
			s.metrics.refused.WithLabelValues("refused_imports").Inc()
			return p
		}
	}
	if slots == s.imports { // a request that waits holds no slot
		if p := s.pace.wait(r.Context(), &c.Caller, w.operation, r.ContentLength); p != nil {
			if p.Status == http.StatusTooManyRequests {
				s.metrics.refused.WithLabelValues(slots.bound).Inc()
			}
			return p
		}
	}
	place := slots.take(&c.Caller)
	if place == nil {
		s.metrics.refused.WithLabelValues(slots.bound).Inc()
		return problem(http.StatusTooManyRequests, slots.full()).retry()
	}
	c.slot = place
	if w.operation == releaseOperation { // it has no body
		dropBody(w, r)
		return nil
	}
	return s.readBody(w, r, c)
}

// actionOf returns the action of the audit that a request of this method is.
func actionOf(r *http.Request) string {
	switch held := strings.HasPrefix(r.URL.Path, heldPath+"/"); {
	case held && r.Method == http.MethodDelete:
		return ledger.ActDrop
	case held:
		return ledger.ActRelease
	case r.Method == http.MethodDelete:
		return ledger.ActRestore
	case isImport(r):
		return ledger.ActImport
	}
	return ledger.ActRevoke
}

// refuseUnknown answers a request without a known credential. Guessing is
// slowed down for all callers alike. A caller with a credential does not notice.
func (s *Server) refuseUnknown(w http.ResponseWriter, r *http.Request, host string, why error) {
	dropBody(w, r)
	s.authority.FailedLogin(r.Context(), host, r.Method+" without a valid credential")
	if !s.failures.Allow() {
		problem(http.StatusTooManyRequests, "too many requests without a valid credential").retry().write(w)
		return
	}
	challenge := `Bearer realm="rescind"`
	if !errors.Is(why, bearer.ErrMissing) {
		challenge += `, error="invalid_token"`
	}
	problem(http.StatusUnauthorized, why.Error()).with("WWW-Authenticate", challenge).write(w)
}

// route hands a request to its operation, and makes problem documents of the
// errors of the mux.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	plain := &statusOnly{header: http.Header{}}
	s.mux.ServeHTTP(plain, r)
	switch plain.status {
	case http.StatusMethodNotAllowed:
		allow := plain.header.Get("Allow")
		problem(http.StatusMethodNotAllowed, "this path takes "+allow).with("Allow", allow).write(w)
	default:
		problem(http.StatusNotFound, "there is nothing at this path; /openapi.json lists the paths").write(w)
	}
}

// statusOnly is a ResponseWriter that keeps only the decision of the mux.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
