package test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// verify compares every control node and every replica with the model. It waits
// until every replica follows.
func (g *faultRig) verify(what string) {
	g.t.Helper()
	g.settle(what)
	revision := g.barrier(what)
	for i := range g.Control {
		g.verifyControl(what, i, revision)
	}
	// The newest tokens, and a sample of the others.
	g.mu.Lock()
	sample := append([]*tokenModel{}, g.tokens[max(0, len(g.tokens)-60):]...)
	for range 60 {
		sample = append(sample, g.tokens[rand.N(len(g.tokens))])
	}
	g.mu.Unlock()
	for _, f := range sample {
		want := "ok"
		if f.revoked {
			want = "revoked"
		}
		for i := range g.replicas {
			if got, err := g.ask(g.t.Context(), i, f.jti); err != nil || got != want {
				g.t.Fatalf("%s: %s decides %q about %s, wanted %q (%v)", what, envoytest.ReplicaName(i), got, f.jti, want, err)
			}
		}
	}
}

// settle revokes each token that the model knows nothing of.
func (g *faultRig) settle(what string) {
	g.t.Helper()
	for _, f := range g.tokens {
		eventually.True(g.t, what+", a revocation of "+f.jti+" is accepted", func() bool {
			return !f.doubtful || g.revoke(g.t.Context(), f, false)
		})
	}
}

// barrier waits until every replica has every acknowledged change in force, and
// returns a revision that includes them all. A revocation may overtake a long
// import on its way to the replicas, so it waits for their revisions too.
func (g *faultRig) barrier(what string) uint64 {
	g.t.Helper()
	body := map[string]any{"issuer": g.Issuer.URL(), "claims": map[string]any{"jti": "barrier-" + fmt.Sprint(rand.Uint64())}}
	var got struct {
		answer
		Revision uint64
	}
	eventually.Succeeds(g.t, fmt.Sprintf("%s, a revocation is in force on all %d replicas", what, len(g.replicas)), func() error {
		a, err := g.Admin(g.t.Context(), http.MethodPost, "/v1/revocations?confirm=true&wait=all&timeout=10s", body, &got)
		if err == nil && (a.Status >= 300 || !got.everywhere() || got.Replicas.Total != len(g.replicas)) {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
	eventually.Succeeds(g.t, fmt.Sprintf("%s, all %d replicas are at revision %d", what, len(g.replicas), got.Revision), func() error {
		var list struct{ Items []struct{ Revision uint64 } }
		a, err := g.Admin(g.t.Context(), http.MethodGet, "/v1/replicas", nil, &list)
		reached := 0
		for _, item := range list.Items {
			if item.Revision >= got.Revision {
				reached++
			}
		}
		if err == nil && reached < len(g.replicas) {
			err = fmt.Errorf("the answer is %d %s", a.Status, a.Body)
		}
		return err
	})
	return got.Revision
}

// verifyControl demands that a control node holds exactly the acknowledged state.
func (g *faultRig) verifyControl(what string, node int, revision uint64) {
	g.t.Helper()
	active := map[string]string{} // id → jti
	imported := 0
	for path := ""; ; {
		var page struct {
			Items []struct {
				ID       string
				Revision uint64
				Claims   map[string]any
			}
			Cursor string `json:"next_cursor"`
		}
		a, err := g.AdminAt(g.t.Context(), node, http.MethodGet, "/v1/revocations?active=true&limit=1000"+path, nil, &page)
		if err != nil || a.Status != http.StatusOK {
			g.t.Fatalf("%s: the list of %s: wanted 200, got %d %s %v", what, envoytest.NodeName(node), a.Status, a.Body, err)
		}
		if path == "" && (len(page.Items) == 0 || page.Items[0].Revision < revision) { // the newest stands first; this node is a moment behind
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for _, item := range page.Items {
			jti := fmt.Sprint(item.Claims["jti"])
			active[item.ID] = jti
			if strings.HasPrefix(jti, "bulk-") {
				imported++
			}
		}
		if path = "&cursor=" + page.Cursor; page.Cursor == "" {
			break
		}
	}
	if imported < g.imported || imported%bulk != 0 {
		g.t.Fatalf("%s: %s holds %d imported lines; wanted at least the acknowledged %d, in whole imports of %d", what, envoytest.NodeName(node), imported, g.imported, bulk)
	}
	for _, f := range g.tokens {
		if got := active[f.id] == f.jti; got != f.revoked {
			g.t.Fatalf("%s: %s holds %s (%s) as revoked %v, acknowledged was %v", what, envoytest.NodeName(node), f.id, f.jti, got, f.revoked)
		}
	}
}
