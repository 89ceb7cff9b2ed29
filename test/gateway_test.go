package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
)

func TestStory(t *testing.T) {
	t.Parallel()
	needEnvoy(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	demo := exec.CommandContext(ctx, rescind, "demo", "--once", "--port", "0")
	demo.Env = append(os.Environ(), "TMPDIR="+dir)
	out, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("rescind demo --once: wanted exit status 0, got %v\n%s", err, out)
	}
	for _, part := range []string{"from revoke to in force on every replica: ", "401 Unauthorized", "200 OK", "One of the three control nodes dies", "kill -9 control-3", `still there: r5.0 "lost laptop", r4.0 "event http://schemas.openid.net/event/backchannel-logout; id `, "/intake/idp/logout, which answered 200 OK", "401 Unauthorized, from disabled at the issuer to denied by Envoy: ", "revoked_token_used", "the refreshed token", "Revoked tokens were used 15 times: 15 denied, 0 let through. Each of the 4 revocations was in force on every replica within "} {
		if !strings.Contains(string(out), part) {
			t.Errorf("the story: wanted %q in it, got\n%s", part, out)
		}
	}
	if strings.Contains(string(out), "✗") {
		t.Errorf("the story: wanted no failed step with exit status 0, got\n%s", out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the story left %v (%v), want nothing", left, err)
	}
	t.Logf("%s", out)
}

func TestDecisionsThroughEnvoy(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	now := time.Now().Unix()
	good := login(t, s, "alice")
	for _, c := range []struct {
		name, path, token string
		headers           []string
		status            int
		errorCode         string // of the body; empty: none
	}{
		{"a good token", "/", good, nil, 200, ""},
		{"no token", "/", "", nil, 401, ""},
		{"another scheme", "/", "", []string{"Authorization", "Basic YWxpY2U6cHc="}, 401, ""},
		{"nonsense", "/", "nonsense", nil, 401, "invalid_token"},
		{"two Authorization headers", "/", good, []string{"Authorization", "Bearer " + good}, 400, "invalid_request"},
		{"two Authorization headers spelt differently", "/", good, []string{"AUTHORIZATION", "Bearer x"}, 400, "invalid_request"},
		{"a comma", "/", "", []string{"Authorization", "Bearer " + good + "," + good}, 400, "invalid_request"},
		{"expired", "/", minted(t, s, map[string]any{"iat": now - 600, "exp": now - 300}), nil, 401, "invalid_token"},
		{"not yet valid", "/", minted(t, s, map[string]any{"nbf": now + 300}), nil, 401, "invalid_token"},
		{"no exp", "/", minted(t, s, map[string]any{"exp": nil}), nil, 401, "invalid_token"},
		{"another audience", "/", minted(t, s, map[string]any{"aud": "billing"}), nil, 401, "invalid_token"},
		{"another issuer", "/", minted(t, s, map[string]any{"iss": "https://elsewhere.example/"}), nil, 401, "invalid_token"},
		{"bound to a key", "/", minted(t, s, map[string]any{"cnf": map[string]any{"jkt": "x"}}), nil, 401, "invalid_token"},
		{"a changed signature", "/", good[:len(good)-8] + "AAAAAAAA", nil, 401, "invalid_token"},
		{"the policy's scope is missing", "/reports/q3", good, nil, 403, "insufficient_scope"},
		{"the policy's scope is there", "/reports/q3", minted(t, s, map[string]any{"scope": "openid reports:read"}), nil, 200, ""},
		{"public without a token", "/public", "", nil, 200, ""},
		{"public with a bad token", "/public", "nonsense", nil, 401, "invalid_token"},
		{"an escaped slash in the path", "/public%2f..%2fapi", "", nil, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := got(t, s, c.path, c.token, c.headers...)
			if a.Status != c.status {
				t.Fatalf("wanted %d, got %d %s", c.status, a.Status, a.Body)
			}
			denied := c.status == 401 || c.status == 403 || c.errorCode != ""
			if challenge := a.Header.Get("WWW-Authenticate"); denied != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate: wanted a challenge: %t, got %q with status %d", denied, challenge, a.Status)
			}
			if c.errorCode == "" {
				return
			}
			var body struct{ Error string }
			if err := json.Unmarshal(a.Body, &body); err != nil || body.Error != c.errorCode {
				t.Errorf("wanted the error %q, got the body %s", c.errorCode, a.Body)
			}
			if a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("wanted Cache-Control: no-store on a denial, got %v", a.Header)
			}
		})
	}
}

