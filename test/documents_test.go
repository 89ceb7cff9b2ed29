package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// A path in backquotes that begins with a folder of ours, perhaps with a name
	// behind it that is not a path.
	quotedPath = regexp.MustCompile("`((?:cmd|authz|jwks|revocation|envoy|test|\\.github|\\.ci)/[A-Za-z0-9_./-]*)`")
	metricName = regexp.MustCompile(`\brescind_[a-z_]+`)
	alertName  = regexp.MustCompile(`\bRescind[A-Z][A-Za-z]+\b`)
	linkTarget = regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)

	// The patterns of go test, with or without quotes. A table escapes a bar.
	testPattern  = regexp.MustCompile(`go (?:-C \S+ )?test [^` + "`" + `]*`)
	patternFlag  = regexp.MustCompile(`-(run|bench|fuzz) ('[^']*'|\S+)`)
	namedTest    = regexp.MustCompile("`(Test[A-Z]\\w*)`")
	testFunction = regexp.MustCompile(`(?m)^func (Test|Benchmark|Fuzz)(\w*)\(`)
)

// documents returns the paths of the documents for people.
func documents(t *testing.T) []string {
	t.Helper()
	all := []string{"../README.md", "FIGURES.md"}
	err := filepath.WalkDir("../.github", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A document for people names only files and folders that exist, in backquotes and
// in links.
func TestDocumentsNameExistingFiles(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	documents := documents(t)
	paths := 0
	exists := func(document, name, path string) {
		paths++
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%s names %s: got %v, want a file that exists", document, name, err)
		}
	}
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range quotedPath.FindAllStringSubmatch(string(text), -1) {
			exists(document, found[1], filepath.Join("..", found[1]))
		}
		for _, found := range linkTarget.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(found[1], "://") {
				exists(document, found[1], filepath.Join(filepath.Dir(document), found[1]))
			}
		}
	}
	if paths < 50 {
		t.Errorf("wanted at least 50 paths in %d documents, got %d: do the patterns still match?", len(documents), paths)
	}
}

// A document names only metrics that the code has, and only alerts that have a rule.
func TestDocumentsNameExistingMetrics(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	metrics := ""
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		metrics += strings.Join(metricName.FindAllString(string(text), -1), " ") + " "
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rules := ""
	for _, r := range alertRules(t) {
		rules += r.Alert + " "
	}
	named := 0
	for _, document := range documents(t) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			named++
			if !strings.Contains(metrics, name+" ") && (!strings.HasSuffix(name, "_") || !strings.Contains(metrics, name)) {
				t.Errorf("%s names the metric %s: got none in the code, want one", document, name)
			}
		}
		for _, name := range alertName.FindAllString(string(text), -1) {
			named++
			if !strings.Contains(rules, name+" ") {
				t.Errorf("%s names the alert %s: got no rule, want one", document, name)
			}
		}
	}
	if named < 40 {
		t.Errorf("wanted at least 40 metrics and alerts in the documents, got %d: do the patterns still match?", named)
	}
}

// A command in a document runs at least one test, benchmark or fuzz target.
func TestDocumentsNameExistingTests(t *testing.T) {
	withoutRace(t)
	t.Parallel()
	names := map[string][]string{}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, f := range testFunction.FindAllStringSubmatch(string(text), -1) {
			names[f[1]] = append(names[f[1]], f[1]+f[2])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"run": "Test", "bench": "Benchmark", "fuzz": "Fuzz"}
	commands := 0
	for _, document := range documents(t) {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, named := range namedTest.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(names["Test"], named[1]) {
				t.Errorf("%s names %s: got no test of that name, want one", document, named[1])
			}
		}
		for _, command := range testPattern.FindAllString(string(text), -1) {
			for _, flag := range patternFlag.FindAllStringSubmatch(command, -1) {
				pattern := strings.ReplaceAll(strings.Trim(flag[2], "'"), `\|`, "|")
				if pattern == "^$" || pattern == "-" || pattern == "xxx" { // no test beside the benchmarks
					continue
				}
				commands++
				if !slices.ContainsFunc(names[kinds[flag[1]]], regexp.MustCompile(pattern).MatchString) {
					t.Errorf("%s: %s: got no %s that matches %s, want one", document, command, kinds[flag[1]], pattern)
				}
			}
		}
	}
	if commands < 15 {
		t.Errorf("wanted at least 15 commands in the documents, got %d: do the patterns still match?", commands)
	}
}
