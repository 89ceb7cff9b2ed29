package test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// firstEdition is the last commit of the first edition. Its stores, snapshots and
// replicas are the ones that an upgrade meets.
const firstEdition = "6531804e5ea0b9043d96c3579fb272972df6643c"

// lastRelease is the commit of the last release. Until there is a tag it is the one
// that this edition began with. A release sets it, here alone.
const lastRelease = "f55e5fdef3fd459b1b6c309dc8dd1361aeaeee84"

// Each older edition is built once.
var (
	buildFirstEdition = sync.OnceValues(func() (string, error) { return buildEdition(firstEdition) })
	buildLastRelease  = sync.OnceValues(func() (string, error) { return buildEdition(lastRelease) })
)

// buildEdition builds the binary of a commit from the history of this repository and
// returns its path. The user's cache keeps the binary.
func buildEdition(commit string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rescind")
	binary := filepath.Join(dir, "rescind-"+commit+"-"+runtime.Version())
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if out, err := exec.Command("git", "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		return "", fmt.Errorf("commit %s is not in the history of this checkout: clone it whole, or run git fetch --unshallow: %s%w", commit, out, err)
	}
	archive, err := exec.Command("git", "-C", "..", "archive", "--format=tar", commit).Output()
	if err != nil {
		return "", fmt.Errorf("git archive %s: %w", commit, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	source, err := os.MkdirTemp(dir, "edition-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(source)
	unpack := exec.Command("tar", "-x", "-C", source)
	unpack.Stdin = bytes.NewReader(archive)
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %s%w", commit, out, err)
	}
	if out, err := exec.Command("go", "build", "-C", source, "-buildvcs=false", "-o", "rescind", "./cmd/rescind").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %s%w", commit, out, err)
	}
	return binary, os.Rename(filepath.Join(source, "rescind"), binary)
}

// needEdition returns the binary of an older edition. In a checkout without the
// history the test is skipped, and in CI it fails.
func needEdition(t *testing.T, build func() (string, error)) string {
	t.Helper()
	binary, err := build()
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// editions is a stack whose parts are of the first edition or of this one.
type editions struct {
	*envoytest.Stack
	t         *testing.T
	old       string       // the binary of the older edition
	first     bool         // the older edition is the first one
	oldNode   bool         // the control endpoint is of the older edition
	isOld     map[int]bool // the replicas of the older edition
	replicas  []*envoy.Client
	tokens    map[string]string // by the name of the revocation that hits it
	untouched string            // a token that no revocation hits
}

// startEditions runs one control endpoint and two replicas, each of this edition
// or of the first, without a gateway in the questions.
func startEditions(t *testing.T, oldControl, oldReplicas bool) *editions {
	t.Helper()
	e := startBeside(t, needEdition(t, buildFirstEdition), oldControl, oldReplicas)
	e.first = true
	return e
}

// startBeside is startEditions with the binary of any older edition.
func startBeside(t *testing.T, old string, oldControl, oldReplicas bool) *editions {
	t.Helper()
	choose := func(isOld bool) string {
		if isOld {
			return old
		}
		return rescind
	}
	e := &editions{t: t, old: old, oldNode: oldControl, isOld: map[int]bool{0: oldReplicas, 1: oldReplicas}, tokens: map[string]string{}}
	e.Stack = start(t, envoytest.Options{Binary: choose(oldControl), ReplicaBinary: choose(oldReplicas), Issuer: "    max_lifetime: 24h\n"})
	for _, addr := range e.GRPC {
		c, err := envoy.Dial(addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		e.replicas = append(e.replicas, c)
	}
	return e
}

type target struct {
	name       string
	revocation map[string]any
	token      map[string]any
	inFull     bool // a replica of the first edition matches it in full
	missed     bool // a replica of the first edition allows this token
	nested     bool // a control endpoint of the first edition reads the name as a plain one
}

// targets are revocations of every kind, each beside the claims of a token that it
// hits. The token of the revocation "kid" is signed by a key of its own.
var targets = []target{
	{name: "jti", revocation: claimed("jti", "one"), token: map[string]any{"jti": "one"}, inFull: true},
	{name: "sub", revocation: claimed("sub", "mallory"), token: map[string]any{"sub": "mallory"}, inFull: true},
	{name: "sid", revocation: claimed("sid", "s-1"), token: map[string]any{"sid": "s-1"}, inFull: true},
	{name: "client_id", revocation: claimed("client_id", "app"), token: map[string]any{"client_id": "app"}},
	{name: "client_id of azp", revocation: claimed("client_id", "phone"), token: map[string]any{"client_id": nil, "azp": "phone"}, missed: true},
	{name: "two claims", revocation: map[string]any{"claims": map[string]any{"tenant": "acme", "sub": "bob"}}, token: map[string]any{"tenant": "acme", "sub": "bob"}, inFull: true},
	{name: "a number", revocation: claimed("level", 5), token: map[string]any{"level": 5}},
	{name: "a number named by a string", revocation: claimed("sub", "4711"), token: map[string]any{"sub": 4711}, missed: true},
	{name: "a string named by a number", revocation: claimed("rank", 6), token: map[string]any{"rank": "6"}, missed: true},
	{name: "zero", revocation: claimed("zero", 0), token: map[string]any{"zero": 0}},
	{name: "a boolean", revocation: claimed("admin", true), token: map[string]any{"admin": true}},
	{name: "an element", revocation: claimed("groups", "ops"), token: map[string]any{"groups": []string{"dev", "ops"}}, inFull: true},
	{name: "a scope", revocation: claimed("scope", "pay"), token: map[string]any{"scope": "openid pay"}, inFull: true},
	{name: "a word of scp", revocation: claimed("scp", "wipe"), token: map[string]any{"scp": "read wipe"}, missed: true},
	{name: "a nested claim", revocation: claimed("/realm_access/roles", "root"), token: map[string]any{"realm_access": map[string]any{"roles": []string{"user", "root"}}}, missed: true, nested: true},
	{name: slashed, revocation: claimed("/odd", "x"), token: map[string]any{"/odd": "x"}, inFull: true},
	{name: "a block", revocation: map[string]any{"claims": map[string]any{"sub": "blocked"}, "block": true}, token: map[string]any{"sub": "blocked"}, inFull: true},
	{name: "not ASCII", revocation: claimed("sub", "Zoë"), token: map[string]any{"sub": "Zoë"}, inFull: true},
	{name: "kid"},
}

func claimed(name string, value any) map[string]any {
	return map[string]any{"claims": map[string]any{name: value}}
}

// slashed is the target of a claim with the plain name /odd, which this edition
// spells /~1odd.
const slashed = "a name with a slash"

// revokeTargets revokes every target with wait=all and remembers the tokens. Both
// editions read confirm=yes.
func (e *editions) revokeTargets(accepted func(name string, status int, pending []string)) {
	e.t.Helper()
	oldKey := e.Issuer.KeyID()
	byOldKey := minted(e.t, e.Stack, map[string]any{"jti": "signed-by-the-old-key"})
	if err := e.Rotate(); err != nil {
		e.t.Fatal(err)
	}
	e.untouched = minted(e.t, e.Stack, map[string]any{"jti": "untouched", "sub": "alice", "sid": "s-2", "client_id": "other"})
	for i := range e.replicas { // every replica knows the new key
		e.decides(i, "at first", e.untouched, "ok")
	}
	for _, c := range targets {
		body, token := c.revocation, byOldKey
		switch {
		case c.nested && e.first && e.oldNode:
			continue
		case c.name == slashed && (!e.first || !e.oldNode):
			body = claimed("/~1odd", "x")
		case c.name == "kid":
			body = map[string]any{"kid": oldKey}
		}
		if c.name != "kid" {
			token = minted(e.t, e.Stack, c.token)
		}
		full := map[string]any{"issuer": e.Issuer.URL()}
		for name, value := range body {
			full[name] = value
		}
		var got answer
		a, err := e.Admin(e.t.Context(), http.MethodPost, "/v1/revocations?wait=all&timeout=2s&confirm=yes", full, &got)
		if err != nil || a.Status >= 300 {
			e.t.Fatalf("revoke %s: wanted 201 or 202, got %d %s %v", c.name, a.Status, a.Body, err)
		}
		accepted(c.name, a.Status, got.Replicas.Pending)
		e.tokens[c.name] = token
	}
}

// reason returns the reason of a replica's decision.
func (e *editions) reason(replica int, token string) (string, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), 5*time.Second)
	defer cancel()
	o, err := envoy.Check(ctx, e.GRPC[replica], nil, envoy.Question{Token: token})
	if err != nil {
		return "", err
	}
	return o.Reason(), nil
}

// decides waits until a replica decides with this reason.
func (e *editions) decides(replica int, when, token, want string) {
	e.t.Helper()
	eventually.Succeeds(e.t, fmt.Sprintf("%s, %s decides %q", when, envoytest.ReplicaName(replica), want), func() error {
		got, err := e.reason(replica, token)
		if err == nil && got != want {
			err = fmt.Errorf("the reason is %q", got)
		}
		return err
	})
}

// denies demands that a replica denies now every revoked token that its edition
// matches, and allows the untouched one.
func (e *editions) denies(replica int, when string) {
	e.t.Helper()
	for _, c := range targets {
		token, revoked := e.tokens[c.name]
		if !revoked {
			continue
		}
		want := "revoked"
		if c.missed && e.first && e.isOld[replica] {
			want = "ok"
		}
		if got, err := e.reason(replica, token); err != nil || got != want {
			e.t.Errorf("%s, %s about the revocation of %s: wanted %s, got %q, %v", when, envoytest.ReplicaName(replica), c.name, want, got, err)
		}
	}
	if got, err := e.reason(replica, e.untouched); err != nil || got != "ok" {
		e.t.Errorf("%s, %s about a token that is not revoked: wanted ok, got %q, %v", when, envoytest.ReplicaName(replica), got, err)
	}
}

// letsNoneThrough demands that a replica allows no revoked token.
func (e *editions) letsNoneThrough(replica int, when string) {
	e.t.Helper()
	for name, token := range e.tokens {
		if got, err := e.reason(replica, token); err == nil && got == "ok" {
			e.t.Errorf("%s, %s allows a token that the revocation of %s hits", when, envoytest.ReplicaName(replica), name)
		}
	}
}

func (e *editions) replaceReplica(i int, binary string) {
	e.t.Helper()
	e.Replicas[i].Stop()
	e.ReplicaBinary, e.isOld[i] = binary, binary == e.old
	if err := e.StartReplica(e.t.Context(), i); err != nil {
		e.t.Fatal(err)
	}
}

func (e *editions) replaceControl(binary string) {
	e.t.Helper()
	e.Control[0].Stop()
	e.Binary, e.oldNode = binary, binary == e.old
	if err := e.StartControl(e.t.Context(), 0); err != nil {
		e.t.Fatal(err)
	}
	e.controlReady()
}

func (e *editions) controlReady() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	if err := e.WaitControl(ctx, 0); err != nil {
		e.t.Fatal(err)
	}
}

