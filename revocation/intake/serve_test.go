package intake

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/time/rate"
)

func push(h http.Handler, method, path, mediaType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPushServesItsPathsAlone(t *testing.T) {
	seen := ""
	h := NewPush(map[string]http.Handler{
		"kc":   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { seen = r.URL.Path }),
		"kc-2": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen = "kc-2" }),
		"bad":  http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") }),
	}, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		path, seen string
		status     int
	}{
		{"/intake/kc/logout", "/logout", 200},
		{"/intake/kc/", "/", 200},
		{"/intake/kc-2/x", "kc-2", 200},
		{"/intake/bad/x", "", 500},
		{"/intake/kc", "", 404},
		{"/intake/KC/logout", "", 404},
		{"/intake/kc%2flogout", "", 404},
		{"/intake/kc/a%2fb", "", 404},
		{"/intake/", "", 404},
		{"/intake//logout", "", 404},
		{"/kc/logout", "", 404},
		{"/v1/revocations", "", 404},
		{"/metrics", "", 404},
		{"/", "", 404},
	} {
		seen = ""
		w := push(h, "POST", c.path, "text/plain", "")
		if w.Code != c.status || seen != c.seen {
			t.Errorf("%s: got %d and the path %q, want %d and %q", c.path, w.Code, seen, c.status, c.seen)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: got Cache-Control %q, want no-store", c.path, got)
		}
	}
}

func TestPushBoundsTheRequestsOfOneIntake(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	h := NewPush(map[string]http.Handler{
		"slow": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-end }),
		"fast": http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
	}, slog.New(slog.DiscardHandler))
	done := make(chan int)
	for range maxAtOnce {
		go func() { done <- push(h, "POST", "/intake/slow/x", "", "").Code }()
		<-begun
	}
	if w := push(h, "POST", "/intake/slow/x", "", ""); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("one request more than there are slots: got %d, want 503 with Retry-After", w.Code)
	}
	if w := push(h, "POST", "/intake/fast/x", "", ""); w.Code != 200 {
		t.Errorf("another intake: got %d, want 200", w.Code)
	}
	close(end)
	for range maxAtOnce {
		if code := <-done; code != 200 {
			t.Errorf("a request in a slot: got %d, want 200", code)
		}
	}
	h.intakes["fast"].rate = rate.NewLimiter(0, 2)
	for _, want := range []int{200, 200, 429} {
		if w := push(h, "POST", "/intake/fast/x", "", ""); w.Code != want {
			t.Errorf("two requests are allowed: got %d, want %d", w.Code, want)
		}
	}
}

func TestReadBody(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, method, mediaType, body string
		want                          error
		status                        int
	}{
		{"a form", "POST", form, "a=b", nil, 0},
		{"with a charset", "POST", "Application/X-WWW-Form-Urlencoded; charset=UTF-8", "a=b", nil, 0},
		{"of the largest size", "POST", form, strings.Repeat("x", MaxBody), nil, 0},
		{"too large", "POST", form, strings.Repeat("x", MaxBody+1), ErrTooLarge, 413},
		{"GET", "GET", form, "a=b", ErrMethod, 405},
		{"another type", "POST", "application/json", "{}", ErrMediaType, 415},
		{"no type", "POST", "", "a=b", ErrMediaType, 415},
	} {
		r := httptest.NewRequest(c.method, "/", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.mediaType)
		body, err := ReadBody(httptest.NewRecorder(), r, form)
		if !errors.Is(err, c.want) || (err == nil) != (string(body) == c.body) {
			t.Errorf("%s: got %d bytes and %v, want %v", c.name, len(body), err, c.want)
		}
		if err != nil && StatusOf(err) != c.status {
			t.Errorf("%s: got the status %d, want %d", c.name, StatusOf(err), c.status)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("a"), cutReader{}))
	r.Header.Set("Content-Type", form)
	if _, err := ReadBody(httptest.NewRecorder(), r, form); !errors.Is(err, ErrCutOff) || StatusOf(err) != 400 {
		t.Errorf("a body that is cut off: got %v, want %v and 400", err, ErrCutOff)
	}
}

type cutReader struct{}

func (cutReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
