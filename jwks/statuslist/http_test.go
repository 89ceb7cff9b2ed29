package statuslist

import (
	"compress/gzip"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/jwks"
	"rescind/jwks/fetch"
	"rescind/test/eventually"
)

// These tests use real connections.

// waitForKeys waits until the keys are there.
func waitForKeys(t *testing.T, k *jwks.Keys) {
	t.Helper()
	eventually.True(t, "the keys are there", func() bool { return k.Status().Usable() })
}

func TestRequests(t *testing.T) {
	keys, _ := keysOf(t, "a")
	t.Cleanup(keys.Close)
	waitForKeys(t, keys)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("got a request for %s, want none at another host", r.URL)
	}))
	t.Cleanup(elsewhere.Close)
	var s *httptest.Server
	good := func(w http.ResponseWriter, r *http.Request) string { return token(s.URL+r.URL.Path, []byte{1}, nil) }
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept"); got != "application/statuslist+jwt" || r.Method != http.MethodGet {
			t.Errorf("%s: got method %s and Accept %q, want GET and application/statuslist+jwt", r.URL.Path, r.Method, got)
		}
		switch r.URL.Path {
		case "/l/good":
			_, _ = w.Write([]byte(good(w, r)))
		case "/l/packed":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(good(w, r)))
			_ = z.Close()
		case "/l/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/elsewhere":
			_, _ = w.Write([]byte(token(s.URL+"/l/moved", []byte{1}, nil)))
		case "/l/away":
			http.Redirect(w, r, elsewhere.URL+"/l/away", http.StatusFound)
		case "/l/loop":
			http.Redirect(w, r, "/l/loop", http.StatusFound)
		case "/l/large":
			_, _ = w.Write([]byte(strings.Repeat("x", DefaultMaxResponse+1)))
		case "/l/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 4 {
				_, _ = z.Write([]byte(strings.Repeat("x", 1<<20)))
			}
			_ = z.Close()
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Issuer: idp, Keys: keys, URIs: []string{s.URL + "/l/"}, Requests: fetch.Options{CAFile: ca}, Logger: slog.New(slog.DiscardHandler)}
	for path, want := range map[string]string{
		"good": "", "packed": "", "moved": "",
		"away": "another host or scheme", "loop": "more than three times", "large": "too large", "bomb": "too large", "none": "404",
	} {
		o := o.withDefaults()
		l := &Lists{o: o, log: o.Logger}
		_, got, err := l.get(t.Context(), &followed{uri: s.URL + "/l/" + path})
		if want == "" && (err != nil || got == nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v and error %v, want error %q", path, got, err, want)
		}
	}
	untrusting := o.withDefaults()
	untrusting.Requests.CAFile = ""
	if _, _, err := (&Lists{o: untrusting}).get(t.Context(), &followed{uri: s.URL + "/l/good"}); err == nil {
		t.Error("a server that no authority knows: got no error, want one")
	}
	l := must(Open(o))
	t.Cleanup(l.Close)
	eventually.True(t, "the list is there", func() bool {
		got, err := status(l, s.URL+"/l/good", 0)
		return err == nil && got == Invalid
	})
	if got, err := l.Status(Reference{s.URL + "/l/good", 1}, time.Now()); got != Valid || err != nil {
		t.Errorf("got %d and error %v, want 0", got, err)
	}
}