func (e *editions) replicaReady(i int) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	if err := e.WaitReady(ctx, i); err != nil {
		e.t.Fatal(err)
	}
}

// listed returns the revocations in force as the control endpoint lists them, by
// ID. The revision of the list is left out.
func (e *editions) listed() map[string]string {
	e.t.Helper()
	var page struct{ Items []map[string]any }
	a, err := e.Admin(e.t.Context(), http.MethodGet, "/v1/revocations?active=true&limit=1000", nil, &page)
	if err != nil || a.Status != http.StatusOK {
		e.t.Fatalf("list: wanted 200, got %d %s %v", a.Status, a.Body, err)
	}
	all := map[string]string{}
	for _, item := range page.Items {
		var text []string
		for _, name := range []string{"issuer", "claims", "kid", "token", "all", "block", "issued_before", "expires_at", "created_by", "created_at", "reason"} {
			text = append(text, fmt.Sprintf("%s=%v", name, item[name]))
		}
		all[fmt.Sprint(item["id"])] = strings.Join(text, " ")
	}
	return all
}

// connected returns the number of replicas that follow the control endpoint.
func (e *editions) connected() int {
	e.t.Helper()
	var list struct{ Items []struct{ Connected bool } }
	if a, err := e.Admin(e.t.Context(), http.MethodGet, "/v1/replicas", nil, &list); err != nil || a.Status != http.StatusOK {
		return 0
	}
	n := 0
	for _, item := range list.Items {
		if item.Connected {
			n++
		}
	}
	return n
}
