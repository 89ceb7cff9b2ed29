package jwks

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The API server of Kubernetes answers with its keys only to a bearer token, over
// https with a certificate of the cluster's own authority. It writes no alg
// parameter that is unusual, and the media type application/jwk-set+json.
func TestKubernetesAPIServer(t *testing.T) {
	token := written(t, "token", "service-account-token\n")
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer service-account-token":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`))
		case r.URL.Path == "/openid/v1/jwks":
			w.Header().Set("Content-Type", "application/jwk-set+json")
			_, _ = w.Write([]byte(document(jwk(rsaKey().Public(), map[string]any{"use": "sig", "alg": "RS256", "kid": "k8s"}))))
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	o := Options{
		Issuer: "kubernetes/serviceaccount", URI: s.URL + "/openid/v1/jwks",
		CAFile: written(t, "ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))),
	}
	wantFault(t, fetched(t, o), "answered 401 Unauthorized")
	o.TokenFile = token
	wantFault(t, fetched(t, o), "")
}

// The token goes to one host alone.
func TestTokenGoesToOneHost(t *testing.T) {
	token := written(t, "token", "secret")
	for _, c := range []struct {
		name string
		o    Options
		with []string // the URLs that get the token
	}{
		{"jwks_uri", Options{Issuer: "https://idp.example", URI: "https://keys.example/k"}, []string{"https://keys.example/k"}},
		{"discovery", Options{Issuer: "https://idp.example", Discovery: true}, []string{"https://idp.example/.well-known/openid-configuration"}},
		{"discovery, RFC 8414", Options{Issuer: "https://old.example", Discovery: true}, []string{
			"https://old.example/.well-known/openid-configuration", "https://old.example/.well-known/oauth-authorization-server", "https://old.example/k",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			c.o.TokenFile = token
			c.o.transport = roundTrip(func(r *http.Request) *http.Response {
				rec := httptest.NewRecorder()
				if r.Header.Get("Authorization") == "Bearer secret" {
					got = append(got, r.URL.String())
				}
				switch r.URL.String() {
				case "https://idp.example/.well-known/openid-configuration":
					_, _ = rec.WriteString(discovery("https://idp.example", "https://keys.example/k"))
				case "https://old.example/.well-known/openid-configuration":
					rec.WriteHeader(http.StatusForbidden)
				case "https://old.example/.well-known/oauth-authorization-server":
					_, _ = rec.WriteString(discovery("https://old.example", "https://old.example/k"))
				default:
					_, _ = rec.WriteString(document(kid("a")))
				}
				return rec.Result()
			})
			wantFault(t, fetched(t, c.o), "")
			if strings.Join(got, " ") != strings.Join(c.with, " ") {
				t.Errorf("the token went to %q, want %q", got, c.with)
			}
		})
	}
}

// A redirect cannot take the token to another host.
func TestTokenIsNotRedirected(t *testing.T) {
	var stolen atomic.Bool
	thief := serve(t, func(_ http.ResponseWriter, r *http.Request) { stolen.Store(r.Header.Get("Authorization") != "") })
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, http.StatusFound) })
	wantFault(t, fetched(t, Options{URI: s.URL, TokenFile: written(t, "token", "secret")}), "another host or scheme")
	if stolen.Load() {
		t.Error("the host of the redirect got the token, want it sent to the issuer alone")
	}
}

// The token is read again with each fetch, because Kubernetes replaces it.
func TestTokenIsReadAgain(t *testing.T) {
	path := written(t, "token", "first")
	var last atomic.Value // the header of the last request
	last.Store("")
	o := Options{Issuer: idp, URI: "https://idp.example/jwks", TokenFile: path, Logger: quiet, transport: roundTrip(func(r *http.Request) *http.Response {
		last.Store(r.Header.Get("Authorization"))
		rec := httptest.NewRecorder()
		_, _ = rec.WriteString(document(kid("a")))
		return rec.Result()
	})}
	bubbleWith(t, o, func(t *testing.T, k *Keys) {
		for _, c := range []struct{ token, want, fault string }{{"second\n", "Bearer second", ""}, {"", "", "does not hold one token"}} {
			if err := os.WriteFile(path, []byte(c.token), 0o600); err != nil {
				t.Fatal(err)
			}
			last.Store("")
			time.Sleep(defaultRefreshInterval)
			synctest.Wait()
			if st := k.Status(); last.Load() != c.want || !strings.Contains(st.LastError, c.fault) || st.Keys != 1 {
				t.Errorf("token file %q: got header %q and status %+v, want %q, the keys, and an error with %q", c.token, last.Load(), st, c.want, c.fault)
			}
		}
	})
}

func TestTokenFaults(t *testing.T) {
	good := written(t, "token", "secret")
	for _, c := range []struct {
		name  string
		o     Options
		fault string
	}{
		{"https", Options{URI: "https://a/"}, ""},
		{"loopback", Options{URI: "http://127.0.0.1/"}, ""},
		{"http", Options{URI: "http://a/", AllowHTTP: true}, "over http"},
		{"discovery over http", Options{Issuer: "http://a/", Discovery: true, AllowHTTP: true}, "over http"},
		{"a file of keys", Options{File: good}, "has no use with jwks_file"},
		{"no such file", Options{URI: "https://a/", TokenFile: "/none"}, "no such file"},
		{"two lines", Options{URI: "https://a/", TokenFile: written(t, "two", "a\nb")}, "one token on one line"},
		{"empty", Options{URI: "https://a/", TokenFile: written(t, "empty", "\n")}, "one token on one line"},
	} {
		if c.o.Issuer == "" {
			c.o.Issuer = idp
		}
		if c.o.TokenFile == "" {
			c.o.TokenFile = good
		}
		err := c.o.Validate()
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.fault)
		}
	}
}
