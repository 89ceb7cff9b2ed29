package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// replica is the one that the files of testdata belong to.
func replica() Replica {
	r := Defaults()
	r.Policies = []string{"default", "public", "reports"}
	return r
}

// wanted are the findings that the comments of a file name: "LINE RULE".
func wanted(text string) (all []string) {
	line := 0
	for l := range strings.Lines(text) {
		line++
		if _, rules, found := strings.Cut(l, "# want: "); found {
			for rule := range strings.FieldsSeq(rules) {
				all = append(all, fmt.Sprintf("%d %s", line, rule))
			}
		}
	}
	slices.Sort(all)
	return all
}

func lintFile(t *testing.T, path string) (text string, findings []Finding) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	findings, unreadable := Lint([]Source{{path, b}}, replica())
	if len(unreadable) > 0 {
		t.Errorf("%s: got %v, want it read", path, unreadable)
	}
	return string(b), findings
}

// Every rule has a file in bad, and its line has the finding; a file in good has
// none.
func TestEveryRule(t *testing.T) {
	bad, good := map[string]bool{}, map[string]bool{}
	for folder, has := range map[string]map[string]bool{"bad": bad, "good": good} {
		files, err := filepath.Glob("testdata/" + folder + "/*.yaml")
		if err != nil || len(files) < len(rules) {
			t.Fatalf("%s: got %d files and %v, want one for each of %d rules", folder, len(files), err, len(rules))
		}
		for _, path := range files {
			text, findings := lintFile(t, path)
			got, want := placed(findings), wanted(text)
			if !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q\n%s", path, got, want, explained(findings))
			}
			name := strings.TrimSuffix(filepath.Base(path), ".yaml")
			for _, r := range rules {
				if name == r.ID || strings.HasPrefix(name, r.ID+"-") && slices.ContainsFunc(findings, func(f Finding) bool { return f.Rule == r.ID }) {
					has[r.ID] = true
				}
			}
			if folder == "bad" && len(want) == 0 {
				t.Errorf("%s: got no wanted finding, want one", path)
			}
		}
	}
	for _, r := range rules {
		if !bad[r.ID] || !good[r.ID] {
			t.Errorf("%s: got a bad file %t, a good file %t, want both", r.ID, bad[r.ID], good[r.ID])
		}
	}
}

func explained(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "%s:%d: %s %s: %s\n", f.File, f.Line, f.Severity, f.Rule, f.Reason)
	}
	return b.String()
}

// The shipped configurations have no finding, and neither have those that the
// generators of Istio and Envoy Gateway made from them. The files of a folder belong
// together.
func TestShippedConfigurations(t *testing.T) {
	shipped := Defaults()
	read := 0
	for _, pattern := range []string{"../envoy.yaml", "../envoy-edge.yaml", "../envoy-inprocess.yaml", "../istio/*.yaml", "../gateway/*.yaml", "../../test/testdata/frozen/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var sources []Source
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, Source{path, text})
		}
		read += len(files)
		if findings, unreadable := Lint(sources, shipped); len(findings) > 0 || len(unreadable) > 0 {
			t.Errorf("%s: got\n%s%v, want nothing", pattern, explained(findings), unreadable)
		}
	}
	if read < 10 {
		t.Errorf("got %d files, want at least 10: do the patterns still match?", read)
	}
}

// The texts of the rules are sentences.
func TestTextsOfTheRules(t *testing.T) {
	sentence := regexp.MustCompile(`^[A-Za-z].*[.)]$`)
	id := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for _, r := range rules {
		if !id.MatchString(r.ID) || seen[r.ID] || !sentence.MatchString(r.Danger) || !sentence.MatchString(r.Fix) {
			t.Errorf("%+v: want an ID of its own, and sentences", r)
		}
		seen[r.ID] = true
	}
}

// Examples of other projects, written again from their settings, have the findings
// that their comments name.
func TestExamplesOfOthers(t *testing.T) {
	files, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %d files and %v, want at least 5", len(files), err)
	}
	for _, path := range files {
		text, findings := lintFile(t, path)
		if got, want := placed(findings), wanted(text); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q\n%s", path, got, want, explained(findings))
		}
	}
}

// placed returns the findings as "LINE RULE".
func placed(findings []Finding) (all []string) {
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%d %s", f.Line, f.Rule))
	}
	slices.Sort(all)
	return all
}

// Comments allow a finding of one rule on one line, with a reason.
func TestAllowances(t *testing.T) {
	const config = "meshConfig:\n  pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}\n  extensionProviders:\n    - name: a\n      envoyExtAuthzGrpc:\n        timeout: 1s\n"
	for comment, want := range map[string]int{
		"        failOpen: true\n": 1,
		"        failOpen: true # rescind-lint: allow fail-open a demonstration\n":          0,
		"        # rescind-lint: allow fail-open a demonstration\n        failOpen: true\n": 0,
		"        failOpen: true # rescind-lint: allow fail-open\n":                          1,
		"        failOpen: true # rescind-lint: allow timeout a demonstration\n":            1,
		"        # rescind-lint: allow fail-open far\n\n        failOpen: true\n":           1,
		"        port: 1 # rescind-lint: allow fail-open above\n        failOpen: true\n":   1,
	} {
		findings, unreadable := Lint([]Source{{"mesh.yaml", []byte(config + comment)}}, Defaults())
		if len(findings) != want || len(unreadable) > 0 {
			t.Errorf("%q: got\n%s%v, want %d findings", comment, explained(findings), unreadable, want)
		}
	}
}

// JSON has the same findings at its own lines.
func TestJSON(t *testing.T) {
	const text = `{"configs": [
  {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"active_state": {"listener": {
    "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "filter_chains": [{"filters": [{"typed_config": {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      "normalizePath": true, "mergeSlashes": true, "pathWithEscapedSlashesAction": "REJECT_REQUEST", "of_a_newer_version": 1,
      "httpFilters": [{"name": "a", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "grpcService": {"timeout": "2s"},
        "failureModeAllow": true}}]}}]}]}}}]}
]}`
	findings, unreadable := Lint([]Source{{"dump.json", []byte(text)}}, Defaults())
	if got := placed(findings); !slices.Equal(got, []string{"9 fail-open"}) || len(unreadable) > 0 {
		t.Errorf("got\n%s%v, want fail-open at line 9 alone", explained(findings), unreadable)
	}
}
