package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/control"
	"rescind/revocation/control/alert"
	"rescind/revocation/insight"
	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// seen makes the replicas answer as told.
func seen(answers map[string][]any, silent int) func(*serving) {
	return func(o *serving) {
		o.Ask = func(_ context.Context, kind string, query []byte) (out [][]byte, asked, answered int) {
			all := answers[kind]
			if kind == string(insight.AskWeights) {
				all = weightsOf(answers[string(insight.AskImpact)], query)
			}
			for _, a := range all {
				b, _ := json.Marshal(a)
				out = append(out, b)
			}
			return out, len(out) + silent, len(out)
		}
	}
}

// weightsOf makes of impacts the answers to a question about several
// revocations, each of which hits that.
func weightsOf(impacts []any, query []byte) (out []any) {
	var queries []insight.ImpactQuery
	_ = json.Unmarshal(query, &queries) // no items otherwise, which fit no question
	for _, a := range impacts {
		i := a.(insight.Impact)
		w := insight.Weights{Since: i.Since, Total: i.Total, Partial: i.Partial}
		for range queries {
			w.Items = append(w.Items, insight.Weight{Tokens: i.Tokens, Requests: i.Requests})
		}
		out = append(out, w)
	}
	return out
}

func inbox(t testing.TB) (*alert.Inbox, func(*serving)) {
	t.Helper()
	in, err := alert.Open(alert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in, func(o *serving) { o.Alerts = in }
}

func raise(t testing.TB, in *alert.Inbox, d insight.Detector, key string) {
	t.Helper()
	now := time.Now()
	a := insight.Alert{Detector: d, Key: key, Summary: "something about " + key, First: now, Last: now, Count: 3, Issuer: idp, Subject: "al ice\"", TokenID: "t1", Networks: []string{"203.0.113.0/24"}}
	if err := in.Take(t.Context(), alert.Reporter{Replica: "replica-a", Credential: "replicas", Issuers: []string{idp}}, []insight.Alert{a}); err != nil {
		t.Fatal(err)
	}
}

func TestAlerts(t *testing.T) {
	in, with := inbox(t)
	e := serve(t, with)
	e.rescind("alerts").want(0, "there is no alert\n")
	for i := range 30 {
		raise(t, in, insight.Detectors[i%2], fmt.Sprint("k", i))
	}
	got := e.rescind("alerts", "--limit", "3").want(0, "high      now       revoked_token_used, 3 times\n          something about k28\n", `sub="al ice\""  jti=t1`, "networks=203.0.113.0/24", "replicas=replica-a", `next: rescind activity --sub 'al ice"' --issuer `+idp, "there are more alerts than these 3")
	if strings.Index(got.out, "k29") > strings.Index(got.out, "k27") || strings.Count(got.out, "\n") != 12 {
		t.Errorf("alerts --limit 3: got\n%swant three alerts, newest first", got.out)
	}
	var list struct{ Items []insight.Alert }
	e.rescind("alerts", "-o", "json", "--limit", "0", "--detector", "revoked_token_used", "--since", "1h").want(0).json(&list)
	if len(list.Items) != 15 || list.Items[0].Key != "k28" {
		t.Errorf("alerts of revoked_token_used: got %+v, want 15 from k28", list.Items)
	}
	e.rescind("alerts", "--since", time.Now().Add(time.Minute).Format(time.RFC3339)).want(0, "no alert fits --since 2")
}

// printed is the output of a command that goes on.
type printed struct{ syncbuffer.Buffer }

// until waits for a text in the output.
func (b *printed) until(t *testing.T, text string) {
	t.Helper()
	eventually.Succeeds(t, fmt.Sprintf("%q is printed", text), func() error {
		if got := b.String(); !strings.Contains(got, text) {
			return fmt.Errorf("the output is\n%s", got)
		}
		return nil
	})
}

// TestAlertsAreFollowed shows new alerts once and in order, though the control
// endpoint is away in between.
func TestAlertsAreFollowed(t *testing.T) {
	in, with := inbox(t)
	e := serve(t, with)
	for i := range 5 {
		raise(t, in, insight.RevokedTokenUsed, fmt.Sprint("old", i))
	}
	out, errs := &printed{}, &printed{}
	a := &app{out: out, errs: errs, now: time.Now, output: "text", width: noTerminal, getenv: func(string) string { return "" }}
	conn := &connection{app: a, control: e.url}
	a.getenv = func(name string) string { return map[string]string{"RESCIND_TOKEN": tokenOf("viewer")}[name] }
	c, err := conn.open()
	if err != nil {
		t.Fatal(err)
	}
	away := &absent{next: c.http.Transport}
	c.http.Transport = away
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	tail := &alertTail{client: c, values: url.Values{}, limit: 2}
	go func() { done <- alertEntries(a).follow(ctx, tail.fresh) }()
	out.until(t, "old4")
	raise(t, in, insight.SubjectRate, "new1")
	raise(t, in, insight.SubjectRate, "new2")
	out.until(t, "new2")
	away.set(true)
	raise(t, in, insight.SubjectRate, "new3")
	errs.until(t, "asking again")
	away.set(false)
	out.until(t, "new3")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("alerts --follow, once cancelled: got %v, want nil", err)
	}
	var order []string
	for line := range strings.Lines(out.String()) {
		if _, key, ok := strings.Cut(line, "something about "); ok {
			order = append(order, strings.TrimSpace(key))
		}
	}
	if first, _, _ := strings.Cut(out.String(), "\n"); !regexp.MustCompile(`^high      20\S+Z  revoked_token_used, 3 times$`).MatchString(first) {
		t.Errorf("alerts --follow: got the line %q, want an absolute time, because the line stays on the screen", first)
	}
	if fmt.Sprint(order) != "[old3 old4 new1 new2 new3]" {
		t.Errorf("alerts --follow: got %v, want [old3 old4 new1 new2 new3]", order)
	}
}

