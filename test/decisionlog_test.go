package test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"rescind/envoy/envoytest"
	"rescind/test/eventually"
)

// decisionSchema returns the published schema of a decision.
func decisionSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "authz", "decisionlog", "schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// decisions are those in a file, each checked against the schema.
func decisions(t *testing.T, path string) (all []map[string]any, text string) {
	t.Helper()
	s := decisionSchema(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return all, text
		}
		if !strings.Contains(line, `"event.name"`) { // a line of the replica's own log
			continue
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("wanted a line of JSON, got %q: %v", line, err)
		}
		if err := s.Validate(value); err != nil {
			t.Errorf("wanted a line that schema.json accepts, got %s\n%v", line, err)
		}
		var members map[string]any
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			t.Fatal(err)
		}
		all, text = append(all, members), text+line
	}
}

// Each request with a hostile token or header yields one sound line.
func TestDecisionLogOfHostileTraffic(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "decisions.log")
	s := start(t, envoytest.Options{Replicas: 1, Authz: "log: {decisions: {allowed: 1, output: 'file:" + path + "'}}\n"})
	evil := "ev\u202eil\n\x1b[31m\x00\",\"user.id\":\"root"
	var secrets []string
	for i, claims := range []map[string]any{
		{"sub": "alice"}, {"sub": strings.Repeat("a", 8<<10)}, {"sub": evil, "jti": evil, "sid": evil, "client_id": evil}, {"sub": evil, "exp": 1},
		{"jti": nil}, {"sub": strings.Repeat("\u00e9", 4000), "jti": strings.Repeat("\x01", 1000)},
	} {
		token := minted(t, s, claims)
		secrets = append(secrets, token)
		got(t, s, fmt.Sprint("/", i), token, "x-request-id", "\xff\xfe"+strings.Repeat("x", 2000), "traceparent", "00-\xff", "tracestate", strings.Repeat("a=1,", 500))
	}
	got(t, s, "/public", "")
	got(t, s, "/?access_token="+secrets[0], "nonsense", "x-request-id", secrets[0])
	for _, token := range secrets { // a copy of the token where it does not belong
		got(t, s, "/", "", "x-request-id", token, "x-jwt-subject", token)
	}
	if status := s.Replicas[0].Stop(); status != 0 {
		t.Errorf("wanted exit status 0, got %d", status)
	}
	all, text := decisions(t, path)
	if len(all) != 14 {
		t.Fatalf("wanted 14 decisions, got %d", len(all))
	}
	for _, r := range strings.ReplaceAll(text, "\n", "") {
		if !unicode.IsPrint(r) {
			t.Fatalf("wanted a log of printable characters, got %q in it", r)
		}
	}
	wantNoSecret(t, text, secrets...)
	for name, want := range map[string]string{"user.id": "alice", "rescind.decision.outcome": "allow", "client.address": "127.0.0.0/24"} {
		if all[0][name] != want {
			t.Errorf("%s: wanted %v, got %v", name, want, all[0][name])
		}
	}
	for i, d := range all {
		if d["user.id"] == "root" || len(fmt.Sprint(d)) > 4096 {
			t.Errorf("decision %d: wanted no user root and at most 4096 bytes, got %v", i, d)
		}
	}
	if id, _ := all[4]["rescind.token.id"].(string); !strings.HasPrefix(id, "sha256:") || len(id) != 7+16 {
		t.Errorf("a token without a jti: wanted a short SHA-256 as its ID, got %v", all[4])
	}
}

// A replica whose standard output is closed goes on to decide, and counts the lines
// that it drops. Before, its lines and summaries have every denial of a short flood.
func TestDecisionLogIntoNothing(t *testing.T) {
	t.Parallel()
	s := start(t, envoytest.Options{Replicas: 1, Authz: "log: {decisions: {max_per_second: 1}}\n"})
	if all, _ := decisions(t, filepath.Join(s.Dir, "replica-a.log")); len(all) != 0 {
		t.Errorf("wanted no decision before the first request, got %d", len(all))
	}
	got(t, s, "/", "nonsense")
	flooded := flood(t, s.GRPC[0], 100*time.Millisecond)
	s.Replicas[0].Stop()
	logs := filepath.Join(s.Dir, "replica-a.log")
	if lines, suppressed := denialsIn(t, logs); suppressed == 0 || lines+suppressed != flooded+1 {
		t.Errorf("on standard output: wanted %d denials, got %d lines and %d in summaries", flooded+1, lines, suppressed)
	}
	wantOneShape(t, logs)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	replica := exec.Command(rescind, "authz", "--config", filepath.Join(s.Dir, "replica-a.yaml"))
	replica.Stdout = write
	if err := replica.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = replica.Process.Kill(); _ = replica.Wait() })
	write.Close()
	read.Close()
	want := `rescind_decision_log_dropped_total{reason="write_failed"} `
	eventually.True(t, want+"is above 0", func() bool {
		a, err := s.Get(t.Context(), "/", "nonsense")
		if err != nil || a.Status != http.StatusUnauthorized {
			return false
		}
		_, after, _ := strings.Cut(scraped("http://"+s.HTTP[0]+"/metrics"), want)
		return after != "" && after[0] != '0'
	})
	wantStatus(t, s, "it still decides", login(t, s, "alice"), 200)
}

// scraped returns the body of a page, or nothing if the page cannot be read.
func scraped(url string) string {
	res, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return string(body)
}

// wantNoSecret looks for secrets, and for the signature of each that is a token.
func wantNoSecret(t *testing.T, where string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(where, secret) || strings.Contains(where, secret[strings.LastIndexByte(secret, '.')+1:]) {
			t.Errorf("got the secret %q exported, want it left out", secret)
		}
	}
}
