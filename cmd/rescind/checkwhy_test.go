package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/rivo/uniseg"

	"rescind/authz"
	"rescind/authz/explain"
	"rescind/cmd/internal/config"
	"rescind/cmd/internal/node"
	"rescind/cmd/internal/replica"
	"rescind/envoy"
	"rescind/test/eventually"
)

// running is a control endpoint and a replica that run from files in this
// process, as rescind control and rescind authz run them.
type running struct {
	t           *testing.T
	dir         string
	keys        map[string]ed25519.PrivateKey // by kid
	control     string                        // URL of the admin API
	authz, http string                        // addresses of the replica
}

const runningAuthz = `
grpc: {listen: "127.0.0.1:0"}
http: {listen: "127.0.0.1:0"}
issuers:
  - issuer: https://idp.example.com/
    jwks_file: keys.json
    audiences: [api, web]
    algorithms: [EdDSA]
    token_types: [JWT]
    max_lifetime: 1h
    max_token_size: 2000
    required_claims: [jti]
    claims: {kind: [access]}
  - {issuer: https://other.example.com/, jwks_file: keys.json, any_audience: true}
revocation: {control: [%q], token_file: replica.token, name: replica-a}
policies:
  reports: {audiences: [web], scopes: ["reports:read", "reports:write"], claims: {tenant: [acme, globex]}}
  recent: {max_age: 1m}
  gold: {claims: {acr: [gold]}}
  trial: {mode: observe, scopes: [pay]}
  nested: {claims: {/realm_access/roles: [admin]}}
  partners: {issuers: [https://other.example.com/]}
  cookie: {tokens_from: [{cookie: session}, {header: x-api-token}]}
  query: {tokens_from: [{query: "access token"}]}
  socket: {tokens_from: [{websocket_protocol: "bearer."}]}
  public: {token: optional}
`

