package lint

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of rules in the document is that of the program. RESCIND_UPDATE=1 writes
// it.
func TestDocumentHasTheRules(t *testing.T) {
	const path, begin, end = "../../.github/LINT.md", "<!-- rules -->\n", "<!-- end of rules -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| rule | severity | danger | fix |\n|---|---|---|---|\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.ID, r.Severity, cell(r.Danger), cell(r.Fix))
	}
	b.WriteString("\n")
	before, rest, found := strings.Cut(string(text), begin)
	got, after, ends := strings.Cut(rest, end)
	if !found || !ends {
		t.Fatalf("%s: got no place for the rules, want %s and %s", path, begin, end)
	}
	if os.Getenv("RESCIND_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != b.String() {
		t.Errorf("%s: got another table than that of the program; RESCIND_UPDATE=1 go test ./envoy/lint -run TestDocumentHasTheRules writes it", path)
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
