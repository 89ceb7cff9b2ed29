package jwks

import (
	"compress/gzip"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"encoding/json"

	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// These tests use real connections.

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

// fetched returns the status after the first refresh of o.
func fetched(t *testing.T, o Options) Status {
	t.Helper()
	if o.Issuer == "" {
		o.Issuer = idp
	}
	return settled(t, open(t, o))
}

func wantFault(t *testing.T, st Status, fault string) {
	t.Helper()
	if fault == "" && (st.Keys == 0 || st.LastError != "") {
		t.Errorf("got status %+v, want keys and no error", st)
	}
	if fault != "" && (st.Keys > 0 || !strings.Contains(st.LastError, fault)) {
		t.Errorf("got status %+v, want no keys and an error with %q", st, fault)
	}
}

func TestRedirects(t *testing.T) {
	good := document(kid("a"))
	elsewhere := serve(t, says(good))
	var loops atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/jwks":
			_, _ = w.Write([]byte(good))
		case "/same":
			http.Redirect(w, r, "/jwks", http.StatusMovedPermanently)
		case "/host":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/name":
			http.Redirect(w, r, strings.Replace("http://"+r.Host+"/jwks", "127.0.0.1", "localhost", 1), http.StatusFound)
		case "/scheme":
			http.Redirect(w, r, "https://"+r.Host+"/jwks", http.StatusTemporaryRedirect)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/twice":
			http.Redirect(w, r, "/host", http.StatusFound)
		case "/loop":
			loops.Add(1)
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	})
	for path, fault := range map[string]string{
		"/jwks": "", "/same": "",
		"/host": "another host or scheme", "/name": "another host or scheme", "/scheme": "another host or scheme",
		"/file": "another host or scheme", "/twice": "another host or scheme", "/loop": "more than three times",
	} {
		t.Run(path, func(t *testing.T) { wantFault(t, fetched(t, Options{URI: s.URL + path}), fault) })
	}
	if n := loops.Load(); n != 4 {
		t.Errorf("%d requests in a loop of redirects, want 4", n)
	}
}

func TestRedirectToPlainHTTP(t *testing.T) {
	plain := serve(t, says(document(kid("a"))))
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL, http.StatusFound)
	}))
	t.Cleanup(s.Close)
	wantFault(t, fetched(t, Options{URI: s.URL, CAFile: authority(t, s)}), "another host or scheme")
}

func TestContentTypeIsNoMatter(t *testing.T) {
	for _, contentType := range []string{"application/jwk-set+json", "application/json; charset=utf-8", "text/html", ""} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			_, _ = w.Write([]byte(document(kid("a"))))
		})
		wantFault(t, fetched(t, Options{URI: s.URL}), "")
	}
}

// The limit counts unpacked bytes, and ends the reading of an endless body.
func TestLargeBodies(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"gzip": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(`{"x":"` + strings.Repeat("x", 8<<20)))
			_ = z.Close()
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, fetched(t, Options{URI: serve(t, h).URL}), "more than") })
	}
	small := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write([]byte(document(kid("a"))))
		_ = z.Close()
	})
	wantFault(t, fetched(t, Options{URI: small.URL}), "")
}

func authority(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, path, s)
	return path
}

func writePEM(t *testing.T, path string, s *httptest.Server) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(says(document(kid("a"))))
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	wantFault(t, fetched(t, Options{URI: s.URL, CAFile: authority(t, s)}), "")
	wantFault(t, fetched(t, Options{URI: s.URL}), "certificate")
	wantFault(t, fetched(t, Options{URI: s.URL, AllowHTTP: true}), "certificate")
}

// The authority's certificate is replaced while we run.
func TestCAFileIsReadAgain(t *testing.T) {
	s := httptest.NewTLSServer(says(document(kid("a"))))
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "ca.pem")
	other := certificate(t, edKey().Public())
	if err := os.WriteFile(path, []byte("-----BEGIN CERTIFICATE-----\n"+other+"\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, Options{Issuer: idp, URI: s.URL, CAFile: path, MinRefreshInterval: 10 * time.Millisecond})
	wantFault(t, settled(t, k), "certificate")
	writePEM(t, path, s)
	eventually.True(t, "the new authority is used", func() bool {
		_, err := find(k, "a", "EdDSA")
		return err == nil
	})
}

// Of a real issuer the first token of a new key is accepted at once. A token of a
// retired key is refused after the next refresh.
func TestRotationOfARealIssuer(t *testing.T) {
	i, err := jwkstest.Start(jwkstest.Options{Algorithm: "ES256"})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	k := open(t, Options{Issuer: i.URL(), Discovery: true, MinRefreshInterval: time.Millisecond})
	old := must(i.Mint(nil))
	eventually.Succeeds(t, "verify the first token", func() error { return verified(t, k, old) })
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	for what, token := range map[string]string{"new": must(i.Mint(nil)), "old": old} {
		eventually.True(t, "the "+what+" token", func() bool { return verified(t, k, token) == nil })
	}
	i.Retire()
	if err := i.Rotate(); err != nil {
		t.Fatal(err)
	}
	last := must(i.Mint(nil))
	eventually.True(t, "the token of the third key", func() bool { return verified(t, k, last) == nil })
	if verified(t, k, old) == nil {
		t.Error("a token of a retired key: accepted, want an error")
	}
}

// verified returns nil if a key of k verifies the signature of token.
func verified(t *testing.T, k *Keys, token string) error {
	t.Helper()
	parts := strings.Split(token, ".")
	var header struct{ Alg, Kid string }
	if err := json.Unmarshal(must(b64.DecodeString(parts[0])), &header); err != nil {
		t.Fatal(err)
	}
	keys, err := k.Find(background, header.Kid, header.Alg)
	if err != nil {
		return err
	}
	return Verify(header.Alg, keys[0], parts[0]+"."+parts[1], must(b64.DecodeString(parts[2])))
}
