package main

import (
	"net/http"
	"strings"
	"testing"

	"rescind/revocation/control"
	"rescind/revocation/insight"
)

// offered returns the words that the completion of the last argument offers, each
// with its description, without the line for the shell.
func (s said) offered() []string {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(s.want(0).out), "\n")
	return lines[:len(lines)-1]
}

// IDs, issuers and replicas come from the API. A word that a shell would read as
// more than a word is not offered.
func TestCompletion(t *testing.T) {
	e := serve(t)
	e.follows(control.Replica{Name: "replica-a", Connected: true, Issuers: []string{idp, "https://b.example/", "https://c.example/$(id)"}},
		control.Replica{Name: "replica-b", Issuers: []string{idp}}, control.Replica{Name: "replica\x1b[2J"}, control.Replica{Name: "x y"})
	restored := e.rescind("revoke", "--issuer", idp, "--jti", "t\n1", "-o", "json").want(0).document().ID
	e.rescind("restore", restored).want(0)
	present := e.rescind("revoke", "--issuer", idp, "--sub", "alice", "-o", "json").want(0).document().ID
	var detectors []string
	for _, d := range insight.Detectors {
		detectors = append(detectors, string(d))
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"show .", []string{present + "\tin force, sub=alice", restored + "\trestored, jti=\"t\\n1\""}},
		{"show " + present, []string{present + "\tin force, sub=alice"}},
		{"show " + present + " .", nil},
		{"restore .", []string{present + "\tin force, sub=alice"}},
		{"replicas .", []string{"replica-a\tconnected", "replica-b\tlost"}},
		{"replicas replica-a .", []string{"replica-b\tlost"}},
		{"replicas x", nil},
		{"revoke --issuer .", []string{"https://b.example/", idp}},
		{"list --issuer https://b", []string{"https://b.example/"}},
		{"audit --issuer .", []string{"https://b.example/", idp}},
		{"alerts --detector .", detectors},
		{"list --kind .", targetKinds},
		{"list -o .", []string{"text", "wide", "json"}},
		{"list .", nil},
		{"help rep", []string{"replicas\tList the replicas, how far behind, and the issuers they accept"}},
	} {
		args := append([]string{"__complete"}, strings.Fields(c.args)...)
		if last := len(args) - 1; args[last] == "." {
			args[last] = ""
		}
		if got := strings.Join(e.rescind(args...).offered(), "\n"); got != strings.Join(c.want, "\n") {
			t.Errorf("completing rescind %s: got\n%s\nwant\n%s", c.args, got, strings.Join(c.want, "\n"))
		}
	}
}

// Without an answer of the API a completion offers nothing and says nothing, after
// one attempt.
func TestCompletionIsSilent(t *testing.T) {
	busy, asked := serve(t).hinder(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	})
	for name, env := range map[string]map[string]string{
		"no environment": {}, "no token": {"RESCIND_CONTROL": busy}, "no URL": {"RESCIND_CONTROL": "x", "RESCIND_TOKEN": "y"},
		"nobody there": {"RESCIND_CONTROL": "http://127.0.0.1:1", "RESCIND_TOKEN": "y"}, "busy": {"RESCIND_CONTROL": busy, "RESCIND_TOKEN": "y"},
	} {
		for _, args := range [][]string{{"show", ""}, {"replicas", ""}, {"revoke", "--issuer", ""}} {
			got := rescind(t, env, "", append([]string{"__complete"}, args...)...).want(0)
			if words := got.offered(); len(words) > 0 || got.errs != "Completion ended with directive: ShellCompDirectiveNoFileComp\n" {
				t.Errorf("%s, completing rescind %q: got %q and %q, want no word and no message", name, args, words, got.errs)
			}
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("a busy control endpoint: got %d requests for 3 completions, want 3", n)
	}
}
