package intake

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of the requests that senders push.
const (
	MaxBody = 64 << 10 // bytes

	readTime  = 10 * time.Second // of a whole request
	maxAtOnce = 64               // requests of one intake
	perSecond = 500              // requests of one intake
	burst     = 1000
)

// Prefix begins the paths of all intakes. The name of the intake and the path of
// its kind follow.
const Prefix = "/intake/"

// Push serves the requests that senders push to the intakes. Another path is 404.
// A handler sees the path behind the name of its intake. Each intake has bounds of
// its own for requests at once and requests a second.
type Push struct {
	intakes map[string]*pushed
	logger  *slog.Logger
}

type pushed struct {
	handler http.Handler
	slots   chan struct{}
	rate    *rate.Limiter
}

// NewPush returns the server of these handlers, by the names of their intakes.
func NewPush(handlers map[string]http.Handler, logger *slog.Logger) *Push {
	p := &Push{intakes: map[string]*pushed{}, logger: logger}
	for name, h := range handlers {
		p.intakes[name] = &pushed{
			handler: http.StripPrefix(Prefix+name, h), slots: make(chan struct{}, maxAtOnce), rate: rate.NewLimiter(perSecond, burst),
		}
	}
	return p
}

// ServeHTTP answers one request. A panic of a handler is a 500, so the sender
// sends the event again.
func (p *Push) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	in := p.intakes[name]
	if in == nil || !strings.HasPrefix(r.URL.Path, Prefix+name+"/") || r.URL.RawPath != "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if !in.rate.Allow() {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer func() {
		if fault := recover(); fault != nil {
			p.logger.Error("intake panicked", "intake", name, "panic", fault)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	ctx, cancel := context.WithTimeout(r.Context(), 2*readTime)
	defer cancel()
	in.handler.ServeHTTP(w, r.WithContext(ctx))
}

// Faults of a request that ReadBody finds. [StatusOf] returns their statuses.
var (
	ErrMethod    = errors.New("the method must be POST")
	ErrMediaType = errors.New("the Content-Type is not the one of this endpoint")
	ErrTooLarge  = errors.New("the body has more than 64 KiB")
	ErrCutOff    = errors.New("the body did not arrive whole")
)

// ReadBody returns the body of a POST with one of these media types. It reads at
// most [MaxBody] bytes.
func ReadBody(w http.ResponseWriter, r *http.Request, mediaTypes ...string) ([]byte, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, ErrMethod
	}
	given, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	ok := false
	for _, t := range mediaTypes {
		ok = ok || err == nil && given == t
	}
	if !ok {
		return nil, ErrMediaType
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, ErrTooLarge
	} else if err != nil {
		return nil, ErrCutOff
	}
	return body, nil
}

// StatusOf returns the HTTP status for an error of [ReadBody], [Signer.Verify] or
// [Door.Take]. It is 503 for an error that another attempt may not meet.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, ErrMethod):
		return http.StatusMethodNotAllowed
	case errors.Is(err, ErrMediaType):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrCutOff):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// Answer writes an answer. An empty body has no Content-Type.
func Answer(w http.ResponseWriter, status int, mediaType string, body []byte) {
	if len(body) > 0 {
		w.Header().Set("Content-Type", mediaType)
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// From returns the network address of a sender, for [Door.Turn].
func From(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