// absent is a network on which nothing gets through at times.
type absent struct {
	next http.RoundTripper
	mu   sync.Mutex
	off  bool
}

func (a *absent) set(off bool) { a.mu.Lock(); defer a.mu.Unlock(); a.off = off }

func (a *absent) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	off := a.off
	a.mu.Unlock()
	if off {
		return nil, context.DeadlineExceeded
	}
	return a.next.RoundTrip(r)
}

func TestActivity(t *testing.T) {
	now := time.Now()
	e := serve(t, seen(map[string][]any{"activity": {insight.Activity{
		Since: now.Add(-time.Hour), First: now.Add(-30 * time.Minute), Last: now.Add(-time.Minute), Count: 1234,
		Networks: map[string]uint64{"203.0.113.0/24": 1200, "198.51.100.0/24": 34}, Policies: map[string]uint64{"default": 1234}, Outcomes: map[string]uint64{"ok": 1230, "revoked": 4}, Partial: true,
	}}}, 1))
	got := e.rescind("activity", "--sub", "alice", "--issuer", idp).want(0,
		"first seen  30m ago (", "requests    1,234", "OUTCOME  REQUESTS\nok       1,230\nrevoked  4\n", "default  1,234", "203.0.113.0/24   1,200\n198.51.100.0/24  34\n",
		"1 of 2 replicas answered", "there may have been more")
	if strings.Contains(got.out, "replicas saw") {
		t.Errorf("activity: got on standard output\n%swant no remarks", got.out)
	}
	var d control.ActivityDocument
	e.rescind("activity", "--client", "web", "-o", "json").want(0).json(&d)
	if d.Count != 1234 || d.Replicas.Asked != 2 {
		t.Errorf("activity -o json: got %+v, want 1234 requests and 2 replicas asked", d)
	}
	serve(t).rescind("activity", "--jti", "x").want(0, "no replica is connected", "no request with --jti x was seen")
}

