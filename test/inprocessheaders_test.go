package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// numbered returns n header lines with the names PREFIX0, PREFIX1 and so on.
func numbered(prefix string, n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("%s%d: root", prefix, i))
	}
	return lines
}

// headerRow is a request with a known token.
type headerRow struct {
	name    string
	headers []string // lines; %s stands for the token, which has a line of its own otherwise
	known   bool     // the module answers
}

var headerRows = []headerRow{
	{"nothing else", nil, true},
	{"a spoofed header", []string{"x-jwt-subject: root"}, false},
	{"a spoofed header, twice", []string{"x-jwt-subject: root", "x-jwt-subject: alice"}, false},
	{"a spoofed header without a value", []string{"x-jwt-subject:"}, false},
	{"an underscore", []string{"x_jwt_subject: root"}, false},
	{"upper case", []string{"X-JWT-SUBJECT: root"}, false},
	{"other characters", []string{"x.jwt.subject: root", "X!JWT~Id: root", "x'jwt`subject: root", "x+jwt^admin: yes"}, false},
	{"a name that nobody sets, under the prefix", []string{"x-jwt-admin: yes"}, false},
	{"odd bytes in a spoofed header", []string{"x-jwt-subject: \xff\x80root"}, false},
	{"20 spoofed headers", numbered("x-jwt-spoof-", 20), false},
	{"names that look alike", []string{"x-jwtsubject: root", "xjwt-subject: root", "x-jw-t-subject: root", "x-jwt: root", "ax-jwt-subject: root", "x--jwt-subject: root"}, true},
	{"odd bytes in another header", []string{"x-name: \xff\xfe\x80 ü", "x-tab: a\tb", "x-empty:"}, true},
	{"another header twice", []string{"x-tag: a", "X-Tag: b", "cookie: a=b", "cookie: c=d"}, true},
	{"80 other headers", numbered("x-other-", 80), true},
	{"the connection header names a managed one", []string{"Connection: keep-alive, x-jwt-subject"}, true},
	{"the scheme in other letters", []string{"AUTHORIZATION: bEARER    %s"}, true},
	{"a space behind the token", []string{"Authorization: Bearer %s   "}, true},
	{"a tab before the token", []string{"Authorization: Bearer \t%s"}, false},
	{"two tokens", []string{"Authorization: Bearer %s", "Authorization: Bearer x"}, false},
	{"two tokens in one header", []string{"Authorization: Bearer %s,Bearer x"}, false},
	{"another scheme", []string{"Authorization: Basic %s"}, false},
	{"junk behind the token", []string{"Authorization: Bearer %sx"}, false},
	{"an Authorization header that looks alike", []string{"author-ization: x", "authorization_: x"}, true},
}

// lines returns the header lines of a request with the token.
func (r headerRow) lines(token string) (all []string) {
	with := false
	for _, line := range r.headers {
		with = with || strings.Contains(line, "%s")
		all = append(all, strings.Replace(line, "%s", token, 1))
	}
	if !with {
		all = append([]string{"Authorization: Bearer " + token}, all...)
	}
	return all
}

// sameAsFromExtAuthz shows that the upstream and the access log see a request that the
// module has answered as they see it from ext_authz: the same headers, and the same dynamic metadata.
func sameAsFromExtAuthz(g *moduleRig) {
	t := g.t
	rich := minted(t, g.Stack, map[string]any{"sub": "alice", "scope": "a b", "client_id": 7, "tenant": "acme", "nothing": nil})
	bare := minted(t, g.Stack, map[string]any{"sub": nil, "sid": nil, "jti": nil, "scope": nil, "client_id": nil})
	odd := minted(t, g.Stack, map[string]any{"sub": "a\u00e9", "client_id": []any{"x", "y"}, "scope": " "})
	long := minted(t, g.Stack, map[string]any{"sub": strings.Repeat("s", 300)})
	tokens := []struct {
		name, token string
		fits        bool
	}{{"a usual token", rich, true}, {"a token with few claims", bare, true}, {"a token with odd claims", odd, false}, {"a token with much text", long, false}}
	for _, settings := range []string{
		"",
		"headers:\n  authorization: remove\n  claims: {x-jwt-subject: sub, X-Tenant: tenant, x-jwt-client: {claim: client_id, encoding: base64url}}\n",
	} {
		g.reconfigure(settings)
		for _, token := range tokens {
			if token.fits {
				g.makeKnown(token.token, "/x")
			} else {
				for range 3 {
					g.status(inFront, "/x", token.token)
				}
			}
			g.compare(settings, token.name, token.token, token.fits)
		}
	}
	g.reconfigure("")
}

