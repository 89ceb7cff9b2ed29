package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"rescind/envoy"
	"rescind/jwks/jwkstest"
	"rescind/test/eventually"
)

// honest is one control endpoint and one replica, with issuers of every kind in
// one configuration. One test issuer signs the tokens of all but the issuer that
// rotates. Its key is published in the ways of other issuers.
type honest struct {
	*rig
	issuer, rotating *jwkstest.Issuer
	keys             string // URL of the documents of other issuers
	replicaLog       *child
	client           *envoy.Client
	admin            string
}

// noURLs are issuers whose names are no URL.
var noURLs = []string{"acme.com", "accounts.google.com", "robot@project.iam.gserviceaccount.com", "kubernetes/serviceaccount", "urn:example:sts", "did:web:example.com", "spiffe://example.net"}

func startHonest(t *testing.T) *honest {
	t.Helper()
	h := &honest{rig: &rig{t: t, dir: t.TempDir()}}
	for _, i := range []**jwkstest.Issuer{&h.issuer, &h.rotating} {
		var err error
		if *i, err = jwkstest.Start(jwkstest.Options{Algorithm: "ES256"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup((*i).Close)
	}
	h.keys = h.documents()
	for _, name := range []string{"operator", "revoker", "replica", "pod"} {
		h.write(name+".token", name+"-secret\n")
	}
	sum := func(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name+"-secret"))) }
	control := h.run("control", rescind, "control", "--config", h.write("control.yaml", fmt.Sprintf(`
http: {listen: 127.0.0.1:0}
feed: {listen: 127.0.0.1:0, tokens: [{name: replicas, sha256: %s}]}
store: {dir: data}
admin: {tokens: [{name: operator, sha256: %s, roles: [operator]}, {name: revoker, sha256: %s, roles: [revoker]}]}
`, sum("replica"), sum("operator"), sum("revoker"))))
	h.admin = "http://" + control.addr("admin")
	h.replicaLog = h.replica("replica", h.configuration(control.addr("feed")))
	var err error
	if h.client, err = envoy.Dial(h.replicaLog.addr("grpc"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.client.Close() })
	return h
}

// configuration has the issuers and the policies of every row.
func (h *honest) configuration(feed string) string {
	issuers := ""
	add := func(issuer, rest string) {
		issuers += fmt.Sprintf("  - {issuer: %q, audiences: [api], %s}\n", issuer, rest)
	}
	at := func(path string) string { return fmt.Sprintf("jwks_uri: %q", h.keys+path) }
	add(h.issuer.URL(), "discovery: true")
	add(h.rotating.URL(), "discovery: true, refresh_interval: 1h, min_refresh_interval: 1h")
	for _, name := range noURLs {
		add(name, at("/keys"))
	}
	add("https://typed.example/", at("/keys")+`, claims: {tier: [7]}, required_claims: [/org/id]`)
	add("https://x5c.example/", at("/x5c"))
	add("https://bom.example/", at("/bom"))
	add("https://four.example/", at("/four"))
	add("https://five.example/", at("/five"))
	add("https://kubernetes.default.svc.cluster.local", at("/openid/v1/jwks")+", jwks_token_file: pod.token")
	add("spiffe://example.org", at("/bundle")+", spiffe: true, key_uses: [jwt-svid]")
	add(h.keys+"/oauth", "discovery: true")
	add(h.keys+"/nowhere", "discovery: true")
	add("https://large.example/", at("/keys")+", max_token_size: 65536")
	add("https://late.example/", at("/late")+", min_refresh_interval: 100ms")
	add("https://down.example/", at("/down"))
	return "grpc: {listen: 127.0.0.1:0}\nhttp: {listen: 127.0.0.1:0}\nissuers:\n" + issuers + h.documentedKeycloak() + `
revocation: {control: [` + feed + `], token_file: replica.token, name: honest}
policies:
  nested: {claims: {/realm_access/roles: [clerk]}}
  browser:
    tokens_from: [{header: authorization}, {header: x-assertion}, {cookie: session}, {query: access_token}, {websocket_protocol: "bearer."}]
  mcp: {realm: orders, resource_metadata: https://api.example.com/.well-known/oauth-protected-resource}
  gold: {claims: {acr: [gold]}, realm: orders, resource_metadata: https://api.example.com/.well-known/oauth-protected-resource}
headers:
  payload: x-jwt-payload
  claims:
    x-jwt-issuer: iss
    x-jwt-subject: sub
    x-jwt-client: [client_id, azp, cid]
    x-jwt-expires: exp
    x-jwt-auth-time: auth_time
    x-jwt-groups: groups
    x-jwt-groups-percent: {claim: groups, encoding: percent}
    x-jwt-name: {claim: name, encoding: base64url}
    x-jwt-roles: /realm_access/roles
    x-jwt-dotted: realm_access.roles
log: {decisions: {allowed: 1}}
`
}

