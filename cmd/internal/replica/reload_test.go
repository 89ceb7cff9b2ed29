package replica

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescind/authz"
	"rescind/authz/gate"
	"rescind/authz/watch"
	"rescind/cmd/internal/config"
	"rescind/envoy"
	"rescind/jwks/jwkstest"
	"rescind/revocation/feed"
)

// reloading is a replica with one issuer, that keeps nothing on disk and is
// told when to read its configuration again.
type reloading struct {
	*process
	t      *testing.T
	issuer *jwkstest.Issuer
	addr   string
	logged bytes.Buffer
}

func startReloading(t *testing.T) *reloading {
	t.Helper()
	issuer, err := jwkstest.Start(jwkstest.Options{Algorithm: "EdDSA"})
	r := &reloading{t: t, issuer: must(t, issuer, err)}
	t.Cleanup(issuer.Close)
	dir := t.TempDir()
	must(t, 0, os.WriteFile(filepath.Join(dir, "replica.token"), []byte("secret\n"), 0o600))
	path := filepath.Join(dir, "authz.yaml")
	r.process = &process{
		profile: feed.NewProfile(nil),
		log:     slog.New(slog.NewTextHandler(&r.logged, nil)), level: new(slog.LevelVar),
		follower: follower(t), keys: map[string]issuerKeys{},
	}
	r.options = Options{Path: path}
	r.write("discovery: true, audiences: [api]", "")
	c, err := config.ReadAuthz(path)
	r.options.Config = must(t, c, err)
	a, keys, err := r.build(&c.Reloadable, nil)
	must(t, a, err)
	r.await(t.Context(), keys)
	r.adopt(c, keys)
	t.Cleanup(func() { _ = r.close() })
	r.watcher, err = watch.New(watch.Options{Settings: watchSettings(&c.Reloadable)})
	must(t, r.watcher, err)
	t.Cleanup(func() { _ = r.watcher.Close() })
	r.gate, err = gate.New(gate.Options{Authorizer: a, Logger: r.log})
	server, err := envoy.NewServer(envoy.Options{Gate: must(t, r.gate, err), Logger: r.log})
	must(t, server, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.addr = must(t, l, err).Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Shutdown(context.Background()); <-done })
	return r
}

// write writes a configuration with these settings of the issuer, and these
// lines at its top level.
func (r *reloading) write(issuer, rest string) {
	r.t.Helper()
	text := fmt.Sprintf("issuers: [{issuer: %q, %s}]\nrevocation: {control: [127.0.0.1:1], token_file: replica.token}\n%s", r.issuer.URL(), issuer, rest)
	must(r.t, 0, os.WriteFile(r.options.Path, []byte(text), 0o600))
}

// want checks the reason of the decision about a token with these claims.
func (r *reloading) want(what string, claims map[string]any, reason authz.Reason) {
	r.t.Helper()
	if got := r.reasonOf(claims); got != reason {
		r.t.Errorf("%s: %s, want %s", what, got, reason)
	}
}

// reasonOf returns the reason of the decision about a token with these claims.
func (r *reloading) reasonOf(claims map[string]any) authz.Reason {
	r.t.Helper()
	token, err := r.issuer.Mint(claims)
	o, err := envoy.Check(r.t.Context(), r.addr, nil, envoy.Question{Token: must(r.t, token, err)})
	return authz.Reason(must(r.t, o, err).Reason())
}

func TestReload(t *testing.T) {
	r := startReloading(t)
	r.want("at first", nil, authz.OK)
	r.write("discovery: true, audiences: [other]", "")
	r.want("written, not read", nil, authz.OK)
	r.reload(t.Context())
	r.want("another audience, the old one", nil, authz.WrongAudience)
	r.want("another audience, the new one", map[string]any{"aud": "other"}, authz.OK)
	r.write("discovery: true, any_audience: true", "policies: {default: {scopes: [admin]}}\n")
	r.reload(t.Context())
	r.want("a policy", nil, authz.InsufficientScope)
	r.want("a policy, met", map[string]any{"scope": "admin"}, authz.OK)
}

// Keys that are where they were stay: a change of something else is no reason
// to depend on the issuer.
func TestReloadKeepsTheKeys(t *testing.T) {
	r := startReloading(t)
	r.issuer.Close()
	for _, change := range []string{
		"audiences: [api, other]", "any_audience: true", "audiences: [api], token_types: [at+jwt]", "audiences: [api], max_lifetime: 1h, leeway: 0s",
		"audiences: [api], required_claims: [jti]", "audiences: [api], claims: {scope: [openid profile]}",
	} {
		keys := r.keys[r.issuer.URL()].keys
		r.write("discovery: true, "+change, "")
		begun := time.Now()
		r.reload(t.Context())
		if r.keys[r.issuer.URL()].keys != keys || time.Since(begun) > keysPatience/2 {
			t.Errorf("%s: got other keys %v, after %s, want the same keys at once", change, r.keys[r.issuer.URL()].keys != keys, time.Since(begun))
		}
		r.want(change, nil, authz.OK)
	}
	r.write("discovery: true, audiences: [third]", "")
	r.reload(t.Context())
	r.want("changed after all", nil, authz.WrongAudience)
}