// compare sends the rows with and without the module.
func (g *moduleRig) compare(settings, name, token string, fits bool) {
	t := g.t
	t.Helper()
	type pair struct{ with, without envoytest.Answer }
	targets, answers := map[string]string{}, map[string]pair{}
	for i, row := range headerRows {
		target := fmt.Sprintf("/x?row=%d-%x", i, time.Now().UnixNano())
		targets[row.name] = target
		answers[row.name] = pair{g.raw(logged, target, row.lines(token)), g.raw(withoutModule, target+"-asks", row.lines(token))}
	}
	const h2 = "HTTP/2"
	targets[h2] = fmt.Sprintf("/x?row=h2-%x", time.Now().UnixNano())
	answers[h2] = pair{g.overHTTP2(logged, targets[h2], token), g.overHTTP2(withoutModule, targets[h2]+"-asks", token)}
	rows := append(slices.Clone(headerRows), headerRow{h2, nil, true})

	var lines map[string]map[string]any
	eventually.True(t, "Envoy has logged all requests", func() bool {
		lines = g.accessLog()
		for _, target := range targets {
			if lines[target] == nil || lines[target+"-asks"] == nil {
				return false
			}
		}
		return true
	})
	for _, row := range rows {
		what := fmt.Sprintf("%s, %s, with the settings %q", row.name, name, settings)
		a, target := answers[row.name], targets[row.name]
		if a.with.Status != a.without.Status || upstreamSaw(a.with) != upstreamSaw(a.without) {
			t.Errorf("%s: with the module got %d and the upstream saw\n%swant as without it, %d\n%s", what, a.with.Status, upstreamSaw(a.with), a.without.Status, upstreamSaw(a.without))
		}
		with, without := lines[target], lines[target+"-asks"]
		if known := with["known"] == true; known != (row.known && fits) {
			t.Errorf("%s: the module answered: %v, want %v; the log has %v", what, known, row.known && fits, with)
		}
		if got, want := metadataOf(t, with), metadataOf(t, without); got != want {
			t.Errorf("%s: the metadata with the module is\n%s\nwant as without it,\n%s", what, got, want)
		}
	}
}

// upstreamSaw returns the headers that the upstream got, sorted by their names.
func upstreamSaw(a envoytest.Answer) string {
	if a.Status != http.StatusOK {
		return "nothing\n"
	}
	lines := slices.Collect(strings.Lines(string(a.Body)))
	lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "x-request-id:") })
	slices.SortStableFunc(lines, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	return strings.Join(lines, "")
}

var decisionID = regexp.MustCompile("^[A-Z2-7]{26}$")

// metadataOf returns the dynamic metadata of a line, without the ID of the decision and
// the time that ext_authz took.
func metadataOf(t *testing.T, line map[string]any) string {
	t.Helper()
	all, _ := line["metadata"].(map[string]any)
	if id, _ := all["decision_id"].(string); !decisionID.MatchString(id) {
		t.Errorf("the access log has %v, want an ID of a decision", line)
	}
	delete(all, "decision_id")
	delete(all, "ext_authz_duration")
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// accessLog returns the lines of Envoy's access log, by the target of the request.
func (g *moduleRig) accessLog() map[string]map[string]any {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.Dir, "envoy.log"))
	if err != nil {
		g.t.Fatal(err)
	}
	all := map[string]map[string]any{}
	for line := range strings.Lines(string(text)) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil {
			if target, ok := entry["target"].(string); ok {
				all[target] = entry
			}
		}
	}
	return all
}

// overHTTP2 sends a request to a listener over HTTP/2.
func (g *moduleRig) overHTTP2(listener, target, token string) envoytest.Answer {
	g.t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+g.addrs[listener]+target, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Host = "gateway"
	r.Header.Set("Authorization", "Bearer "+token)
	a, err := do(&http.Client{Transport: transport}, r)
	if err != nil {
		g.t.Fatal(err)
	}
	return a
}

// reconfigure continues the configuration of the replica, and waits until the replica
// has taken it over and Envoy is attached to its new table.
func (g *moduleRig) reconfigure(settings string) {
	g.t.Helper()
	file := filepath.Join(g.Dir, envoytest.ReplicaName(0)+".yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		g.t.Fatal(err)
	}
	const mark = "# changed by the test\n"
	original, _, changed := strings.Cut(string(text), mark)
	if !changed && settings == "" {
		return
	}
	const changes = "rescind_config_last_change_timestamp_seconds"
	before := g.figure(changes)
	if err := os.WriteFile(file, []byte(original+mark+settings), 0o600); err != nil {
		g.t.Fatal(err)
	}
	eventually.True(g.t, "the replica has reloaded", func() bool { return g.figure(changes) != before })
}