func TestHeadersCannotBeSpoofed(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	spoofs := []string{"x-jwt-subject", "root", "X-JWT-Subject", "root", "x-jwt-admin", "yes", "x_jwt_subject", "root", "x-jwt_id", "1", "x-jwt-scope", "everything",
		"x.jwt.subject", "root", "X!JWT~Subject", "root", "x'jwt`subject", "root", "x+jwt^admin", "yes"}
	// As PHP and lighttpd read a name.
	lax := func(name string) string {
		return regexp.MustCompile("[^a-z0-9]").ReplaceAllString(strings.ToLower(name), "-")
	}
	for _, c := range []struct {
		name, path, token string
		subject           []string
	}{
		{"with a token", "/", minted(t, s, map[string]any{"sub": "alice", "scope": nil}), []string{"alice"}},
		{"without one, where it is optional", "/public", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := got(t, s, c.path, c.token, spoofs...)
			seen, err := a.Seen()
			if err != nil || a.Status != 200 {
				t.Fatalf("wanted 200 from the upstream, got %d %s %v", a.Status, a.Body, err)
			}
			for name, values := range seen.Header {
				if read := lax(name); strings.HasPrefix(read, "x-jwt-") && (!strings.EqualFold(name, read) || read == "x-jwt-admin" || read == "x-jwt-scope" || slices.Contains(values, "root")) {
					t.Errorf("wanted no header of the client under the prefix, the upstream saw %s: %q", name, values)
				}
			}
			if values := seen.Header.Values("X-Jwt-Subject"); strings.Join(values, ",") != strings.Join(c.subject, ",") {
				t.Errorf("x-jwt-subject: wanted %q, got %q", c.subject, values)
			}
		})
	}
}