// A reload waits for new keys. The configuration in force answers meanwhile.
func TestReloadWaitsForNewKeys(t *testing.T) {
	r := startReloading(t)
	old := r.keys[r.issuer.URL()].keys
	const late = 700 * time.Millisecond // longer than a request would wait
	r.issuer.BreakKeys(jwkstest.Fault{Delay: late})
	r.write(fmt.Sprintf("jwks_uri: %q, audiences: [api]", r.issuer.URL()+"/jwks"), "")
	done := make(chan struct{})
	begun := time.Now()
	go func() { defer close(done); r.reload(t.Context()) }()
	for reloaded := false; !reloaded; {
		select {
		case <-done:
			reloaded = true
		default:
		}
		r.want("meanwhile", nil, authz.OK)
	}
	if took := time.Since(begun); r.keys[r.issuer.URL()].keys == old || took < late {
		t.Errorf("got other keys %v after %s, want other keys after at least %s", r.keys[r.issuer.URL()].keys != old, took, late)
	}
}

// A faulty configuration is refused whole, by the reader or by the authorizer.
func TestReloadRefuses(t *testing.T) {
	r := startReloading(t)
	running, keys := r.running, r.keys[r.issuer.URL()].keys
	for _, c := range []struct{ name, issuer, rest, said string }{
		{"a syntax error", "discovery: true, audiences: [api", "", "authz.yaml:1:"},
		{"an unknown key", "discovery: true, audiences: [api]", "polices: {}\n", "authz.yaml:3:1: polices: there is no such key; did you mean policies?"},
		{"a condition that cannot be compared with", "discovery: true, audiences: [api], claims: {n: [1e99999999999]}", "", "claim \\\"n\\\" needs"},
		{"tokens that would outlive their revocations", "discovery: true, audiences: [api], max_lifetime: 720h, leeway: 1s", "", "store.retention"},
		{"too much leeway", "discovery: true, audiences: [api], leeway: 61s", "", "authz.yaml:1:"},
	} {
		r.logged.Reset()
		r.write(c.issuer, c.rest)
		r.reload(t.Context())
		if !strings.Contains(r.logged.String(), c.said) || !strings.Contains(r.logged.String(), "is refused") {
			t.Errorf("%s: got the log %s, want that it is refused, with %q", c.name, &r.logged, c.said)
		}
		if r.running != running || r.keys[r.issuer.URL()].keys != keys {
			t.Errorf("%s: a part of the refused configuration is in force, want none", c.name)
		}
		r.want(c.name, nil, authz.OK)
	}
	must(t, 0, os.Remove(r.options.Path))
	r.reload(t.Context())
	r.want("no file", nil, authz.OK)
	r.want("no file", map[string]any{"aud": "other"}, authz.WrongAudience)
}

// A reload puts every Reloadable setting in force. A change of an AtStart setting
// is noted until the file has the old value again.
func TestReloadNotesWhatTakesARestart(t *testing.T) {
	r := startReloading(t)
	const at, refused = "take effect at the next start", "is refused"
	const issuer, moved = "discovery: true, audiences: [api]", "grpc: {listen: 127.0.0.1:19191}\n"
	for _, c := range []struct{ name, issuer, rest, want string }{
		{"a reloadable setting", issuer, "log: {level: debug}\n", ""},
		{"a listener", issuer, moved, at},
		{"a reloadable setting beside the listener", issuer, moved + "log: {level: warn}\n", at},
		{"the old listener", issuer, "", ""},
		{"a faulty file", issuer + ", nosuch: 1", "", refused},
		{"the file in force", issuer, "", ""},
		{"the log's format", issuer, "log: {format: text}\n", at},
		{"the share of decisions", issuer, "log: {decisions: {denied: 0.5}}\n", ""},
		{"the limit of decisions", issuer, "log: {decisions: {max_per_second: 5}}\n", ""},
		{"the output of decisions", issuer, "log: {decisions: {output: stderr}}\n", at},
	} {
		r.write(c.issuer, c.rest)
		r.reload(t.Context())
		notes := strings.Join(r.readiness().Notes, "; ")
		if c.want == "" && (strings.Contains(notes, at) || strings.Contains(notes, refused)) || !strings.Contains(notes, c.want) {
			t.Errorf("%s: the notes of readiness are %q, want %q in them", c.name, notes, c.want)
		}
		if missing := strings.Join(r.readiness().Missing, "; "); strings.Contains(missing, at) || strings.Contains(missing, refused) {
			t.Errorf("%s: got the replica unready with %q, want a refused reload to be a note alone", c.name, missing)
		}
	}
}

// A configuration from standard input has no file to reread. A SIGHUP or a
// change of a file that it names leaves it in force.
func TestReloadOfStandardInput(t *testing.T) {
	r := startReloading(t)
	r.options.Path = config.Stdin
	running := r.running
	r.reload(t.Context())
	if r.running != running || strings.Contains(strings.Join(r.readiness().Notes, "; "), "refused") || strings.Contains(r.logged.String(), "level=ERROR") {
		t.Errorf("a reload gave the notes %q and the log\n%swant the configuration in force and no fault", r.readiness().Notes, r.logged.String())
	}
	if want := "came from standard input"; !strings.Contains(r.logged.String(), want) {
		t.Errorf("the log is\n%swant %q in it", r.logged.String(), want)
	}
}

// A token is accepted from a leeway before its iat to a leeway after its exp:
// revocations must be kept for all of that.
func TestLifetimesIncludeTheLeewayTwice(t *testing.T) {
	const idp = "https://idp.example.com/"
	c := &config.Reloadable{Issuers: []config.Issuer{{Issuer: idp, MaxLifetime: time.Hour, Leeway: 30 * time.Second}}}
	if got := lifetimes(c)[idp]; got != time.Hour+time.Minute {
		t.Errorf("a token of 1h with a leeway of 30s is accepted for %s, want 1h1m", got)
	}
}
