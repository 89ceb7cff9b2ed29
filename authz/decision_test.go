package authz

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// reasons returns every reason that exists.
func reasons() []Reason {
	all := []Reason{OK, NoTokenAllowed}
	for r := range answers {
		all = append(all, r)
	}
	slices.Sort(all)
	return all
}

// Every denial has an answer that denies, and that can stand in a header.
func TestAnswers(t *testing.T) {
	for _, r := range append(reasons(), "", "no such reason") {
		d := Decision{Reason: r}
		a := d.Answer()
		if a.Code == 0 || a.HTTP < 400 || a.Description == "" {
			t.Errorf("reason %q: answer %+v, want a code that denies, an HTTP status of at least 400 and a description", r, a)
		}
		if text := a.Description + a.Error; strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
			t.Errorf("reason %q: got the text %q, want printable ASCII without a quote or a backslash", r, text)
		}
		if (a.HTTP == 503) != (a.RetryAfter > 0) {
			t.Errorf("reason %q: HTTP %d with Retry-After %v, want a Retry-After with 503 alone", r, a.HTTP, a.RetryAfter)
		}
	}
	if (Decision{}).Allow {
		t.Error("the zero Decision allows, want a denial")
	}
}

// The schema of the decision log lists the reasons, and no others.
func TestDecisionLogSchemaHasTheReasons(t *testing.T) {
	text, err := os.ReadFile("decisionlog/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties map[string]struct{ Enum []Reason }
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"rescind.decision.reason", "rescind.decision.would_deny"} {
		listed := schema.Properties[member].Enum
		slices.Sort(listed)
		if !slices.Equal(listed, reasons()) {
			t.Errorf("schema.json lists for %s:\n%q, want\n%q", member, listed, reasons())
		}
	}
}