func TestRevokeAndRestore(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	for _, c := range []struct {
		name   string
		hit    map[string]any // claims of a token that the revocation reaches
		missed map[string]any // and of one that it does not
		claims map[string]any
	}{
		{"by jti", map[string]any{"jti": "t-1"}, map[string]any{"jti": "t-2"}, map[string]any{"jti": "t-1"}},
		{"by sub", map[string]any{"sub": "alice"}, map[string]any{"sub": "alicia"}, map[string]any{"sub": "alice"}},
		{"by sid", map[string]any{"sid": "s-1"}, map[string]any{"sid": "s-2"}, map[string]any{"sid": "s-1"}},
		{"by two claims", map[string]any{"sub": "bob", "client_id": "phone"}, map[string]any{"sub": "bob", "client_id": "desk"}, map[string]any{"sub": "bob", "client_id": "phone"}},
		{"by a number", map[string]any{"tenant": "17"}, map[string]any{"tenant": "17.0"}, map[string]any{"tenant": 17.0}},
		{"by the text of a number", map[string]any{"tenant": 18}, map[string]any{"tenant": 18.5}, map[string]any{"tenant": "18"}},
		{"by one of several groups", map[string]any{"groups": []string{"a", "b"}}, map[string]any{"groups": []string{"a"}}, map[string]any{"groups": "b"}},
		{"by a word of the scope", map[string]any{"scope": "read write"}, map[string]any{"scope": "read writer"}, map[string]any{"scope": "write"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			hit, missed := minted(t, s, c.hit), minted(t, s, c.missed)
			wantStatus(t, s, "before", hit, 200)
			r := revoked(t, s, map[string]any{"claims": c.claims})
			if r.Replicas.Applied != 2 || r.Replicas.Total != 2 || len(r.Replicas.Pending) != 0 {
				t.Errorf("wanted 2 of 2 replicas, got %+v", r.Replicas)
			}
			wantStatus(t, s, "revoked", hit, 401)
			wantStatus(t, s, "another token", missed, 200)
			a, err := s.Admin(t.Context(), http.MethodDelete, "/v1/revocations/"+r.ID+"?wait=all&timeout=10s", nil, nil)
			if err != nil || a.Status != 200 {
				t.Fatalf("restore: wanted 200, got %d %s %v", a.Status, a.Body, err)
			}
			wantStatus(t, s, "restored", hit, 200)
		})
	}
	t.Run("a later login is allowed", func(t *testing.T) {
		old := login(t, s, "carol")
		revoked(t, s, map[string]any{"claims": map[string]any{"sub": "carol"}})
		nextSecond()
		wantStatus(t, s, "the new login", login(t, s, "carol"), 200)
		wantStatus(t, s, "the old token", old, 401)
	})
	t.Run("a blocked one is not", func(t *testing.T) {
		revoked(t, s, map[string]any{"claims": map[string]any{"sub": "mallory"}, "block": true})
		nextSecond()
		wantStatus(t, s, "the new login", login(t, s, "mallory"), 401)
	})
	t.Run("by the token itself", func(t *testing.T) {
		token, other := minted(t, s, map[string]any{"jti": nil, "n": 1}), minted(t, s, map[string]any{"jti": nil, "n": 2})
		revoked(t, s, map[string]any{"issuer": s.Issuer.URL(), "token": token})
		wantStatus(t, s, "the token", token, 401)
		wantStatus(t, s, "another", other, 200)
	})
	t.Run("everything", func(t *testing.T) {
		token := login(t, s, "dave")
		revoked(t, s, map[string]any{"all": true})
		wantStatus(t, s, "issued before", token, 401)
		nextSecond()
		wantStatus(t, s, "issued after", login(t, s, "dave"), 200)
	})
}

// After wait=all has answered 201 there is no replica that still allows.
func TestWaitAllMeansEverywhere(t *testing.T) {
	t.Parallel()
	g := newFaultRig(t, start(t, envoytest.Options{}))
	for i := range 200 {
		jti := fmt.Sprintf("wait-%d", i)
		token := minted(t, g.Stack, map[string]any{"jti": jti})
		wantStatus(t, g.Stack, "before", token, 200)
		revoked(t, g.Stack, map[string]any{"claims": map[string]any{"jti": jti}})
		for j := range g.replicas {
			if got, err := g.ask(t.Context(), j, jti); got != "revoked" {
				t.Fatalf("try %d, replica %d: wanted revoked, got %q, %v", i, j, got, err)
			}
		}
		for range 4 { // Envoy asks both
			wantStatus(t, g.Stack, fmt.Sprintf("try %d", i), token, 401)
		}
	}
}

func TestRotationOfKeys(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	old := login(t, s, "alice")
	wantStatus(t, s, "before", old, 200)
	if err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	fresh := login(t, s, "alice")
	for range 4 {
		wantStatus(t, s, "a key never seen before", fresh, 200)
		wantStatus(t, s, "the key before", old, 200)
	}
}