func TestAdvise(t *testing.T) {
	now := time.Now()
	n := len(insight.Lifetimes)
	e := serve(t, seen(map[string][]any{"advice": {insight.AdviceData{Since: now.Add(-time.Hour), Until: now, Groups: []insight.AdviceGroup{{
		Issuer: idp, Client: "web", Policy: "default", Requests: 3, Tokens: 2,
		LivesLonger: make([]uint64, n), IsOlder: make([]uint64, n), Pauses: make([]uint64, n), Busy: make([]float64, n),
	}}}}}, 0))
	e.rescind("advise").want(0, "issuer="+idp+"  client=web  policy=default", "3 requests, 3 an hour", "LIFETIME  EXPOSURE  CUT OFF", "\n5m ", "\n24h ", "Only 3 requests")
	var d control.AdviceDocument
	e.rescind("advise", "-o", "json").want(0).json(&d)
	if len(d.Items) != 1 || len(d.Items[0].Candidates) != n {
		t.Errorf("advise -o json: got %+v, want one item with %d candidates", d, n)
	}
	serve(t).rescind("advise").want(0, "no replica is connected", "the replicas saw no traffic")
}

func impactOf(i insight.Impact) map[string][]any {
	return map[string][]any{string(insight.AskImpact): {i}}
}

func sharing(p *serving) { p.authority.ShareOfTraffic, p.authority.MinRequests = 0.2, 100 }

func TestDryRunAndYes(t *testing.T) {
	now := time.Now()
	e := serve(t, seen(impactOf(insight.Impact{Since: now.Add(-time.Hour), Tokens: 1234, Subjects: 2, Sessions: 3, Requests: 300, Total: 1000}), 0), sharing)
	args := []string{"revoke", "--issuer", idp, "--sub", "alice"}
	e.rescind(append(args, "--dry-run")...).want(0, "nothing is revoked", "tokens    1,234", "requests  300 of 1,000 (30.0%)", "takes --yes, with the token of an operator")
	var d control.ImpactDocument
	e.rescind(append(args, "--dry-run", "-o", "json")...).want(0).json(&d)
	if d.Tokens != 1234 || !d.Confirm {
		t.Errorf("dry run as JSON: got %+v, want 1234 tokens, to be confirmed", d)
	}
	e.rescind(args...).want(1, "nothing is revoked: it would deny 300 of the 1000 requests", "--yes confirms it, with the token of an operator")
	e.rescind("list").want(0, "there is no revocation\n")
	e.rescind(append(args, "--yes")...).want(0, "revoked, durable", "seen     300 requests with 1,234 tokens in the last hour")
	e.rescind("revoke", "--issuer", idp, "--all").want(1, "nothing is revoked: it matches every token of an issuer", "--yes confirms it")
	e.rescind("revoke", "--issuer", idp, "--all", "--yes").want(0, "revoked, durable")

	// A claim that is not remembered does not count as none.
	e = serve(t, seen(impactOf(insight.Impact{Since: now.Add(-time.Hour), Total: 1000, Partial: true}), 0), sharing)
	if got := e.rescind("revoke", "--issuer", idp, "--claim", "tenant=acme", "--dry-run").want(0, "is not known", "it takes --yes"); strings.Contains(got.out, "tokens") {
		t.Errorf("a dry run of a claim that is not remembered: got\n%swant no number of tokens", got.out)
	}
	if got := e.rescind("revoke", "--issuer", idp, "--claim", "tenant=acme").want(1, "is not fully known", "--yes confirms it"); strings.Contains(got.errs, "operator") {
		t.Errorf("a claim that is not remembered: got\n%swant no demand for an operator", got.errs)
	}
}

// The command says which traffic a revocation hits, also a narrow one.
func TestRevokeSaysSeen(t *testing.T) {
	for name, c := range map[string]struct {
		weight insight.Impact
		silent int
		want   string
	}{
		"some":         {insight.Impact{Since: time.Now().Add(-time.Hour), Tokens: 1, Requests: 12, Total: 100}, 0, "seen     12 requests with 1 token in the last hour\n"},
		"none":         {insight.Impact{Since: time.Now().Add(-time.Hour), Total: 100}, 0, "seen     no token seen in the last hour carries this\n"},
		"half an hour": {insight.Impact{Since: time.Now().Add(-30 * time.Minute), Total: 100}, 0, "seen     no token seen in the last 30m carries this\n"},
		"some unknown": {insight.Impact{Since: time.Now().Add(-time.Hour), Total: 100}, 1, "seen     no token that is known of in the last hour carries this; not every replica could tell\n"},
	} {
		e := serve(t, seen(impactOf(c.weight), c.silent), sharing)
		if got := e.rescind("revoke", "--issuer", idp, "--jti", "t1").want(0); !strings.Contains(got.out, c.want) {
			t.Errorf("%s: got\n%swant %q", name, got.out, c.want)
		}
	}
	e := serve(t, seen(nil, 1), sharing)
	e.rescind("revoke", "--issuer", idp, "--jti", "t1").want(0, "seen     no replica could tell")
	if got := serve(t, sharing).rescind("revoke", "--issuer", idp, "--jti", "t1").want(0); strings.Contains(got.out, "seen") {
		t.Errorf("without replicas: got\n%swant nothing about traffic", got.out)
	}
}

