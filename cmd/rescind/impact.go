package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/ledger"
	"rescind/revocation/printable"
)

// guardFlags are the flags of a revocation that the control endpoint weighs.
type guardFlags struct{ dryRun, yes, unknownIssuer bool }

func (f *guardFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "revoke nothing, and print the traffic seen lately that it would have hit")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "confirm: also revoke every token of an issuer, more of the traffic than limits.share_of_traffic,\nor much that no replica can tell")
	cmd.Flags().BoolVar(&f.unknownIssuer, "unknown-issuer", false, "also revoke for an issuer that no replica accepts")
}

func (f *guardFlags) check(w *waitFlags) error {
	switch {
	case f.dryRun && f.yes:
		return usage("--yes cannot stand beside --dry-run, which revokes nothing")
	case f.dryRun && w.wait:
		return usage("--wait cannot stand beside --dry-run, which revokes nothing")
	}
	return nil
}

// addTo adds the flags to a call.
func (f *guardFlags) addTo(c *call) {
	for name, set := range map[string]bool{"dry_run": f.dryRun, "confirm": f.yes, "unknown_issuer": f.unknownIssuer} {
		if set {
			c.set(name, "true")
		}
	}
}

// explainGuard adds to the refusal of a revocation the flag that gets past it.
func explainGuard(err error) error {
	var r *refusal
	var f *failure
	if !errors.As(err, &r) || r.foreign || !errors.As(err, &f) {
		return err
	}
	switch {
	case r.Status == http.StatusConflict:
		f.message = "nothing is revoked: " + printable.Quote(r.Detail)
		f.hint = "--yes confirms it"
		if strings.HasSuffix(r.Detail, "by an operator") {
			f.hint = "--yes confirms it, with the token of an operator"
		}
	case r.Type == control.TypeUnknownIssuer:
		f.hint = "--unknown-issuer revokes all the same"
	}
	return err
}

// printImpact prints the answer to a dry run.
func (a *app) printImpact(d *control.ImpactDocument) error {
	for _, w := range d.Warnings {
		note(a.errs, "warning: %s", printable.Quote(w))
	}
	if err := a.printHit(d); err != nil {
		return err
	}
	switch {
	case d.Operator:
		note(a.errs, "revoking it takes --yes, with the token of an operator")
	case d.Confirm:
		note(a.errs, "revoking it takes --yes")
	}
	return nil
}

// printHit prints the traffic that a dry run would have hit.
func (a *app) printHit(d *control.ImpactDocument) error {
	if d.Partial && d.Requests == 0 {
		a.warnPartial(d.Replicas, false)
		_, err := fmt.Fprintln(a.out, "nothing is revoked; the traffic that it would have hit is not known: memory was short, a replica keeps no memory, or replicas do not remember these claims")
		return err
	}
	a.warnPartial(d.Replicas, d.Partial)
	if _, err := fmt.Fprintf(a.out, "nothing is revoked; seen%s, it would have hit\n", a.sinceWhen(d.Since)); err != nil {
		return err
	}
	return a.screen().fields(
		[2]string{"tokens", grouped(int(d.Tokens))},
		[2]string{"subjects", grouped(int(d.Subjects))},
		[2]string{"sessions", grouped(int(d.Sessions))},
		[2]string{"requests", fmt.Sprintf("%s of %s (%s)", grouped(int(d.Requests)), grouped(int(d.Total)), percent(d.Share))})
}

// addImpact adds the dry run of another part of an import to d. Each part was
// weighed against the same traffic.
func addImpact(d, part *control.ImpactDocument) {
	d.Tokens += part.Tokens
	d.Total = max(d.Total, part.Total)
	d.Requests = min(d.Requests+part.Requests, d.Total)
	if d.Total > 0 {
		d.Share = float64(d.Requests) / float64(d.Total)
	}
	if part.Since.After(d.Since) {
		d.Since = part.Since
	}
	d.Limit, d.Replicas = part.Limit, part.Replicas
	d.Confirm, d.Operator, d.Partial = d.Confirm || part.Confirm, d.Operator || part.Operator, d.Partial || part.Partial
	d.Warnings = append(d.Warnings, part.Warnings...)
}

// seenText says which traffic seen lately a revocation hits. It is empty where
// the control endpoint asked no replica.
func seenText(s *ledger.Seen) string {
	switch {
	case s == nil || s.Window == 0 && !s.Partial:
		return ""
	case s.Window == 0:
		return "no replica could tell"
	}
	text := fmt.Sprintf("%s with %s in the last %s", counted(int(s.Requests), "request"), counted(int(s.Tokens), "token"), window(time.Duration(s.Window)))
	switch {
	case s.Tokens == 0 && !s.Partial:
		text = fmt.Sprintf("no token seen in the last %s carries this", window(time.Duration(s.Window)))
	case s.Tokens == 0:
		text = fmt.Sprintf("no token that is known of in the last %s carries this", window(time.Duration(s.Window)))
	}
	if s.Partial {
		text += "; not every replica could tell"
	}
	return text
}

// window returns the time that replicas remember, in words.
func window(d time.Duration) string {
	if d.Round(time.Minute) == time.Hour {
		return "hour"
	}
	return rough(d)
}
