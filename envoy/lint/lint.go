// Package lint reads the configuration of Envoy, Istio, the Gateway API and Envoy
// Gateway, and reports the settings that let a request past the check of rescind, or
// that take traffic down.
//
// # How it works
//
// A text becomes nodes that know their line (read.go). The nodes of all files become
// one estate (estate.go): connection managers with their filters, routes and
// clusters, and Kubernetes objects by kind. A walk by tables of known fields
// (fields.go) finds the messages of Envoy wherever they stand, and the fields that
// their reader would ignore. Each family of rules is a file that looks at the estate
// and reports findings. The table of rules (rules.go) has their names and texts, and
// .github/LINT.md is made from it.
//
// # Trust
//
// Nothing. A file may come from anybody, so its size, depth and aliases are bounded,
// and a text that is not understood is an error and never a clean result.
//
// # Limits
//
// It does not replace the validation of Envoy or of an API server. It does not know
// settings that are in no file: a setting that is not given is not reported as missing, except
// where the default itself is the danger.
package lint

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"rescind/authz"
	"rescind/revocation/printable"
)

// Source is one text to read.
type Source struct {
	Name string // of the file, for findings
	Text []byte
}

// Replica is the part of the configuration of a replica that a proxy must fit.
type Replica struct {
	Policies   []string // empty: not known
	Prefix     string   // of the managed headers
	Headers    []string // the managed headers by name
	MaxMessage int      // the largest CheckRequest in bytes
}

// Defaults returns the settings of a replica that has none of its own.
func Defaults() Replica {
	r := Replica{Prefix: authz.DefaultPrefix, MaxMessage: 16 << 20}
	for name := range authz.DefaultHeaders {
		r.Headers = append(r.Headers, name)
	}
	slices.Sort(r.Headers)
	return r
}

// Finding is one fault at one place.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Reason   string   `json:"reason"`
	Fix      string   `json:"fix"`
}

// Lint reads the sources together, because one may name a thing that another one has. It
// returns the findings in the order of the files, and an error for each source that
// cannot be read. The others are read all the same.
func Lint(sources []Source, replica Replica) (findings []Finding, unreadable []error) {
	l := &linter{estate: newEstate(), replica: replica}
	allowed := map[place]bool{}
	order := map[string]int{}
	for i, s := range sources {
		order[s.Name] = i
		if err := l.read(s); err != nil {
			unreadable = append(unreadable, err)
			continue
		}
		allowances(s, allowed)
	}
	for _, look := range families {
		look(l)
	}
	all := slices.DeleteFunc(l.findings, func(f Finding) bool { return allowed[place{f.File, f.Line, f.Rule}] })
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(all), unreadable
}

// place is where a finding of a rule may be.
type place struct {
	file string
	line int
	rule string
}

// allowance is a comment that allows the finding of a rule on its own line, or on
// the next. It needs a reason.
var allowance = regexp.MustCompile(`#\s*rescind-lint:\s*allow\s+([a-z0-9-]+)\s+\S`)

func allowances(s Source, allowed map[place]bool) {
	line := 0
	for text := range strings.Lines(string(s.Text)) {
		line++
		if m := allowance.FindStringSubmatch(text); m != nil {
			allowed[place{s.Name, line, m[1]}] = true
			if strings.HasPrefix(strings.TrimSpace(text), "#") {
				allowed[place{s.Name, line + 1, m[1]}] = true
			}
		}
	}
}

// linter holds the configurations that were read, and the findings.
type linter struct {
	*estate
	replica      Replica
	seenClusters []*node
	findings     []Finding
}

// report adds a finding of a rule at a node, with the severity of the rule.
func (l *linter) report(rule string, n *node, reason string, args ...any) {
	l.reportAs(ruleOf(rule).Severity, rule, n, reason, args...)
}

// reportAs adds a finding whose severity depends on more than the rule.
func (l *linter) reportAs(s Severity, rule string, n *node, reason string, args ...any) {
	if n == nil {
		n = &node{}
	}
	l.findings = append(l.findings, Finding{
		Rule: rule, Severity: s, File: n.file, Line: max(1, n.line), Column: max(1, n.column),
		Reason: printable.Clean(fmt.Sprintf(reason, args...), 2<<10), Fix: ruleOf(rule).Fix,
	})
}

// quote returns a name of a file as a text for people.
func quote(s string) string { return printable.Quote(printable.Cut(s, 200)) }