// A thief with a stolen key leaves its kid out of the tokens.
func TestRevokedKeyIsDeniedWithoutItsKid(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	signed := func(kid any) string {
		t.Helper()
		token, err := s.Issuer.MintWith(map[string]any{"kid": kid}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	stolen := s.Issuer.KeyID()
	named, unnamed := signed(stolen), signed(nil)
	wantStatus(t, s, "the key with its kid", named, 200)
	wantStatus(t, s, "the key without its kid", unnamed, 200)
	revoked(t, s, map[string]any{"kid": stolen})
	for range 4 { // Envoy asks both replicas
		wantStatus(t, s, "the revoked key with its kid", named, 401)
		wantStatus(t, s, "the revoked key without its kid", unnamed, 401)
	}
	if err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	fresh := signed(s.Issuer.KeyID())
	for range 4 { // each replica fetches the new key for this token
		wantStatus(t, s, "the new key with its kid", fresh, 200)
	}
	wantStatus(t, s, "the new key without its kid", signed(nil), 200)
}

func TestControlKilledAfterTheAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	token, good := login(t, s, "alice"), login(t, s, "bob")
	r := revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	s.Control[0].Kill()
	for range 20 {
		wantStatus(t, s, "with the control endpoint gone", token, 401)
		wantStatus(t, s, "a good token, with the control endpoint gone", good, 200)
	}
	if err := s.StartControl(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	a, err := s.Admin(t.Context(), http.MethodGet, "/v1/revocations/"+r.ID, nil, nil)
	if err != nil || a.Status != 200 {
		t.Fatalf("the revocation after the restart: wanted 200, got %d %s %v", a.Status, a.Body, err)
	}
	wantStatus(t, s, "after the restart", token, 401)
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "bob"}}) // and the replicas follow again
	wantStatus(t, s, "revoked after the restart", good, 401)
}

// A killed replica finds every revocation that it acknowledged on its disk.
func TestReplicaRestartedWithControlDown(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	token, good := login(t, s, "alice"), login(t, s, "bob")
	revoked(t, s, map[string]any{"claims": map[string]any{"sub": "alice"}})
	s.Control[0].Kill()
	s.Replicas[0].Kill()
	if err := s.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "the good token", good, 200) // Envoy finds it healthy again
	wantStatus(t, s, "the revoked token", token, 401)
}

func TestIssuerDown(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1})
	token := login(t, s, "alice")
	wantStatus(t, s, "before", token, 200)
	s.Issuer.Close()
	wantStatus(t, s, "with the issuer gone", token, 200)
	s.Replicas[0].Kill()
	if err := s.StartReplica(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	becomes(t, s, "started with the issuer gone", token, 200)
}

// No answer is a denial.
func TestAuthzGone(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{})
	token := login(t, s, "alice")
	wantStatus(t, s, "before", token, 200)
	for _, r := range s.Replicas {
		if err := r.Pause(); err != nil { // alive, and mute
			t.Fatal(err)
		}
	}
	for range 3 {
		wantStatus(t, s, "replicas that do not answer", token, 503)
	}
	for _, r := range s.Replicas {
		r.Kill()
	}
	for range 20 {
		wantStatus(t, s, "no replica", token, 503)
	}
}

// A replica that gets SIGTERM answers the requests that it has, and Envoy goes on
// with the other replica.
func TestDrainLosesNoRequest(t *testing.T) {
	s := start(t, envoytest.Options{})
	token := login(t, s, "alice")
	type result struct{ sent, lost int }
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan result)
	for range 8 {
		go func() {
			var r result
			for ctx.Err() == nil {
				a, err := s.Get(context.WithoutCancel(ctx), "/", token)
				r.sent++
				if err != nil || a.Status != 200 {
					r.lost++
					t.Logf("lost: %d %s %v", a.Status, a.Body, err)
				}
			}
			results <- r
		}()
	}
	time.Sleep(300 * time.Millisecond)
	status := s.Replicas[0].Stop()
	time.Sleep(300 * time.Millisecond)
	cancel()
	var sum result
	for range 8 {
		r := <-results
		sum.sent, sum.lost = sum.sent+r.sent, sum.lost+r.lost
	}
	if status != 0 || sum.lost > 0 || sum.sent < 20 {
		t.Errorf("wanted exit status 0 and at least 20 requests, none lost; got exit status %d, %d of %d requests lost", status, sum.lost, sum.sent)
		text, _ := os.ReadFile(filepath.Join(s.Dir, "envoy.log"))
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, `"status":503`) || strings.Contains(line, "[warn") {
				t.Log(line)
			}
		}
	}
}