// documentedKeycloak returns the issuer of Keycloak as ISSUERS.md writes it, with
// the keys of the test.
func (h *honest) documentedKeycloak() string {
	text, err := os.ReadFile("../authz/ISSUERS.md")
	if err != nil {
		h.t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)\n## Keycloak\n\n```yaml\nissuers:\n(.*?)headers:").FindSubmatch(text)
	if block == nil {
		h.t.Fatal("ISSUERS.md has no block of Keycloak, want one")
	}
	return strings.Replace(string(block[1]), "discovery: true", fmt.Sprintf("jwks_uri: %q", h.keys+"/keys"), 1)
}

// documents serves the key of the issuer as other issuers publish theirs, and
// returns the base of the URLs.
func (h *honest) documents() string {
	key := h.published()
	with := func(changes map[string]any) map[string]any {
		k := maps.Clone(key)
		maps.Copy(k, changes)
		return k
	}
	others := make([]any, 4)
	for i := range others {
		others[i] = otherKey(h.t, fmt.Sprint("other-", i))
	}
	mux := http.NewServeMux()
	set := func(path, prefix string, keys ...any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, prefix)
			_ = json.NewEncoder(w).Encode(node{"keys": keys})
		})
	}
	ed448 := node{"kty": "OKP", "crv": "Ed448", "kid": "ed448", "alg": "EdDSA", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(make([]byte, 57))}
	set("/keys", "", key, ed448)
	set("/x5c", "", with(map[string]any{"x5c": []string{"MIIBbad="}}))
	set("/bom", "\xef\xbb\xbf", key)
	set("/four", "", append([]any{key}, others[:3]...)...)
	set("/five", "", append([]any{key}, others...)...)
	set("/bundle", "", with(map[string]any{"use": "jwt-svid", "alg": "ES256"}))
	mux.HandleFunc("/openid/v1/jwks", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer pod-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(node{"keys": []any{key}})
	})
	var asked atomic.Int32
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 12 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(node{"keys": []any{key}})
	})
	mux.HandleFunc("/down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	var url string
	mux.HandleFunc("/oauth/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	mux.HandleFunc("/.well-known/oauth-authorization-server/oauth", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(node{"issuer": url + "/oauth", "jwks_uri": url + "/keys"})
	})
	server := httptest.NewServer(mux)
	h.t.Cleanup(server.Close)
	url = server.URL
	return url
}

// published returns the issuer's key as a JWK.
func (h *honest) published() map[string]any {
	res, err := http.Get(h.issuer.URL() + "/jwks")
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []map[string]any }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil || len(set.Keys) != 1 {
		h.t.Fatalf("the keys of the issuer: got %v (%v), want one", set.Keys, err)
	}
	return set.Keys[0]
}

// otherKey returns another key for the same algorithm.
func otherKey(t *testing.T, kid string) node {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return node{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": b64(point[1:33]), "y": b64(point[33:])}
}

// mint returns a token of an issuer. A claim that is nil is left out.
func (h *honest) mint(t *testing.T, header, claims node) string {
	t.Helper()
	token, err := h.issuer.MintWith(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ask asks the replica, as Envoy does.
func (h *honest) ask(t *testing.T, q envoy.Question) *envoy.Outcome {
	t.Helper()
	o, err := h.client.Check(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// settled asks like ask. The replica is ready once it has the keys of one issuer,
// so settled waits for those of the others, unless their absence is wanted.
func (h *honest) settled(t *testing.T, q envoy.Question, want string) (o *envoy.Outcome) {
	t.Helper()
	eventually.True(t, "the replica has the keys of the issuer", func() bool {
		o = h.ask(t, q)
		return o.Reason() != "keys_unavailable" || want == "keys_unavailable"
	})
	return o
}

// becomes waits until a token is answered with this reason.
func (h *honest) becomes(t *testing.T, token, reason string) {
	t.Helper()
	eventually.Succeeds(t, "the token is answered with "+reason, func() error {
		if got := h.ask(t, envoy.Question{Token: token}).Reason(); got != reason {
			return fmt.Errorf("the replica answers %s", got)
		}
		return nil
	})
}

// command runs the binary with a credential of the control endpoint. It returns
// standard output and standard error.
func (h *honest) command(t *testing.T, credential, stdin string, args ...string) (out, errs string) {
	t.Helper()
	eventually.Succeeds(t, "rescind "+strings.Join(args, " ")+" ends with exit status 0", func() error {
		cmd := exec.CommandContext(t.Context(), rescind, args...)
		cmd.Env = append(os.Environ(), "RESCIND_CONTROL="+h.admin, "RESCIND_TOKEN="+credential+"-secret")
		cmd.Stdin = strings.NewReader(stdin)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		out, errs = stdout.String(), stderr.String()
		switch {
		case err == nil:
			return nil
		case strings.Contains(errs, "is not fully known"): // the replica was too slow to be asked about the weight
			return fmt.Errorf("%w\n%s%s", err, out, errs)
		}
		t.Fatalf("rescind %s: got %v, want exit status 0\n%s%s", strings.Join(args, " "), err, out, errs)
		return nil
	})
	return out, errs
}
