// Package control is the admin API of the control endpoint: HTTP over the
// [ledger.Ledger]. It identifies callers, bounds the cost of a request, reads
// documents and writes documents. It never holds a lock of the ledger.
//
// # What a 2xx means
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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
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
	"rescind/revocation/ledger"
)

// Limits of the API.
const (
	maxBody       = 64 << 10
	maxImport     = 64 << 20
	maxLines      = 100_000
	maxImports    = 2   // at once: each may hold its body and its revocations
	maxInFlight   = 512 // other requests at once
	maxLimit      = 1000
	defaultLimit  = 100
	maxWait       = time.Minute
	defaultWait   = 5 * time.Second
	maxFaultLines = 1000 // that are listed of an import
)

// Options are what the API is made of.
type Options struct {
	Ledger      *ledger.Ledger
	Credentials []Credential
	Version     string // of the product, for /openapi.json

	// The feed: who follows, and who has a revision in force. WaitApplied
	// returns when all have, or when ctx ends.
	Replicas    func() []Replica
	WaitApplied func(ctx context.Context, revision uint64) Applied
	// Ask puts a question to every replica that is connected, and returns the
	// answers that come in time. Nil: there is nobody to ask.
	Ask func(ctx context.Context, kind string, query []byte) (answers [][]byte, asked, answered int)

	Alerts   *alert.Inbox // nil: there are none
	Upstream *Upstream    // nil: no issuer is told
	// ShareLimit is the share of the traffic, up to 1, that a revocation may
	// hit without being confirmed. 0: any.
	ShareLimit float64

	Registerer prometheus.Registerer // default: figures are not registered
	Logger     *slog.Logger          // default: discards
}

// Server is the admin API. It serves /v1/ and /openapi.json.
type Server struct {
	ledger      *ledger.Ledger
	credentials []Credential
	hashes      []bearer.Hash // of the credentials, in their order
	replicas    func() []Replica
	waitApplied func(context.Context, uint64) Applied
	ask         func(context.Context, string, []byte) ([][]byte, int, int)
	alerts      *alert.Inbox
	upstream    *Upstream
	shareLimit  float64
	logger      *slog.Logger
	metrics     *metrics

	mux      *http.ServeMux
	failures *rate.Limiter // of credentials: beyond, 429
	noted    *rate.Limiter // failures that get a line of the audit
	inFlight chan struct{}
	imports  chan struct{}
}

// NewServer makes the API, or says what is wrong with the credentials.
func NewServer(o Options) (*Server, error) {
	if err := checkCredentials(o.Credentials); err != nil {
		return nil, err
	}
	s := &Server{
		ledger: o.Ledger, credentials: o.Credentials,
		replicas: o.Replicas, waitApplied: o.WaitApplied, logger: o.Logger,
		ask: o.Ask, alerts: o.Alerts, upstream: o.Upstream, shareLimit: o.ShareLimit,
		metrics:  newMetrics(o.Ledger, o.Replicas),
		mux:      http.NewServeMux(),
		failures: rate.NewLimiter(10, 50),
		noted:    rate.NewLimiter(rate.Every(10*time.Second), 20),
		inFlight: make(chan struct{}, maxInFlight),
		imports:  make(chan struct{}, maxImports),
	}
	for _, c := range o.Credentials {
		s.hashes = append(s.hashes, c.SHA256)
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
	s.register(humago.New(s.mux, config))
	return s, nil
}

// caller is what is known of a request's origin.
type caller struct {
	*Credential
	from string
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// entry begins a line of the audit.
func (c caller) entry(s *Server, action string) ledger.AuditEntry {
	e := ledger.AuditEntry{At: s.ledger.Now().UTC().Truncate(time.Microsecond), Action: action, From: c.from}
	if c.Credential != nil {
		e.By = c.Name
	}
	return e
}

// ServeHTTP lets nothing but the description of the API be read without a
// credential, then bounds what a request may cost, then hands it on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
		s.refuseUnknown(w, r, caller{from: host}, err)
		return
	}
	who := caller{&s.credentials[i], host}
	slots := s.inFlight
	if imports(r) {
		slots = s.imports
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		problem(http.StatusTooManyRequests, "too many requests at once").retry().write(w)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, who))
	if p := s.readBody(r); p != nil {
		p.write(w)
		return
	}
	s.route(w, r)
}