func startBoth(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, dir: t.TempDir(), keys: map[string]ed25519.PrivateKey{}}
	for _, kid := range []string{"k1", "k2", "stranger", "removed"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		r.keys[kid] = must(t, private, err)
	}
	r.publish("k1", "k2")
	r.write("replica.token", "of-replicas\n")
	r.write("control.yaml", fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
feed: {listen: "127.0.0.1:0", tokens: [{name: replicas, sha256: %x}]}
store: {dir: control}
admin: {tokens: [{name: alice, sha256: %x, roles: [operator]}]}
`, sha256.Sum256([]byte("of-replicas")), sha256.Sum256([]byte("of-alice"))))
	control, err := config.ReadControl(filepath.Join(r.dir, "control.yaml"))
	must(t, control, err)
	n := r.start(func(ctx context.Context, log io.Writer) error {
		return node.Run(ctx, node.Options{Config: control, Stderr: log})
	})
	r.control = "http://" + n.listening("admin")
	r.write("authz.yaml", fmt.Sprintf(runningAuthz, n.listening("feed")))
	data, err := config.ReadAuthz(filepath.Join(r.dir, "authz.yaml"))
	must(t, data, err)
	p := r.start(func(ctx context.Context, log io.Writer) error {
		return replica.Run(ctx, replica.Options{Path: filepath.Join(r.dir, "authz.yaml"), Config: data, Stdout: io.Discard, Stderr: log})
	})
	r.authz, r.http = p.listening("grpc"), p.listening("http")
	eventually.Succeeds(t, "the replica is ready", func() error {
		res, err := http.Get("http://" + r.http + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", res.StatusCode)
		}
		return nil
	})
	return r
}

func (r *running) write(name, text string) {
	r.t.Helper()
	must(r.t, 0, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600))
}

// publish writes the key set: these keys, and one that is not used.
func (r *running) publish(kids ...string) {
	r.t.Helper()
	keys := []map[string]string{{"kty": "oct", "kid": "shared", "k": "AAAA"}}
	for _, kid := range kids {
		keys = append(keys, map[string]string{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64.RawURLEncoding.EncodeToString(r.keys[kid].Public().(ed25519.PublicKey))})
	}
	text, err := json.Marshal(map[string]any{"keys": keys})
	r.write("keys.json", string(must(r.t, text, err)))
}

// token returns a good token with changes. nil removes a claim. Header members
// begin with a dot: .kid, .alg, .typ, and .signer, which names the key.
func (r *running) token(changes map[string]any) string {
	r.t.Helper()
	now := time.Now().Unix()
	claims := jwt.MapClaims{"iss": idp, "sub": "alice", "aud": "api", "jti": "t1", "kind": "access", "iat": now, "exp": now + 300}
	header := map[string]any{"typ": "JWT", "kid": "k1"}
	signer := "k1"
	for name, v := range changes {
		member, isHeader := strings.CutPrefix(name, ".")
		switch {
		case member == "signer":
			signer = v.(string)
		case isHeader:
			header[member] = v
		case v == nil:
			delete(claims, name)
		default:
			claims[name] = v
		}
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	maps.Copy(t.Header, header)
	if header["kid"] == nil {
		delete(t.Header, "kid")
	}
	raw, err := t.SignedString(r.keys[signer])
	return must(r.t, raw, err)
}

// part is a running server, and its log.
type part struct {
	r     *running
	mu    sync.Mutex
	text  strings.Builder
	ended chan error
}

func (p *part) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (r *running) start(run func(context.Context, io.Writer) error) *part {
	ctx, stop := context.WithCancel(context.Background())
	p := &part{r: r, ended: make(chan error, 1)}
	go func() { p.ended <- run(ctx, p) }()
	r.t.Cleanup(func() { stop(); <-p.ended })
	return p
}

// listening returns the address that the server has logged for a listener.
func (p *part) listening(name string) (addr string) {
	p.r.t.Helper()
	eventually.True(p.r.t, "the server listens on "+name, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for line := range strings.Lines(p.text.String()) {
			var entry struct{ Msg, Name, Addr string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" && entry.Name == name {
				addr = entry.Addr
			}
		}
		return addr != ""
	})
	return addr
}

// Every reason is explained: the token's own claim, and the demand beside it.
func TestCheckExplainsEachReason(t *testing.T) {
	r := startBoth(t)
	file := filepath.Join(r.dir, "authz.yaml")
	env := map[string]string{"RESCIND_AUTHZ": r.authz, "RESCIND_CONTROL": r.control, "RESCIND_TOKEN": "of-alice"}
	id := rescind(t, env, "", "revoke", "--issuer", idp, "--sub", "mallory", "--block", "--reason", "left the company", "--wait", "-o", "json").want(0).document().ID
	now := time.Now()
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	ofIssuer := func(key string) string { return "(" + key + " of the issuer in " + file + ")" }
	ofPolicy := func(key, policy string) string { return fmt.Sprintf("(%s of the policy %q in %s)", key, policy, file) }
	for _, c := range []struct {
		reason, policy string
		token          string
		want           []string
	}{
		{"no_token", "", "", []string{`wanted           a token in the header authorization, scheme Bearer ` + ofPolicy("tokens_from", "default")}},
		{"bad_request", "", r.token(map[string]any{"pad": strings.Repeat("x", 3000)}), []string{"wanted           at most 2000 bytes (max_token_size of its issuer)"}},
		{"malformed", "", "Bearer " + r.token(nil), []string{"begins with the word Bearer"}},
		{"malformed", "", "a.b.c.d.e", []string{"five segments"}},
		{"malformed", "", "opaque", []string{"A token without dots is opaque"}},
		{"malformed", "", r.token(nil) + ".x", []string{"not three segments"}},
		{"wrong_type", "", r.token(map[string]any{".typ": "id+jwt"}), []string{`token            typ of the header: "id+jwt"`, `wanted           "JWT" ` + ofIssuer("token_types")}},
		{"wrong_type", "", r.token(map[string]any{"events": map[string]any{}}), []string{"a logout token or a security event"}},
		{"untrusted_issuer", "", r.token(map[string]any{"iss": "https://idp.example.com"}), []string{`token            iss: "https://idp.example.com"`, `wanted           one of "https://idp.example.com/", "https://other.example.com/" (issuers of ` + file + ")", `the nearest is "https://idp.example.com/"; issuers are compared byte for byte`}},
		{"untrusted_issuer", "partners", r.token(nil), []string{`wanted           "https://other.example.com/" ` + ofPolicy("issuers", "partners")}},
		{"unsupported_algorithm", "", r.token(map[string]any{".alg": "RS256"}), []string{`token            alg of the header: "RS256"`, `wanted           "EdDSA" ` + ofIssuer("algorithms")}},
		{"unsupported_algorithm", "", r.token(map[string]any{".alg": "HS256"}), []string{`"HS256" proves nothing`}},
		{"unknown_key", "", r.token(map[string]any{".kid": "removed", ".signer": "removed"}), []string{`token            kid of the header: "removed", alg: "EdDSA"`, `key              "shared": not used: the key is a shared secret`, `key              "k1" (Ed25519): has another kid`, "keys.json holds no key of this kid"}},
		{"unknown_key", "", r.token(map[string]any{".kid": "other"}), []string{`key              "k1" (Ed25519): made the signature, and has another kid`, "the key that made the signature has another kid"}},
		{"bad_signature", "", r.token(map[string]any{".signer": "stranger"}), []string{`key              "k1" (Ed25519): did not make the signature`, "no key of " + filepath.Join(r.dir, "keys.json") + " made the signature"}},
		{"bad_signature", "", r.token(map[string]any{".signer": "k2"}), []string{`key              "k2" (Ed25519): made the signature, and has another kid than the token names`}},
		{"expired", "", r.token(map[string]any{"iat": ago(time.Hour), "exp": ago(30 * time.Minute)}), []string{fmt.Sprintf("token            exp: %d (%s, 30m", ago(30*time.Minute), now.Add(-30*time.Minute).UTC().Format(time.RFC3339)), "wanted           at most 30s ago; it is 20", "Z here " + ofIssuer("leeway")}},
		{"not_yet_valid", "", r.token(map[string]any{"nbf": ago(-2 * time.Minute)}), []string{"token            nbf: ", ", in ", "wanted           at most 30s ahead; it is 20", "Z here " + ofIssuer("leeway")}},
		{"not_yet_valid", "", r.token(map[string]any{"iat": ago(-time.Minute)}), []string{"token            iat: ", "wanted           at most 2s ahead; it is 20", "Z here " + ofIssuer("iat_leeway"), "the issuer's clock is ahead"}},
		{"lifetime_too_long", "", r.token(map[string]any{"iat": ago(0), "exp": ago(-2 * time.Hour)}), []string{"token            a lifetime of 2h0m", ", from iat: ", " to exp: ", "wanted           at most 1h0m0s " + ofIssuer("max_lifetime")}},
		{"too_old", "recent", r.token(map[string]any{"iat": ago(10 * time.Minute)}), []string{"token            iat: ", ", 10m", "wanted           at most 1m0s ago, and 30s of leeway; it is 20", "Z here " + ofPolicy("max_age", "recent")}},
		{"wrong_audience", "", r.token(map[string]any{"aud": []string{"billing", "\u202eipa"}}), []string{`token            aud: ["billing","\u202eipa"]`, `wanted           one of "api", "web" ` + ofIssuer("audiences")}},
		{"wrong_audience", "reports", r.token(nil), []string{`wanted           "web" ` + ofPolicy("audiences", "reports")}},
		{"missing_claim", "", r.token(map[string]any{"jti": nil}), []string{"token            jti: absent", ofIssuer("required_claims")}},
		{"missing_claim", "", r.token(map[string]any{"exp": nil}), []string{"token            exp: absent", "every token must end"}},
		{"unproven", "", r.token(map[string]any{"cnf": map[string]any{"jkt": "x"}}), []string{`token            cnf: {"jkt":"x"}`, "RFC 8705"}},
		{"claim_refused", "", r.token(map[string]any{"kind": "\x1b[2Jid"}), []string{`token            kind: "\u001b[2Jid"`, `wanted           "access" ` + ofIssuer("claims")}},
		{"claim_refused", "reports", r.token(map[string]any{"aud": "web", "tenant": 7, "scope": "reports:read reports:write"}), []string{"token            tenant: 7", `wanted           "acme" or "globex" ` + ofPolicy("claims", "reports")}},
		{"claim_refused", "nested", r.token(map[string]any{"realm_access": map[string]any{"roles": []string{"user"}}}), []string{`token            /realm_access/roles: ["user"]`, `wanted           "admin" ` + ofPolicy("claims", "nested")}},
		{"insufficient_scope", "reports", r.token(map[string]any{"aud": "web", "tenant": "acme", "scope": "reports:read"}), []string{`token            scope: "reports:read"`, "wanted           reports:write in it " + ofPolicy("scopes", "reports")}},
		{"step_up", "gold", r.token(nil), []string{"token            acr: absent", `wanted           "gold" ` + ofPolicy("claims", "gold"), "a stronger login"}},
		{"unknown_policy", "report", r.token(nil), []string{`wanted           one of "cookie", "default", "gold", "nested", "partners", "public", "query", "recent", "reports", "socket", "trial" (policies of ` + file + ")", `the route names "report"`, `the nearest is "reports"`}},
		{"revoked", "", r.token(map[string]any{"sub": "mallory"}), []string{"undo             rescind restore " + id + "\n", "another revocation may deny the token too", "the revocation " + id + ":", "sub=mallory", "left the company", "alice"}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			args := []string{"check", "--config", file, c.token}
			if c.policy != "" {
				args = append(args, "--policy", c.policy)
			}
			got := rescind(t, env, "", args...).want(0, append([]string{"deny  " + c.reason + "\n"}, c.want...)...)
			if strings.ContainsFunc(got.out, func(r rune) bool { return r == '\x1b' || r == '\u202e' }) {
				t.Errorf("%s: got %q, want claims that do not control the terminal", c.reason, got.out)
			}
			if len(c.token) > 60 && strings.Contains(got.out+got.errs, c.token[len(c.token)-40:]) {
				t.Errorf("%s: got\n%s%s\nwant no output that shows the token", c.reason, got.out, got.errs)
			}
			plain := rescind(t, env, "", append([]string{"check", c.token}, args[4:]...)...).want(0)
			if strings.Contains(plain.out, "(") && strings.Contains(plain.out, file) {
				t.Errorf("%s, without --config: got\n%s\nwant no word about a configuration", c.reason, plain.out)
			}
		})
	}
	r.places(env, file)
	r.otherConfiguration(env, file)
	r.changedKey(env, file)
	r.revocations(env, id)
}

// places sends the token where each policy reads it.
func (r *running) places(env map[string]string, file string) {
	r.t.Helper()
	for policy, want := range map[string]string{
		"cookie": "token in        cookie session\n", "query": "token in        query access token\n", "socket": "token in        websocket_protocol bearer.\n", "default": "allow  ok\n",
	} {
		rescind(r.t, env, "", "check", "--config", file, "--policy", policy, r.token(nil)).want(0, "allow  ok\n", want)
	}
	rescind(r.t, env, "", "check", "--config", file, "--policy", "cookie", "--place", "header", r.token(nil)).want(0, "allow  ok\n", "token in        header x-api-token\n")
	rescind(r.t, env, "", "check", "--config", file, "--policy", "cookie", "--place", "query", r.token(nil)).want(2, "--place query: the policy cookie reads a token from [cookie session header x-api-token] alone")
	rescind(r.t, env, "", "check", "--policy", "cookie", r.token(nil)).want(0, "deny  no_token\n")
	rescind(r.t, env, "", "check", "--config", file, "--policy", "trial", r.token(nil)).want(0, "allow  ok\n",
		"note            the policy observes; with mode: enforce it would deny this with insufficient_scope\n", "token           scope: absent\n", "wanted          pay in it (scopes of the policy \"trial\"")
}

// otherConfiguration explains with a file that the replica does not run.
func (r *running) otherConfiguration(env map[string]string, file string) {
	r.t.Helper()
	text, err := os.ReadFile(file)
	must(r.t, text, err)
	r.write("other.yaml", strings.NewReplacer("audiences: [api, web]", "audiences: [billing]", "https://other.example.com/", "https://partner.example.com/").Replace(string(text)))
	other := filepath.Join(r.dir, "other.yaml")
	rescind(r.t, env, "", "check", "--config", other, r.token(map[string]any{"aud": "billing"})).want(0, "deny  wrong_audience\n", "by "+other+" the token passes this step: the replica has another configuration in force")
	rescind(r.t, env, "", "check", "--config", other, r.token(map[string]any{"iss": "https://other.example.com/", "exp": 1})).want(0, "deny  expired\n", other+" does not have this issuer, and the replica has")
}

// changedKey fetches the keys of an issuer that has changed a key and kept its
// kid, if and only if that is asked for.
func (r *running) changedKey(env map[string]string, file string) {
	r.t.Helper()
	fetches := 0
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches++
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(r.keys["stranger"].Public().(ed25519.PublicKey)))
	}))
	defer keys.Close()
	text, err := os.ReadFile(file)
	must(r.t, text, err)
	r.write("fetched.yaml", strings.Replace(string(text), "jwks_file: keys.json", "jwks_uri: "+keys.URL, 1))
	fetched := filepath.Join(r.dir, "fetched.yaml")
	token := r.token(map[string]any{".signer": "stranger"})
	rescind(r.t, env, "", "check", "--config", fetched, token).want(0, "deny  bad_signature\n", "--fetch-keys")
	if fetches > 0 {
		r.t.Errorf("without --fetch-keys: %d fetches, want none", fetches)
	}
	rescind(r.t, env, "", "check", "--config", fetched, "--fetch-keys", token).want(0, `key              "k1" (Ed25519): made the signature`, "the issuer has changed a key and kept its kid")
	keys.Close()
	rescind(r.t, env, "", "check", "--config", fetched, "--fetch-keys", token).want(0, "deny  bad_signature\n", "the keys of the issuer could not be read: ")
}

// revocations shows a revocation where an admin token allows that, and the command
// that undoes it in any case.
func (r *running) revocations(env map[string]string, id string) {
	r.t.Helper()
	token := r.token(map[string]any{"sub": "mallory"})
	tokenless := map[string]string{"RESCIND_AUTHZ": env["RESCIND_AUTHZ"]}
	rescind(r.t, tokenless, "", "check", token).want(0, "undo             rescind restore "+id+"\n", "with an admin token")
	stranger := map[string]string{"RESCIND_AUTHZ": env["RESCIND_AUTHZ"], "RESCIND_CONTROL": r.control, "RESCIND_TOKEN": "guessed"}
	rescind(r.t, stranger, "", "check", token).want(0, "deny  revoked\n", "the revocation "+id+" is not shown: the credential is not known")
	r.write("alice.token", "of-alice\n")
	file := filepath.Join(r.dir, "alice.token")
	rescind(r.t, tokenless, "", "check", "--control", r.control, "--token-file", file, token).want(0, "undo             rescind restore "+id+" --control "+r.control+" --token-file "+file+"\n", "the revocation "+id+":")
	var got struct {
		Undo        string
		Revocation  struct{ ID, Reason string }
		Explanation []struct{ Note string }
	}
	rescind(r.t, env, "", "check", "-o", "json", token).want(0).json(&got)
	if got.Undo != "rescind restore "+id || got.Revocation.ID != id || got.Revocation.Reason != "left the company" || len(got.Explanation) == 0 {
		r.t.Errorf("check -o json of a revoked token: got %+v, want the revocation and the command that undoes it", got)
	}
	rescind(r.t, env, "", "restore", id, "--wait").want(0)
	rescind(r.t, env, "", "check", token).want(0, "allow  ok\n")
}

// The answer to check fits the terminal, as the outputs of the other commands do.
func TestGoldenCheck(t *testing.T) {
	revocation, err := json.Marshal(aliceLeft)
	must(t, revocation, err)
	for name, c := range map[string]*checkAnswer{
		"allowed": {Decision: "allow", Reason: "ok", Outcome: &envoy.Outcome{
			Allowed: true, Metadata: map[string]any{"decision_id": "ID", "subject": "a\x1b[2J", "revision": 17.0},
			Headers: []authz.Header{{Name: "x-jwt-subject", Value: "alice"}, {Name: "x-jwt-scope", Value: strings.Repeat("orders:read ", 12)}}, Removed: []string{"x-jwt-admin"},
		}},
		"denied": {Decision: "deny", Reason: "revoked", place: "cookie session", Revocation: revocation, Undo: "rescind restore r17.0 --control https://control.example.com --token-file operator.token --ca-file ca.crt",
			Explanation: []explain.Finding{{Token: `aud: "web"`, Wanted: `one of "api", "orders" (audiences of the issuer in /etc/rescind/authz.yaml)`}, {Key: `"k1" (RSA, 2048 bits, for RS256)`, Note: "did not make the signature"}, {Note: "a note"}},
			Outcome:     &envoy.Outcome{Status: 401, Body: `{"error":"invalid_token","error_description":"the token has been revoked"}`, Metadata: map[string]any{"reason": "revoked", "revocation_id": "r17.0"}, Headers: []authz.Header{{Name: "www-authenticate", Value: `Bearer realm="rescind", error="invalid_token", error_description="the token has been revoked"`}}}},
	} {
		for _, width := range []int{80, 120} {
			var out strings.Builder
			a := &app{out: &out, now: func() time.Time { return noon }, width: func(any) int { return width }, getenv: func(string) string { return "" }}
			must(t, 0, a.printAnswer(c))
			file := filepath.Join("testdata", "golden", fmt.Sprintf("check-%s.%d.txt", name, width))
			if *updateGolden {
				must(t, 0, os.WriteFile(file, []byte(out.String()), 0o600))
			}
			want, err := os.ReadFile(file)
			if got := out.String(); err != nil || got != string(want) {
				t.Errorf("check, %s, at %d columns: got\n%s\nwant, as in %s (%v),\n%s", name, width, got, file, err, want)
			}
			for line := range strings.Lines(out.String()) {
				if n := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("check, %s: got a line of %d columns, want at most %d: %s", name, n, width, line)
				}
			}
		}
	}
}
