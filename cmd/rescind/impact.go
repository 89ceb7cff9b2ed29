package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
)

// caution is the pair of flags that have to do with what a revocation hits.
type caution struct{ dryRun, yes bool }

func (f *caution) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "revoke nothing, and say what it would have hit lately")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "also if that is more of the traffic than limits.share_of_traffic allows")
}

func (f *caution) check(w *waiting) error {
	switch {
	case f.dryRun && f.yes:
		return usage("--yes means nothing beside --dry-run")
	case f.dryRun && w.wait:
		return usage("--wait means nothing beside --dry-run")
	}
	return nil
}

func (f *caution) ask(c *call) {
	if c.query == nil {
		c.query = url.Values{}
	}
	if f.dryRun {
		c.query.Set("dry_run", "true")
	}
	if f.yes {
		c.query.Set("confirm", "yes")
	}
}

// confirmable says with a 409 how to go on.
func confirmable(err error) error {
	var r *refusal
	var f *failure
	if errors.As(err, &r) && r.Status == http.StatusConflict && !r.foreign && errors.As(err, &f) {
		f.message, f.hint = "nothing is revoked: "+printable(r.Detail), "--yes revokes all the same"
	}
	return err
}

// printImpact is the answer to a dry run.
func (a *app) printImpact(res *answer) error {
	if a.output == "json" {
		return a.printJSON(res.body)
	}
	var d control.ImpactDocument
	if err := res.into(&d); err != nil {
		return err
	}
	if d.Partial && d.Requests == 0 {
		a.sawLittle(d.Replicas, false)
		_, err := fmt.Fprintln(a.out, "nothing is revoked; what it would have hit cannot be told: memory was short, or replicas do not remember these claims")
		return err
	}
	a.sawLittle(d.Replicas, d.Partial)
	if _, err := fmt.Fprintf(a.out, "nothing is revoked; seen%s, it would have hit\n", sinceWhen(d.Since, a.now())); err != nil {
		return err
	}
	t := columns(a.out)
	row(t, "tokens", grouped(int(d.Tokens)))
	row(t, "subjects", grouped(int(d.Subjects)))
	row(t, "sessions", grouped(int(d.Sessions)))
	row(t, "requests", fmt.Sprintf("%s of %s (%s)", grouped(int(d.Requests)), grouped(int(d.Total)), percent(d.Share)))
	if err := t.Flush(); err != nil {
		return err
	}
	if d.Confirm {
		note(a.errs, "that is more than the %s of the traffic that may be hit without a word: revoking it takes --yes", percent(d.Limit))
	}
	return nil
}
