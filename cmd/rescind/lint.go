package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/config"
	"rescind/envoy/lint"
	"rescind/revocation/printable"
)

const lintLong = `Reads configuration of Envoy (a bootstrap, or a dump of /config_dump), Istio,
the Gateway API and Envoy Gateway, and reports what would let a request past the
check, or take traffic down. A file is YAML or JSON, with any number of documents,
such as the output of kubectl get -o yaml; - reads standard input. Files that
belong together are given together, because one names what another one has.

A finding has a severity: error (a request can get past the check), warning (a
risk, or an outage) or info. A comment allows one finding, with a reason, on its
own line or on the next:
  # rescind-lint: allow check-disabled the page is public and static

Exit status: 0 no finding as severe as --fail-on, 1 findings, 2 wrong usage, or a
file that cannot be read.`

const lintExample = `  rescind lint envoy.yaml
  rescind lint --config authz.yaml mesh.yaml policies/*.yaml
  kubectl get -A -o yaml authorizationpolicies,envoyfilters | rescind lint -
  curl -s localhost:9901/config_dump | rescind lint --fail-on warning -
  rescind lint -o sarif envoy.yaml >lint.sarif`

// annotationOutput names an output that a command has beyond those of all.
const annotationOutput = "output"

// linting holds the flags of lint.
type linting struct {
	failOn, configFile string
	rules              bool
}

func (a *app) lint() *cobra.Command {
	var q linting
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Find ways around the check in files of Envoy and Kubernetes",
		Long:  lintLong, Example: lintExample,
		Annotations: map[string]string{annotationOutput: "sarif"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && !q.rules {
				return usage("a file, or - for standard input, is missing")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if q.rules {
				return a.printRules()
			}
			return q.run(a, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.failOn, "fail-on", "error", "the least `severity` with exit status 1: error, warning, info, or none")
	f.StringVar(&q.configFile, "config", "", "the replica's configuration `file`, such as authz.yaml: its policies and managed headers")
	f.BoolVar(&q.rules, "rules", false, "print the table of rules")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func (q *linting) run(a *app, args []string) error {
	least := lint.Severity(len(lint.Rules())) // none is as severe
	if q.failOn != "none" {
		if err := least.UnmarshalText([]byte(q.failOn)); err != nil {
			return usage("--fail-on %s: it must be error, warning, info or none", printable.Quote(q.failOn))
		}
	}
	replica := lint.Defaults()
	if q.configFile != "" {
		c, err := config.ReadAuthz(q.configFile)
		if err != nil {
			return &config.Unusable{Err: err}
		}
		replica = replicaOf(c)
	}
	sources, unreadable := a.sources(args)
	findings, more := lint.Lint(sources, replica)
	if err := a.printFindings(findings); err != nil {
		return err
	}
	if unreadable = append(unreadable, more...); len(unreadable) > 0 {
		f := &failure{status: statusUsage, message: "these files cannot be read:"}
		for _, err := range unreadable {
			f.faults = append(f.faults, printable.Clean(err.Error(), 2<<10))
		}
		return f
	}
	if slices.ContainsFunc(findings, func(f lint.Finding) bool { return f.Severity >= least }) {
		return &failure{status: statusFailed}
	}
	return nil
}

// replicaOf returns the part of a replica's configuration that the rules know.
func replicaOf(c *config.Authz) lint.Replica {
	r := lint.Replica{Prefix: c.Headers.Prefix, MaxMessage: c.MaxMessage}
	for name := range c.Policies {
		r.Policies = append(r.Policies, name)
	}
	for name := range c.Headers.Claims {
		r.Headers = append(r.Headers, name)
	}
	if c.Headers.Payload != "" {
		r.Headers = append(r.Headers, c.Headers.Payload)
	}
	slices.Sort(r.Headers)
	return r
}

// sources reads the files that the arguments name.
func (a *app) sources(args []string) (all []lint.Source, unreadable []error) {
	for _, name := range args {
		text, err := a.source(name)
		if name == config.Stdin {
			name = "<stdin>"
		}
		if err != nil {
			unreadable = append(unreadable, err)
			continue
		}
		all = append(all, lint.Source{Name: name, Text: text})
	}
	return all, unreadable
}

// source reads a file, or standard input, up to a byte beyond the bound.
func (a *app) source(name string) ([]byte, error) {
	in := a.in
	if name != config.Stdin {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return io.ReadAll(io.LimitReader(in, lint.MaxBytes+1))
}

func (a *app) printFindings(findings []lint.Finding) error {
	switch a.output {
	case "json":
		if findings == nil {
			findings = []lint.Finding{}
		}
		return a.printValue(map[string]any{"findings": findings})
	case "sarif":
		text, err := json.Marshal(lint.SARIF(findings, version().Version))
		if err != nil {
			return err
		}
		return a.printJSON(text)
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(a.out, "%s:%d: %s %s: %s\n  %s\n", printable.Clean(f.File, 1<<10), f.Line, f.Severity, f.Rule, f.Reason, f.Fix); err != nil {
			return err
		}
	}
	return nil
}

// printRules prints the table of rules.
func (a *app) printRules() error {
	if a.output == "json" {
		return a.printValue(map[string]any{"rules": lint.Rules()})
	}
	width := 0
	for _, r := range lint.Rules() {
		width = max(width, len(r.ID))
	}
	for _, r := range lint.Rules() {
		pad := strings.Repeat(" ", width-len(r.ID))
		if _, err := fmt.Fprintf(a.out, "%-7s  %s%s  %s %s\n", r.Severity, r.ID, pad, r.Danger, r.Fix); err != nil {
			return err
		}
	}
	return nil
}
