package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"

	"rescind/revocation/insight"
	"rescind/test/eventually"
)

func secretIs(s string) func() (string, error) { return func() (string, error) { return s, nil } }

// receiver is a webhook written after the documentation of webhooks.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	bad  []string
	got  []insight.Alert
	seen map[string]bool
}

func newReceiver(t testing.TB, secret string, secure bool) *receiver {
	t.Helper()
	r := &receiver{seen: map[string]bool{}}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		body, _ := io.ReadAll(req.Body)
		at := req.Header.Get("Rescind-Timestamp")
		mac := hmac.New(sha256.New, []byte(secret))
		io.WriteString(mac, at+"."+string(body))
		if want := "v1=" + hex.EncodeToString(mac.Sum(nil)); req.Header.Get("Rescind-Signature") != want {
			r.bad = append(r.bad, "signature")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seconds, err := strconv.ParseInt(at, 10, 64)
		if age := time.Since(time.Unix(seconds, 0)); err != nil || age < -time.Second || age > time.Minute {
			r.bad = append(r.bad, "timestamp")
		}
		var m struct {
			ID    string        `json:"id"`
			Alert insight.Alert `json:"alert"`
		}
		if err := json.Unmarshal(body, &m); err != nil || m.ID != req.Header.Get("Rescind-Id") || m.ID != m.Alert.ID ||
			req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" {
			r.bad = append(r.bad, string(body))
		}
		if r.seen[m.ID] {
			return
		}
		r.seen[m.ID] = true
		r.got = append(r.got, m.Alert)
	})
	if secure {
		r.Server = httptest.NewTLSServer(handler)
	} else {
		r.Server = httptest.NewServer(handler)
	}
	t.Cleanup(r.Close)
	return r
}

func trusting(r *receiver) func() (*tls.Config, error) {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return func() (*tls.Config, error) { return &tls.Config{RootCAs: pool}, nil }
}

func TestWebhook(t *testing.T) {
	for _, secure := range []bool{false, true} {
		r := newReceiver(t, "s3cret", secure)
		o := WebhookOptions{Name: "siem", URL: r.URL + "/hook/TOKEN", Secret: secretIs("s3cret")}
		if secure {
			o.TLS = trusting(r)
		}
		in := open(t, Options{Targets: []Target{Webhook(o)}})
		a := alertOf(insight.RevokedTokenUsed, "k")
		a.Subject = `al"ice<script>` + "\r\n"
		take(t, in, "replica-a", a)
		eventually.True(t, "the webhook has the alert", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.got) > 0
		})
		if got := r.got[0]; got.Subject != `al"ice<script>`+"\uFFFD\uFFFD" || got.Detector != a.Detector || len(r.bad) > 0 {
			t.Errorf("webhook with TLS %v: got %+v and the faults %q, want the subject cleaned, the detector %s and no fault", secure, got, r.bad, a.Detector)
		}
		in.Close()
	}
}

func TestAnswersOfAWebhook(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	var status int
	header := http.Header{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, v := range header {
			w.Header()[name] = v
		}
		w.WriteHeader(status)
		io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	defer s.Close()
	hook := Webhook(WebhookOptions{Name: "x", URL: s.URL, Secret: secretIs("s")})
	for status_, want := range map[int]string{200: "taken", 204: "taken", 302: "again", 307: "again", 400: "refused", 401: "again", 404: "again", 422: "refused", 429: "again", 500: "again", 503: "again"} {
		status, header = status_, http.Header{"Location": {other.URL}}
		err := hook.Send(t.Context(), alertOf(insight.SubjectRate, "k"))
		got := "again"
		switch {
		case err == nil:
			got = "taken"
		case permanent(err):
			got = "refused"
		}
		if got != want {
			t.Errorf("status %d: got %s (%v), want %s", status, got, err, want)
		}
	}
	if elsewhere > 0 {
		t.Errorf("got %d requests at the target of a redirect, want none", elsewhere)
	}
	status, header = 503, http.Header{"Retry-After": {"7"}}
	var later *backoff.RetryAfterError
	if err := hook.Send(t.Context(), alertOf(insight.SubjectRate, "k")); !errors.As(err, &later) || later.Duration != 7*time.Second {
		t.Errorf("503 with Retry-After 7: got %v, want a pause of 7 s", err)
	}
}

// The URL of a webhook is often a secret, and the key of its signatures is one.
func TestSecretsAreNotLogged(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	c := newCourier(&Inbox{logger: logger, metrics: metricsFor(t, "x", "y")}, Webhook(WebhookOptions{Name: "x", URL: "http://127.0.0.1:1/hook/T0KEN", Secret: secretIs("s3cret")}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	c.deliver(ctx, alertOf(insight.SubjectRate, "k"))
	c = newCourier(c.in, Webhook(WebhookOptions{Name: "y", URL: "http://[::1/T0KEN", Secret: secretIs("s3cret")}))
	c.note(ctx, c.target.Send(t.Context(), alertOf(insight.SubjectRate, "k")))
	if text := log.String(); text == "" || strings.Contains(text, "T0KEN") || strings.Contains(text, "s3cret") {
		t.Errorf("deliveries to URLs with a secret: got the log %q, want a log without T0KEN and s3cret", text)
	}
}

func metricsFor(t testing.TB, names ...string) *metrics {
	t.Helper()
	var targets []Target
	for _, n := range names {
		targets = append(targets, Target{Name: n})
	}
	f, err := newMetrics(nil, targets)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
