package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const document = "../../.github/LINT.md"

// The tables of the document are those of the program. RESCIND_UPDATE=1 writes them.
func TestDocumentHasTheRules(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	for name, table := range map[string]string{"rules": tableOfRules(), "examples": tableOfExamples(t)} {
		want = withTable(t, want, name, table)
	}
	if os.Getenv("RESCIND_UPDATE") != "" {
		if err := os.WriteFile(document, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s: got other tables than those of the program; RESCIND_UPDATE=1 go test ./envoy/lint -run TestDocumentHasTheRules writes them", document)
	}
}

// withTable returns the text with this table between the marks of its name.
func withTable(t *testing.T, text, name, table string) string {
	t.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s: got no place for the %s, want %s and %s", document, name, begin, end)
	}
	return before + begin + "\n" + table + "\n" + end + after
}

func tableOfRules() string {
	var b strings.Builder
	b.WriteString("| rule | severity | danger | fix |\n|---|---|---|---|\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, cell(r.Danger), cell(r.Fix))
	}
	return b.String()
}

// tableOfExamples returns the findings in the examples of other projects. The first
// line of each file names the example.
func tableOfExamples(t *testing.T) string {
	files, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| example | errors | warnings | info |\n|---|---|---|---|\n")
	for _, path := range files {
		text, findings := lintFile(t, path)
		first, _, _ := strings.Cut(text, "\n")
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.TrimPrefix(first, "# "), found(findings, Error), found(findings, Warning), found(findings, Info))
	}
	return b.String()
}

// found returns the rules of the findings of a severity.
func found(findings []Finding, s Severity) string {
	var all []string
	for _, f := range findings {
		if id := "`" + f.Rule + "`"; f.Severity == s && !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return strings.Join(all, ", ")
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
