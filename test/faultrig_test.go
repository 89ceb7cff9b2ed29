package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rescind/envoy"
	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// faultRig is a stack under load and faults, beside a model of the acknowledged
// changes: for each token, whether it is revoked. Writers revoke and restore
// tokens by jti. A token is minted only for a question about it.
//
// A change that was answered with anything but a 2xx may be in force or not. The
// model then knows nothing of its token until the token is revoked again.
type faultRig struct {
	*envoytest.Stack
	t        *testing.T
	replicas []*envoy.Client
	accepted atomic.Int64
	asked    atomic.Int64 // questions of the watch

	imported int // acknowledged lines of bulk imports

	mu     sync.Mutex
	tokens []*tokenModel
}

// bulk is the number of lines of one import. The import is accepted as a whole or
// not at all. Each line has a jti that begins with "bulk-".
const bulk = 2000

// tokenModel is the acknowledged state of one token. Only its writer changes it,
// with faultRig.mu held.
type tokenModel struct {
	jti, id    string
	revoked    bool
	doubtful   bool // the last change was not acknowledged
	everywhere bool // every replica had the change in force when it was acknowledged
}

// longForm selects the long form: RESCIND_LONG=1 go test -run Faults -timeout 60m ./test
var longForm = os.Getenv("RESCIND_LONG") != ""

// rounds returns the number of times that a test makes its fault. A short run under
// the race detector takes a third of them, because CI runs all of them without it.
func rounds(short, inFull int) int {
	switch {
	case longForm:
		return inFull
	case raceEnabled:
		return max(1, short/3)
	}
	return short
}

func newFaultRig(t *testing.T, s *envoytest.Stack) *faultRig {
	g := &faultRig{Stack: s, t: t}
	for _, addr := range s.GRPC {
		c, err := envoy.Dial(addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		g.replicas = append(g.replicas, c)
	}
	return g
}

// load runs writers, and a watch over the acknowledged changes, until stop is
// called.
func (g *faultRig) load(writers int) (stop func()) {
	ctx, cancel := context.WithCancel(g.t.Context())
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for ctx.Err() == nil {
				g.write(ctx)
			}
		})
	}
	all.Go(func() { g.watch(ctx) })
	return sync.OnceFunc(func() { cancel(); all.Wait() })
}

// write revokes a new token, and restores every third.
func (g *faultRig) write(ctx context.Context) {
	f := &tokenModel{doubtful: true}
	g.mu.Lock()
	f.jti = fmt.Sprint("token-", len(g.tokens))
	g.tokens = append(g.tokens, f)
	g.mu.Unlock()
	wait := rand.N(4) == 0
	if !g.revoke(ctx, f, wait) {
		time.Sleep(10 * time.Millisecond)
		return
	}
	if rand.N(3) == 0 {
		g.restore(ctx, f, wait)
	}
}

// answer is the answer to an accepted change.
type answer struct {
	ID       string
	Replicas struct {
		Applied, Total int
		Pending        []string
	}
}

func (a answer) everywhere() bool { return a.Replicas.Total > 0 && len(a.Replicas.Pending) == 0 }

// revoke revokes the token of f at a running node and reports whether that was
// acknowledged.
func (g *faultRig) revoke(ctx context.Context, f *tokenModel, wait bool) bool {
	var got answer
	body := map[string]any{"issuer": g.Issuer.URL(), "claims": map[string]any{"jti": f.jti}}
	ok := g.change(ctx, http.MethodPost, "/v1/revocations", wait, body, &got)
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.doubtful = !ok; ok {
		f.id, f.revoked, f.everywhere = got.ID, true, wait && got.everywhere()
	}
	return ok
}

// restore restores the token of f at a running node: by its ID, or as the write that
// revoked it. Writers share appends, so a revision has several writes.
func (g *faultRig) restore(ctx context.Context, f *tokenModel, wait bool) {
	g.mu.Lock()
	f.doubtful = true
	g.mu.Unlock()
	path := "/v1/revocations/" + f.id
	if rand.N(2) == 0 {
		revision, _, _ := strings.Cut(strings.TrimPrefix(f.id, "r"), ".")
		path = fmt.Sprintf("/v1/revocations?revision=%s&write=%s", revision, f.id)
	}
	var got answer
	if !g.change(ctx, http.MethodDelete, path, wait, nil, &got) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f.doubtful, f.revoked, f.everywhere = false, false, wait && got.everywhere()
}

