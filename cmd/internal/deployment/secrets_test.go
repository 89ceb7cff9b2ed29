package deployment

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer keeps Secrets as an API server does.
type apiServer struct {
	t       *testing.T
	mu      sync.Mutex
	secrets map[string]secret
	writes  []string
	before  func(method, name string) // called before each request
	refuse  string                    // a method that the account may not use
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/edge/secrets"), "/")
	if s.before != nil {
		s.before(r.Method, name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	problem := func(status int, text string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
	}
	var in secret
	if r.ContentLength > 0 {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			s.t.Error(err)
		}
	}
	kept, there := s.secrets[name]
	switch {
	case r.Header.Get("Authorization") != "Bearer account":
		problem(401, "Unauthorized")
	case r.Method == s.refuse:
		problem(403, "secrets is forbidden")
	case r.Method == http.MethodPost:
		if _, there := s.secrets[in.Metadata.Name]; there {
			problem(409, "already exists")
			return
		}
		s.keep(in.Metadata.Name, in)
	case !there:
		problem(404, "not found")
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(kept)
	case r.Header.Get("Content-Type") != "application/merge-patch+json" || in.Metadata.ResourceVersion != kept.Metadata.ResourceVersion:
		problem(409, "the object has been modified")
	default:
		kept.Data = in.Data
		s.keep(name, kept)
	}
}

func (s *apiServer) keep(name string, one secret) {
	s.writes = append(s.writes, name)
	one.Metadata.ResourceVersion = strconv.Itoa(len(s.writes))
	s.secrets[name] = one
}

func serveAPI(t *testing.T) (*apiServer, *Kubernetes) {
	s := &apiServer{t: t, secrets: map[string]secret{}}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string]string{"token": "account\n", "namespace": "edge", "ca.crt": string(ca)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	api, err := InCluster(dir, func(name string) string {
		return map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, api
}

var twoParts = []Part{
	{"control-tls", []string{"localhost", "127.0.0.1", "*.nodes.edge.svc"}},
	{"authz-tls", []string{"authz.edge.svc"}},
}

func certify(t *testing.T, api *Kubernetes, parts []Part, now time.Time) map[string]string {
	t.Helper()
	states := map[string]string{}
	if err := Certify(context.Background(), api, "authority-tls", parts, now, func(name, state string) { states[name] = state }); err != nil {
		t.Fatal(err)
	}
	return states
}

// leaf returns the certificate of a part, verified for a host by both ends.
func (s *apiServer) leaf(name, host string, now time.Time) *x509.Certificate {
	s.t.Helper()
	s.mu.Lock()
	kept := s.secrets[name]
	s.mu.Unlock()
	pair, err := tls.X509KeyPair(kept.Data["tls.crt"], kept.Data["tls.key"])
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(kept.Data["ca.crt"])
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			s.t.Errorf("%s for %s: %v, want a certificate that its authority vouches for", name, host, err)
		}
	}
	return pair.Leaf
}

// The certificates of a deployment over its life: each run writes the Secrets that
// need it, and no other.
func TestCertify(t *testing.T) {
	s, api := serveAPI(t)
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	wrote := func(when string, want ...string) {
		t.Helper()
		if slices.Sort(s.writes); !slices.Equal(s.writes, want) {
			t.Errorf("%s: got writes of %q, want %q", when, s.writes, want)
		}
		s.writes = nil
	}
	states := certify(t, api, twoParts, now)
	wrote("at first", "authority-tls", "authz-tls", "control-tls")
	if want := "made, until 2028-01-01"; states["control-tls"] != want {
		t.Errorf("at first: got %q, want %q", states["control-tls"], want)
	}
	if got := s.secrets["control-tls"].Type; got != "kubernetes.io/tls" {
		t.Errorf("got a Secret of type %q, want kubernetes.io/tls", got)
	}
	s.leaf("control-tls", "n1.nodes.edge.svc", now)
	s.leaf("control-tls", "127.0.0.1", now)
	first := s.leaf("authz-tls", "authz.edge.svc", now)

	states = certify(t, api, twoParts, now.AddDate(0, 8, -2))
	wrote("with more than a third left")
	if want := "in order until 2028-01-01"; states["authz-tls"] != want {
		t.Errorf("with more than a third left: got %q, want %q", states["authz-tls"], want)
	}

	later := now.AddDate(0, 9, 0)
	certify(t, api, twoParts, later)
	wrote("with less than a third left", "authz-tls", "control-tls")
	if again := s.leaf("authz-tls", "authz.edge.svc", later); again.Equal(first) {
		t.Error("with less than a third left: got the same certificate, want another one")
	}

	more := slices.Clone(twoParts)
	more[1] = Part{"authz-tls", []string{"authz.edge.svc", "authz.other.svc"}}
	certify(t, api, more, later)
	wrote("with one more host", "authz-tls")
	s.leaf("authz-tls", "authz.other.svc", later)

	damaged := s.secrets["control-tls"]
	damaged.Data = maps.Clone(damaged.Data)
	damaged.Data["tls.key"] = s.secrets["authz-tls"].Data["tls.key"]
	s.secrets["control-tls"] = damaged
	certify(t, api, more, later)
	wrote("with the key of another certificate", "control-tls")

	// The authority is issued anew under its key, so older certificates are still
	// trusted by the new one.
	key := s.secrets["authority-tls"].Data["tls.key"]
	last := s.leaf("authz-tls", "authz.edge.svc", later)
	years := now.AddDate(7, 0, 0)
	certify(t, api, more, years)
	wrote("in the last third of the authority", "authority-tls", "authz-tls", "control-tls")
	s.leaf("authz-tls", "authz.edge.svc", years)
	if string(s.secrets["authority-tls"].Data["tls.key"]) != string(key) {
		t.Error("the authority has another key, want the one that it had")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.secrets["authority-tls"].Data["ca.crt"])
	if _, err := last.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: years, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil && !strings.Contains(err.Error(), "expired") {
		t.Errorf("an older certificate under the authority issued anew: %v, want no fault but its age", err)
	}
}

// A fault stops Certify, and it overwrites nothing that it did not make.
func TestCertifyRefuses(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		hinder func(s *apiServer, api *Kubernetes)
		want   string
	}{
		"a Secret of another program": {func(s *apiServer, _ *Kubernetes) {
			s.secrets["control-tls"] = secret{Metadata: metadata{Name: "control-tls"}, Data: map[string][]byte{"tls.crt": []byte("x")}}
		}, "secret control-tls exists, and this command did not make it"},
		"a damaged authority": {func(s *apiServer, _ *Kubernetes) {
			s.secrets["authority-tls"] = secret{Metadata: metadata{Labels: map[string]string{ownerLabel: owner}}, Data: map[string][]byte{"tls.crt": []byte("x")}}
		}, "secret authority-tls: it holds no authority"},
		"a leaf as the authority": {func(s *apiServer, api *Kubernetes) {
			certify(t, api, twoParts, now)
			s.secrets["authority-tls"] = s.secrets["authz-tls"]
		}, "secret authority-tls: it holds no authority with an ECDSA key"},
		"an account that may not write": {func(s *apiServer, _ *Kubernetes) { s.refuse = http.MethodPost }, `the API server answered 403: "secrets is forbidden"`},
		"an account that is unknown":    {func(_ *apiServer, api *Kubernetes) { api.Token = "other" }, "answered 401"},
		"two jobs at once": {func(s *apiServer, _ *Kubernetes) {
			s.before = func(method, _ string) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if method == http.MethodPost {
					s.secrets["authority-tls"] = secret{Metadata: metadata{ResourceVersion: "other"}}
				}
			}
		}, "answered 409"},
	} {
		t.Run(name, func(t *testing.T) {
			s, api := serveAPI(t)
			c.hinder(s, api)
			kept := maps.Clone(s.secrets)
			s.writes = nil
			err := Certify(context.Background(), api, "authority-tls", twoParts, now.AddDate(0, 11, 0), func(string, string) {})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got the error %v, want %q in it", err, c.want)
			}
			for name := range kept {
				if slices.Contains(s.writes, name) {
					t.Errorf("%s was written, want it left alone", name)
				}
			}
		})
	}
}

func TestInClusterNamesTheMissingPart(t *testing.T) {
	none := func(string) string { return "" }
	pod := func(string) string { return "10.0.0.1" }
	if _, err := InCluster(t.TempDir(), none); err == nil || !strings.Contains(err.Error(), "this is no pod of Kubernetes") {
		t.Errorf("without the environment: got %v", err)
	}
	if _, err := InCluster(t.TempDir(), pod); err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Errorf("without the account: got %v", err)
	}
}
