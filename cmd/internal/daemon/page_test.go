package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rescind/test/testcert"
)

func TestPage(t *testing.T) {
	state := Readiness{}
	rest := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "rest of "+r.URL.Path) })
	h := Page(Registry("1.2.3", "abc"), func() Readiness { return state }, rest)
	for _, c := range []struct {
		method, path string
		state        Readiness
		status       int
		body         string
	}{
		{"GET", "/healthz", Readiness{Missing: []string{"all"}}, 200, `{"alive":true}`},
		{"HEAD", "/healthz", Readiness{}, 200, ""},
		{"POST", "/healthz", Readiness{}, 200, "rest of /healthz"},
		{"GET", "/readyz", Readiness{}, 200, `{"ready":true}`},
		{"GET", "/readyz", Readiness{Notes: []string{"stale"}}, 200, `{"ready":true,"notes":["stale"]}`},
		{"GET", "/readyz", Readiness{Missing: []string{"the set", "keys"}}, 503, `{"ready":false,"missing":["the set","keys"]}`},
		{"GET", "/metrics", Readiness{}, 200, "go_goroutines"},
		{"GET", "/v1/x", Readiness{}, 200, "rest of /v1/x"},
	} {
		state = c.state
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %.200s, want %d with %s", c.method, c.path, w.Code, w.Body, c.status, c.body)
		}
	}
	w := httptest.NewRecorder()
	Page(Registry("1.2.3", "abc"), func() Readiness { return state }, nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 404 {
		t.Errorf("GET / of a page without other paths: got %d, want 404", w.Code)
	}
}

// running starts a server, and returns its address and the channel of the error
// that ends it.
func running(t *testing.T, h http.Handler, config *tls.Config) (*Server, string, <-chan error) {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(h, config, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return s, l.Addr().String(), done
}

func TestServerOverTLS(t *testing.T) {
	f := newTLSFiles(t)
	a := testcert.NewAuthority(t, "ca")
	a.IssueFiles(t, "server", f.cert, f.key)
	testcert.Replace(t, f.ca, a.PEM())
	server, err := ServerTLS(f.cert, f.key, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ClientTLS(f.ca, "", "", "localhost", nil)()
	if err != nil {
		t.Fatal(err)
	}
	_, addr, _ := running(t, Page(Registry("1.2.3", "abc"), func() Readiness { return Readiness{} }, nil), server)
	for _, h2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: client.Clone(), ForceAttemptHTTP2: h2}
		r, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		transport.CloseIdleConnections()
		if r.StatusCode != http.StatusOK || (r.ProtoMajor == 2) != h2 {
			t.Errorf("with HTTP/2 %v the answer is %s over %s, want 200", h2, r.Status, r.Proto)
		}
	}
}

func TestShutdownAnswersOpenRequests(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s, addr, done := running(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		fmt.Fprint(w, "answered")
	}), nil)
	got := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + addr)
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		got <- string(b)
	}()
	<-asked
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	if err := <-done; err != nil { // the listener is closed
		t.Errorf("Serve ends with %v, want nil", err)
	}
	close(release)
	if b := <-got; b != "answered" {
		t.Errorf("the open request got %q, want its answer", b)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown returns %v, want nil", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestShutdownCutsOffLongRequests(t *testing.T) {
	asked := make(chan struct{})
	s, addr, _ := running(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}), nil)
	got := make(chan error, 1)
	go func() {
		r, err := http.Get("http://" + addr)
		if err == nil {
			_ = r.Body.Close()
		}
		got <- err
	}()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v, want %v", err, context.DeadlineExceeded)
	}
	if err := <-got; err == nil {
		t.Error("after Shutdown gave up: got an answer, want the connection closed")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	_, addr, _ := running(t, http.NotFoundHandler(), nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeader)) }()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "431") {
		t.Errorf("a header of %d bytes is answered with %q, %v, want 431", 2*maxHeader, line, err)
	}
}