// change asks one of the running nodes and reports whether the change was
// acknowledged.
func (g *faultRig) change(ctx context.Context, method, path string, wait bool, body any, into *answer) bool {
	up := g.Running()
	if len(up) == 0 {
		return false
	}
	query := url.Values{}
	if wait {
		query.Set("wait", "all")
		query.Set("timeout", "2s")
	}
	if method == http.MethodPost { // the load is of few subjects, each a large share of it
		query.Set("confirm", "true")
	}
	if len(query) > 0 {
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + query.Encode()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	a, err := g.AdminAt(ctx, up[rand.N(len(up))], method, path, body, into)
	if err != nil || a.Status >= 300 {
		if err == nil && a.Status != http.StatusServiceUnavailable && a.Status != http.StatusTooManyRequests {
			g.t.Errorf("%s %s: wanted a 2xx, 429 or 503, got %d %s", method, path, a.Status, a.Body)
		}
		return false
	}
	g.accepted.Add(1)
	return true
}

// watch asks the replicas about tokens while the load runs. A change that was
// acknowledged as in force everywhere decides the answer of every replica.
func (g *faultRig) watch(ctx context.Context) {
	for ctx.Err() == nil {
		g.mu.Lock()
		var f *tokenModel
		var before tokenModel
		if n := len(g.tokens); n > 0 {
			f = g.tokens[n-1-rand.N(min(n, 100))]
			before = *f
		}
		g.mu.Unlock()
		if f == nil || before.doubtful || !before.everywhere {
			time.Sleep(time.Millisecond)
			continue
		}
		i := rand.N(len(g.replicas))
		reason, err := g.ask(ctx, i, before.jti)
		g.mu.Lock()
		same := *f == before
		g.mu.Unlock()
		if err != nil || !same {
			continue
		}
		g.asked.Add(1)
		if before.revoked && reason == "ok" || !before.revoked && reason == "revoked" {
			g.t.Errorf("%s decides %q about %s; acknowledged on every replica: revoked %v", envoytest.ReplicaName(i), reason, before.jti, before.revoked)
		}
	}
}

// ask returns the reason of a replica's decision about a token with this jti.
func (g *faultRig) ask(ctx context.Context, replica int, jti string) (string, error) {
	token, err := g.Mint(map[string]any{"jti": jti})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	o, err := g.replicas[replica].Check(ctx, envoy.Question{Token: token})
	if err != nil { // the connection is in backoff; the replica may be back
		o, err = envoy.Check(ctx, g.GRPC[replica], nil, envoy.Question{Token: token})
	}
	if err != nil {
		return "", err
	}
	return o.Reason(), nil
}

// restart starts a killed control node and waits until it is ready.
func (g *faultRig) restart(node int) {
	g.t.Helper()
	if err := g.StartControl(g.t.Context(), node); err != nil {
		g.t.Fatal(err)
	}
	g.controlReady(node)
}

func (g *faultRig) controlReady(node int) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	if err := g.WaitControl(ctx, node); err != nil {
		g.t.Fatal(err)
	}
}

// goesOn demands that n more changes are accepted, and returns the time that they
// took.
func (g *faultRig) goesOn(what string, n int64) time.Duration {
	g.t.Helper()
	return g.grows(what+": changes accepted", &g.accepted, n)
}

// watched demands that the watch asks n more questions. Every replica must run.
func (g *faultRig) watched(n int64) {
	g.t.Helper()
	g.grows("questions asked", &g.asked, n)
}

// grows demands that a count grows by n within a minute, and returns the time
// that it took.
func (g *faultRig) grows(what string, count *atomic.Int64, n int64) time.Duration {
	g.t.Helper()
	begun, before := time.Now(), count.Load()
	eventually.True(g.t, fmt.Sprintf("%s: %d more", what, n), func() bool { return count.Load() >= before+n })
	return time.Since(begun)
}

// imports posts lines as one bulk import.
func (g *faultRig) imports(ctx context.Context, lines []string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.ControlURLs[0]+"/v1/revocations?confirm=true", bytes.NewBufferString(strings.Join(lines, "\n")))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+g.Token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