// refuseUnknown answers a request without a known credential. Guessing is
// slowed down for all alike; who has a credential does not notice.
func (s *Server) refuseUnknown(w http.ResponseWriter, r *http.Request, who caller, why error) {
	if !s.failures.Allow() {
		problem(http.StatusTooManyRequests, "too many requests without a valid credential").retry().write(w)
		return
	}
	challenge := `Bearer realm="rescind"`
	if why != bearer.ErrMissing {
		challenge += `, error="invalid_token"`
	}
	if s.noted.Allow() {
		e := who.entry(s, ledger.ActAuthenticate)
		e.Outcome, e.Detail = ledger.Denied, r.Method+" without a valid credential"
		s.record(r.Context(), e)
	}
	problem(http.StatusUnauthorized, why.Error()).with("WWW-Authenticate", challenge).write(w)
}

// record notes what was not done. The answer does not depend on it: it is a
// refusal either way.
func (s *Server) record(ctx context.Context, e ledger.AuditEntry) {
	if len(e.Detail) > 500 {
		e.Detail = strings.ToValidUTF8(e.Detail[:500], "") + "…"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.ledger.Record(ctx, e); err != nil {
		s.logger.Warn("an attempt is not in the audit", "action", e.Action, "outcome", e.Outcome, "by", e.By, "from", e.From, "error", err)
	}
}

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// contentType is the media type of the body; JSON where nothing is said.
func contentType(r *http.Request) string {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return typeJSON
	}
	t, _, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return t
}

func imports(r *http.Request) bool {
	return r.Method == http.MethodPost && contentType(r) == typeNDJSON
}

// readBody takes the whole body, within the limit of its type, so that nothing
// later blocks on the network.
func (s *Server) readBody(r *http.Request) *Problem {
	if r.Method != http.MethodPost {
		return nil
	}
	limit := int64(maxBody)
	switch contentType(r) {
	case typeJSON:
	case typeNDJSON:
		limit = maxImport
	default:
		return s.refuseBody(r, http.StatusUnsupportedMediaType, "the body must be application/json, or application/x-ndjson with one revocation a line").
			with("Accept-Post", typeJSON+", "+typeNDJSON)
	}
	if r.ContentLength > limit {
		return s.refuseBody(r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit))
	}
	var b bytes.Buffer
	b.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	n, err := io.Copy(&b, io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return problem(http.StatusBadRequest, "the body could not be read to its end")
	case n == 0:
		return s.refuseBody(r, http.StatusUnprocessableEntity, "the body is empty")
	case n > limit:
		return s.refuseBody(r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", limit))
	}
	r.Body = io.NopCloser(&b)
	return nil
}

func (s *Server) refuseBody(r *http.Request, status int, detail string) *Problem {
	e := callerOf(r.Context()).entry(s, ledger.ActRevoke)
	e.Outcome, e.Detail = ledger.Refused, detail
	s.record(r.Context(), e)
	return problem(status, detail)
}

// route hands a request to its operation, and makes problem documents of the
// mux's own errors.
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
		problem(http.StatusNotFound, "there is nothing at this path; /openapi.json lists what there is").write(w)
	}
}

// statusOnly is a ResponseWriter that keeps only what the mux decided.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// unavailable is the answer when the ledger or its log failed.
func (s *Server) unavailable(err error) *Problem {
	switch {
	case errors.Is(err, ledger.ErrTooLarge):
		return problem(http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, ledger.ErrNotReady):
		return problem(http.StatusServiceUnavailable, err.Error()).retry()
	}
	s.logger.Error("a request failed", "error", err)
	return problem(http.StatusServiceUnavailable, "this cannot be made durable now, though it may still come into force; ask again").retry()
}
