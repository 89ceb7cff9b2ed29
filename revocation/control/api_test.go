package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	issuerA   = "https://a.example/"
	issuerB   = "https://b.example/"
	retention = 720 * time.Hour
)

// endpoint is a control endpoint under test.
type endpoint struct {
	t      testing.TB
	ledger *Ledger
	server *Server
	log    Log
	stop   func()

	mu       sync.Mutex
	replicas []Replica
}

func credential(name string, issuers []string, roles ...Role) Credential {
	return Credential{Name: name, SHA256: sha256.Sum256([]byte("token-" + name)), Roles: roles, Issuers: issuers}
}

// serve runs an endpoint on log until the test ends, or stop.
func serve(t testing.TB, log Log) *endpoint {
	t.Helper()
	e := &endpoint{t: t, log: log}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	e.ledger = NewLedger(log, LedgerOptions{Retention: retention, Logger: logger})
	var err error
	e.server, err = NewServer(Options{
		Ledger: e.ledger,
		Credentials: []Credential{
			credential("operator", nil, Operator), credential("revoker", nil, Revoker), credential("viewer", nil, Viewer),
			credential("bound", []string{issuerB}, Revoker), credential("boundviewer", []string{issuerB}, Viewer),
		},
		Replicas: func() []Replica {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.replicas
		},
		WaitApplied: func(ctx context.Context, revision uint64) (a Applied) {
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, r := range e.replicas {
				a.Total++
				if r.Revision >= revision {
					a.Applied++
				} else {
					a.Pending = append(a.Pending, r.Name)
				}
			}
			return a
		},
		Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.ledger.Run(ctx) }()
	var once sync.Once
	e.stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(e.stop)
	for start := time.Now(); e.ledger.Ready() != nil; time.Sleep(time.Millisecond) {
		select {
		case err := <-done:
			t.Fatalf("the ledger ended: %v", err)
		default:
		}
		if time.Since(start) > 20*time.Second {
			t.Fatal("the ledger is not ready after 20 s")
		}
	}
	return e
}

// answer is what came back.
type answer struct {
	*httptest.ResponseRecorder
	t testing.TB
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
	return answer{w, e.t}
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.Code != status {
		a.t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	return a
}

func (a answer) json(into any) {
	a.t.Helper()
	dec := json.NewDecoder(bytes.NewReader(a.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		a.t.Fatalf("%v: %s", err, a.Body)
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

func TestPostRevocations(t *testing.T) {
	e := serve(t, newMemoryLog())
	before := time.Now()
	a := e.do("revoker", "POST", "/v1/revocations", claims(issuerA, `{"sub":"alice","n":1.50,"admin":true}`)).want(201)
	d := a.document()
	if d.ID != "r2.0" || d.Revision != 2 || a.Header().Get("Location") != "/v1/revocations/r2.0" {
		t.Errorf("id %s revision %d location %s", d.ID, d.Revision, a.Header().Get("Location"))
	}
	if d.CreatedBy != "revoker" || !d.Active || d.CreatedAt.Before(before.Add(-time.Millisecond)) {
		t.Errorf("%+v", d)
	}
	if got := fmt.Sprint(d.Claims); got != "map[admin:true n:1.5 sub:alice]" {
		t.Errorf("claims %s", got)
	}
	again := e.do("viewer", "GET", "/v1/revocations/r2.0", "").want(200).document()
	if fmt.Sprint(again.Claims, again.ExpiresAt, *again.IssuedBefore) != fmt.Sprint(d.Claims, d.ExpiresAt, *d.IssuedBefore) {
		t.Errorf("GET gives %+v, POST gave %+v", again, d)
	}
}

func TestPostTheSameAgain(t *testing.T) {
	e := serve(t, newMemoryLog())
	body := claims(issuerA, `{"jti":"x"}`)
	first := e.revoke("revoker", body)
	second := e.do("operator", "POST", "/v1/revocations", body).want(200).document()
	if second.ID != first.ID || second.CreatedBy != "revoker" {
		t.Errorf("second %+v", second)
	}
	e.do("revoker", "DELETE", "/v1/revocations/"+first.ID, "").want(200)
	if third := e.revoke("revoker", body); third.ID == first.ID {
		t.Error("after the restoration the same ID came back")
	}
}

func TestDeleteRevocation(t *testing.T) {
	e := serve(t, newMemoryLog())
	d := e.revoke("revoker", claims(issuerA, `{"sub":"alice"}`))
	var r, again Restoration
	e.do("revoker", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&r)
	if r.Revision != d.Revision+1 {
		t.Errorf("restored by revision %d", r.Revision)
	}
	e.do("operator", "DELETE", "/v1/revocations/"+d.ID, "").want(200).json(&again)
	if again.Revision != r.Revision || again.RestoredBy != "revoker" {
		t.Errorf("again %+v, first %+v", again, r)
	}
	got := e.do("viewer", "GET", "/v1/revocations/"+d.ID, "").want(200).document()
	if got.Active || got.RestoredBy != "revoker" || got.RestoredRevision != r.Revision {
		t.Errorf("after the restoration %+v", got)
	}
	e.do("revoker", "DELETE", "/v1/revocations/r99.0", "").want(404)
	e.do("revoker", "DELETE", "/v1/revocations/garbage", "").want(404)
}

func TestImport(t *testing.T) {
	e := serve(t, newMemoryLog())
	var b strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&b, `{"issuer":%q,"claims":{"jti":"j%d"}}`+"\n", issuerA, i)
	}
	var in Import
	e.do("revoker", "POST", "/v1/revocations", b.String(), "Content-Type", "application/x-ndjson").want(201).json(&in)
	if in.Accepted != 2500 || in.Revision != 2 || e.ledger.Len() != 2500 {
		t.Errorf("%+v, %d in force", in, e.ledger.Len())
	}
	e.do("revoker", "POST", "/v1/revocations", b.String(), "Content-Type", "application/x-ndjson").want(201).json(&in)
	if in.Accepted != 2500 || in.Revision != 2 || e.ledger.Len() != 2500 {
		t.Errorf("again: %+v, %d in force", in, e.ledger.Len())
	}
	p := e.do("revoker", "POST", "/v1/revocations", b.String()+"\n{}\n{\"x\":1}\n", "Content-Type", "application/x-ndjson").want(422).problem()
	if len(p.Errors) != 3 || p.Errors[0].Line != 2502 || p.Errors[2].Line != 2503 || p.Errors[2].Member != "x" {
		t.Errorf("faults %+v", p.Errors)
	}
}
