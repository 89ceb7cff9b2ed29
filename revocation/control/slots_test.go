package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation/ledger"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

// listen serves the endpoint on a real connection.
func (e *endpoint) listen() *httptest.Server {
	s := httptest.NewServer(e.server)
	e.t.(*testing.T).Cleanup(s.Close)
	return s
}

// sendHalf begins a POST and does not send the rest of its body.
func sendHalf(t *testing.T, s *httptest.Server, who, contentType string, length int, begin string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := fmt.Fprintf(c, "POST /v1/revocations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-%s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", who, contentType, length, begin); err != nil {
		t.Fatal(err)
	}
	return c
}

func statusFrom(t *testing.T, c net.Conn) int {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.StatusCode
}

func postTo(t *testing.T, s *httptest.Server, who, contentType, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.URL+"/v1/revocations", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token-"+who)
	r.Header.Set("Content-Type", contentType)
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// A viewer with 512 half-sent POSTs is refused at once, before its bodies. The
// operator gets through.
func TestViewerWithHalfSentPosts(t *testing.T) {
	e := serve(t, ledgertest.New())
	s := e.listen()
	var held []net.Conn
	for range 512 {
		held = append(held, sendHalf(t, s, "viewer", typeJSON, 1000, "{"))
	}
	if code, body := postTo(t, s, "operator", typeJSON, claims(issuerA, `{"jti":"x"}`)); code != 201 {
		t.Errorf("the operator beside 512 half-sent POSTs of a viewer: %d %s, want 201", code, body)
	}
	if code := statusFrom(t, held[0]); code != 403 {
		t.Errorf("a half-sent POST of a viewer: %d, want 403 without waiting for its body", code)
	}
	if _, err := io.Copy(io.Discard, held[0]); err != nil {
		t.Errorf("after the refusal of a half-sent POST: %v, want its connection closed", err)
	}
}

// A revoker may have half of the slots with half-sent POSTs. The operator and
// another credential get through.
func TestRevokerWithHalfSentPosts(t *testing.T) {
	e := serve(t, ledgertest.New())
	s := e.listen()
	for range maxRequests {
		sendHalf(t, s, "revoker", typeJSON, 1000, "{")
	}
	eventually.True(t, "the revoker has no more slots", func() bool {
		code, _ := postTo(t, s, "revoker", typeJSON, claims(issuerA, `{"jti":"x"}`))
		return code == 429
	})
	for who, issuer := range map[string]string{"operator": issuerA, "bound": issuerB} {
		if code, body := postTo(t, s, who, typeJSON, claims(issuer, `{"jti":"x"}`)); code != 201 {
			t.Errorf("%s beside the half-sent POSTs of a revoker: %d %s, want 201", who, code, body)
		}
	}
}

// Two slow uploads leave room for the operator's import.
func TestTwoSlowUploads(t *testing.T) {
	e := serve(t, ledgertest.New())
	s := e.listen()
	sendHalf(t, s, "revoker", typeNDJSON, 1<<20, "{")
	sendHalf(t, s, "bound", typeNDJSON, 1<<20, "{")
	eventually.True(t, "both uploads have their slot", func() bool {
		e.server.imports.mu.Lock()
		defer e.server.imports.mu.Unlock()
		return e.server.imports.taken == 2
	})
	if code, body := postTo(t, s, "revoker", typeNDJSON, claims(issuerA, `{"jti":"y"}`)); code != 429 || !strings.Contains(body, "a credential may have 1 of 3") {
		t.Errorf("another import of the revoker: %d %s, want 429 that names the bound", code, body)
	}
	if body := e.do("revoker", "DELETE", "/v1/revocations?revision=2", "").want(429).Body.String(); !strings.Contains(body, "imports and restorations of a write") {
		t.Errorf("a restoration of a write beside an import of the same credential: got %s, want the bound named", body)
	}
	e.do("revoker", "DELETE", "/v1/revocations/r2.0", "").want(404) // one revocation takes no such slot
	if code, body := postTo(t, s, "operator", typeNDJSON, claims(issuerA, `{"jti":"x"}`)); code != 201 {
		t.Errorf("the operator's import beside two slow uploads: %d %s, want 201", code, body)
	}
}

// A small body has seconds to arrive.
func TestBodyThatDoesNotArrive(t *testing.T) {
	e := serve(t, ledgertest.New())
	e.server.bodyTime = 50 * time.Millisecond
	c := sendHalf(t, e.listen(), "revoker", typeJSON, 1000, "{")
	if code := statusFrom(t, c); code != 408 {
		t.Errorf("a body that stalls: %d, want 408", code)
	}
}

// A request that waits for replicas holds no slot.
func TestWaitHoldsNoSlot(t *testing.T) {
	e := serve(t, ledgertest.New(), func(p *parts) {
		p.api.WaitApplied = func(ctx context.Context, _ ledger.Wanted) Applied {
			<-ctx.Done()
			return Applied{Total: 1, Pending: []string{"replica-a"}}
		}
	})
	e.server.requests.total, e.server.requests.each, e.server.requests.kept = 2, 2, 0
	var waiting sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for i := range 5 {
		waiting.Go(func() {
			r := httptest.NewRequestWithContext(ctx, "POST", "/v1/revocations?wait=all&timeout=1m", strings.NewReader(claims(issuerA, fmt.Sprintf(`{"jti":"%d"}`, i))))
			r.Header.Set("Authorization", "Bearer token-revoker")
			r.Header.Set("Content-Type", typeJSON)
			e.server.ServeHTTP(httptest.NewRecorder(), r)
		})
		eventually.True(t, fmt.Sprintf("%d requests wait and hold no slot", i+1), func() bool {
			e.server.waits.mu.Lock()
			defer e.server.waits.mu.Unlock()
			return e.server.waits.taken == i+1
		})
	}
	e.revoke("revoker", claims(issuerA, `{"jti":"another"}`))
	stop()
	waiting.Wait()
}

func TestSlots(t *testing.T) {
	s := newSlots("requests", 10, 4, 2)
	caller := func(name string, roles ...ledger.Role) *ledger.Caller {
		return &ledger.Caller{Name: name, Roles: roles}
	}
	taken := map[string]int{}
	var last *slot
	for _, c := range []*ledger.Caller{caller("a", ledger.Revoker), caller("b", ledger.Viewer), caller("c", ledger.Revoker), caller("op", ledger.Operator)} {
		for range 20 {
			if got := s.take(c); got != nil {
				taken[c.Name]++
				last = got
			}
		}
	}
	if want := map[string]int{"a": 4, "b": 4, "op": 2}; fmt.Sprint(taken) != fmt.Sprint(want) {
		t.Errorf("of 10 slots, 4 for each and 2 kept for operators, the callers took %v, want %v", taken, want)
	}
	last.free()
	last.free() // counts once
	op := caller("op", ledger.Operator)
	if s.take(op) == nil || s.take(op) != nil {
		t.Error("a slot that was given back twice: want one to take, and no second one")
	}
}
