package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation/ledger"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

const (
	issuerA   = "https://a.example/"
	issuerB   = "https://b.example/"
	retention = 720 * time.Hour
)

// endpoint is a control endpoint under test.
type endpoint struct {
	t         testing.TB
	ledger    *ledger.Ledger
	authority *ledger.Authority
	server    *Server
	log       ledger.Log
	stop      func()
	logged    syncbuffer.Buffer // the lines of the ledger, as JSON

	mu       sync.Mutex
	replicas []Replica
}

func credential(name string, issuers []string, roles ...ledger.Role) Credential {
	return Credential{Name: name, SHA256: sha256.Sum256([]byte("token-" + name)), Roles: roles, Issuers: issuers}
}

// parts are the options of an endpoint.
type parts struct {
	ledger    *ledger.Ledger
	authority ledger.AuthorityOptions
	api       Options
}

// serve runs an endpoint on log until the test ends, or stop. Changes are to its
// parts.
func serve(t testing.TB, log ledger.Log, changes ...func(*parts)) *endpoint {
	t.Helper()
	e := &endpoint{t: t, log: log}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	lines := slog.New(slog.NewMultiHandler(logger.Handler(), slog.NewJSONHandler(&e.logged, nil)))
	e.ledger = ledger.New(log, ledger.Options{Retention: retention, Logger: lines})
	p := parts{ledger: e.ledger, authority: ledger.AuthorityOptions{Logger: logger}, api: Options{
		Credentials: []Credential{
			credential("operator", nil, ledger.Operator), credential("revoker", nil, ledger.Revoker), credential("viewer", nil, ledger.Viewer),
			credential("bound", []string{issuerB}, ledger.Revoker), credential("boundviewer", []string{issuerB}, ledger.Viewer),
		},
		Replicas: func() []Replica {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.replicas
		},
		WaitApplied: func(ctx context.Context, w ledger.Wanted) (a Applied) {
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, r := range e.replicas {
				a.Total++
				if r.Revision >= w.Revision {
					a.Applied++
					if r.Issuers == nil || slices.Contains(r.Issuers, w.Issuer) {
						a.Accepting++
					}
				} else {
					a.Pending = append(a.Pending, r.Name)
				}
			}
			return a
		},
		Logger: logger,
	}}
	for _, change := range changes {
		change(&p)
	}
	p.authority.Ask = p.api.Ask
	e.authority = ledger.NewAuthority(e.ledger, p.authority)
	p.api.Authority = e.authority
	var err error
	if e.server, err = NewServer(p.api); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.ledger.Run(ctx) }()
	var once sync.Once
	e.stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(e.stop)
	eventually.Succeeds(t, "the ledger becomes ready", func() error {
		select {
		case err := <-done:
			t.Fatalf("the start of a ledger: got the end %v, want it to run", err)
		default:
		}
		return e.ledger.Ready()
	})
	return e
}

// run runs a ledger on log until the test ends, or stop.
func run(t testing.TB, log ledger.Log, now func() time.Time) (l *ledger.Ledger, stop func()) {
	t.Helper()
	l = ledger.New(log, ledger.Options{Retention: retention, Now: now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	eventually.Succeeds(t, "the ledger becomes ready", l.Ready)
	return l, func() { cancel(); <-done }
}

// answer is the response to a request of a test.
type answer struct {
	*httptest.ResponseRecorder
	t       testing.TB
	request string
}

func (e *endpoint) do(who, method, path, body string, header ...string) answer {
	e.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if who != "" {
		r.Header.Set("Authorization", "Bearer token-"+who)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.server.ServeHTTP(w, r)
	e.published(r, w)
	return answer{w, e.t, fmt.Sprintf("%s %s of %q with the body %.200q", method, path, who, body)}
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.Code != status {
		a.t.Fatalf("%s: got status %d, want %d: %s", a.request, a.Code, status, a.Body)
	}
	return a
}

func (a answer) json(into any) {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		a.t.Fatalf("%s: got %s, want JSON of a %T: %v", a.request, a.Body, into, err)
	}
}

func (a answer) document() (d Document) { a.t.Helper(); a.json(&d); return d }
func (a answer) problem() (p Problem)   { a.t.Helper(); a.json(&p); return p }

func (e *endpoint) revoke(who, body string) Document {
	e.t.Helper()
	return e.do(who, "POST", "/v1/revocations", body).want(201).document()
}

func claims(issuer, claims string) string {
	return fmt.Sprintf(`{"issuer":%q,"claims":%s}`, issuer, claims)
}