// Replicas that accept none of an issuer's tokens do not make a revocation
// count as in force for anybody.
func TestUnknownIssuers(t *testing.T) {
	known := revocation.KnownIssuers{Settled: true, AnyReplica: true, Issuers: []revocation.AcceptedIssuer{{Issuer: idp}}}
	e := serve(t, func(p *serving) { p.authority.KnownIssuers = func() revocation.KnownIssuers { return known } })
	e.follows(control.Replica{Name: "replica-a", Connected: true, Revision: 1 << 40, Version: "v2", Issuers: []string{idp}}, control.Replica{Name: "replica-b", Connected: true, Revision: 1 << 40})
	wrong := strings.TrimSuffix(idp, "/")
	e.rescind("revoke", "--issuer", wrong, "--jti", "t1").want(1, "issuer: is accepted by no replica", fmt.Sprintf("%q", idp), "--unknown-issuer revokes all the same")
	e.rescind("revoke", "--issuer", wrong, "--jti", "t1", "--unknown-issuer", "--wait").want(0, "in force on 2 of 2 replicas, 1 of which accept tokens of the issuer", "warning: no replica accepts")
	if got := e.rescind("revoke", "--issuer", idp, "--jti", "t1", "--wait").want(0, "in force on 2 of 2 replicas\n"); strings.Contains(got.errs, "warning") {
		t.Errorf("a known issuer: got\n%swant no warning", got.errs)
	}
	e.rescind("replicas").want(0, "VERSION", "ISSUERS", "v2             "+idp, "first edition  not reported")
	e.follows(control.Replica{Name: "replica-c"}) // since the start of the control endpoint it was not connected
	if got := e.rescind("replicas").want(0, "lost", "replica-c", "unknown"); strings.Contains(got.out, "first edition") {
		t.Errorf("a replica that was not connected yet: got\n%swant the version unknown", got.out)
	}
}

// An import is weighed as any other revocation is.
func TestImportIsWeighed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.ndjson")
	if err := os.WriteFile(file, []byte(lineFor("a")+"\n"+lineFor("b")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := serve(t, seen(impactOf(insight.Impact{Since: time.Now().Add(-time.Hour), Tokens: 1, Requests: 150, Total: 1000}), 0), sharing)
	e.rescind("import", file, "--dry-run").want(0, "2 lines can be imported", "nothing is revoked", "requests  300 of 1,000 (30.0%)", "takes --yes")
	e.rescind("import", file).want(1, "nothing is revoked: it would deny 300 of the 1000 requests", "--yes confirms it", "it stopped at lines 1 to 2: none of them was revoked")
	e.rescind("list").want(0, "there is no revocation\n")
	e.rescind("import", file, "--yes").want(0, "2 revocations are in force")
	e.rescind("import", file, "--yes", "--dry-run").want(2, "--yes cannot stand beside --dry-run")
}

// The dry run of an import adds up its parts.
func TestDryRunOfParts(t *testing.T) {
	e := serve(t, seen(impactOf(insight.Impact{Since: time.Now().Add(-time.Hour), Tokens: 1, Requests: 60, Total: 1000}), 0), sharing)
	i, out, errs := importing(t, e, e.url, lineFor("a")+"\n"+lineFor("b")+"\n"+lineFor("c"))
	i.guard.dryRun = true
	if status, text := finish(i.run(t.Context())); status != 0 || !strings.Contains(out.String(), "3 lines") || !strings.Contains(out.String(), "180 of 1,000 (18.0%)") {
		t.Errorf("got status %d and\n%s%s%s, want 3 lines and 180 of 1,000 requests", status, out, errs, text)
	}
}
