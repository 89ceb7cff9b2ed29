package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rescind/revocation/linelimit"
)

// Readiness is the answer of /readyz. A process is ready if nothing is missing.
type Readiness struct {
	Missing []string // in words: "the revocation set is not complete"
	Notes   []string // for an operator; they do not make the process unready
}

// Page returns the handler of /healthz, /readyz and /metrics. It hands every other
// request to rest, which may be nil.
func Page(figures prometheus.Gatherer, ready func() Readiness, rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"alive": true})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := ready()
		status := http.StatusOK
		if len(r.Missing) > 0 {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, struct {
			Ready   bool     `json:"ready"`
			Missing []string `json:"missing,omitempty"`
			Notes   []string `json:"notes,omitempty"`
		}{len(r.Missing) == 0, r.Missing, r.Notes})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(figures, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 8, EnableOpenMetrics: true, // for exemplars
	}))
	if rest != nil {
		mux.Handle("/", rest)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Bounds of a client of a [Server]. A body may be 64 MiB, so the reading of a
// request is generous. The writing covers the reading and the longest wait for the
// replicas, which is a minute.
const (
	readHeader = 5 * time.Second
	readAll    = 2 * time.Minute
	writeAll   = 4 * time.Minute
	idle       = 2 * time.Minute
	maxHeader  = 32 << 10
)

// Server is an HTTP server with bounds.
type Server struct {
	http        *http.Server
	connections *linelimit.Limit // lines about failed connections
}

// NewServer returns a server that does not listen yet. A nil config is plaintext.
func NewServer(h http.Handler, config *tls.Config, logger *slog.Logger) *Server {
	connections := linelimit.New(logger, slog.LevelWarn, "connection failed", connectionLines)
	return &Server{connections: connections, http: &http.Server{
		Handler: h, TLSConfig: config,
		ReadHeaderTimeout: readHeader, ReadTimeout: readAll, WriteTimeout: writeAll, IdleTimeout: idle,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       newHTTPLog(logger, connections),
	}}
}

// Serve answers on l until Shutdown. Then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	serve := func(l net.Listener) error { return s.http.Serve(plainListener{l, s.connections}) }
	if s.http.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	if err := serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown answers the requests that have begun, and closes. When ctx ends it cuts
// off the others and returns an error.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.connections.Close()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("HTTP requests were cut off: %w", err), s.http.Close())
	}
	return err
}
