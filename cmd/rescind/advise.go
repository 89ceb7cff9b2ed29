package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

func (a *app) advise() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "advise",
		Short: "Recommend token lifetimes that fit the traffic",
		Long: `Recommends a token lifetime for each issuer, client and policy, from the traffic
that the replicas saw. For some lifetimes it shows the exposure and the refreshes
that each would cause.

Exposure is the time for which a token that should be invalid is still accepted:
on average without revocation, and at most with revocation while a replica is
cut off. The last two columns are the share of the present requests that
max_lifetime or max_age of that value would deny. "mode: observe" on a policy
tries a limit without denying.`,
		Args: exactly(),
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := conn.open()
		if err != nil {
			return err
		}
		return printDocument(cmd.Context(), a, c, "/v1/advice", nil, a.printAdvice)
	}
	return cmd
}

func (a *app) printAdvice(d *control.AdviceDocument) error {
	a.warnPartial(d.Replicas, d.Partial)
	if len(d.Items) == 0 {
		note(a.errs, "the replicas saw no traffic%s", sinceWhen(d.Since, a.now()))
	}
	for i := range d.Items {
		if err := a.printRecommendation(&d.Items[i], i > 0); err != nil {
			return err
		}
	}
	return nil
}

// printRecommendation prints the statistics and the recommendation for one issuer,
// client and policy.
func (a *app) printRecommendation(r *insight.Recommendation, more bool) error {
	if more {
		if _, err := fmt.Fprintln(a.out); err != nil {
			return err
		}
	}
	client := printable.Quote(r.Client)
	if r.Client == "" {
		client = "(none)"
	}
	_, err := fmt.Fprintf(a.out, "issuer %s  client %s  policy %s\n%s requests, %.0f an hour, with %s tokens of %s sessions or subjects\nlifetime %s, age at use %s, between uses %s (median; p99 %s, %s, %s)\n\n",
		clip(printable.Quote(r.Issuer), 80), clip(client, 40), clip(printable.Quote(r.Policy), 40),
		grouped(int(r.Requests)), r.RequestsPerHour, grouped(int(r.Tokens)), grouped(int(r.Holders)),
		short(r.Lifetime.P50), short(r.Age.P50), short(r.Gap.P50), short(r.Lifetime.P99), short(r.Age.P99), short(r.Gap.P99))
	if err != nil {
		return err
	}
	t := columns(a.out)
	row(t, "LIFETIME", "EXPOSURE", "CUT OFF", "REFRESHES/H", "MAX_LIFETIME DENIES", "MAX_AGE DENIES")
	for _, c := range r.Candidates {
		name := short(c.Lifetime)
		if c.Lifetime == r.Recommended {
			name += " ←"
		}
		row(t, name, short(c.ExposureMean), short(c.ExposureCutOff), fmt.Sprintf("%.0f", c.RefreshesPerHour), percent(c.DeniedByMaxLifetime), percent(c.DeniedByMaxAge))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "\n%s\n", printable.Quote(r.Reason))
	return err
}

// short returns a duration, rounded and without needless parts: 5m, 1h30m.
func short(d insight.Duration) string {
	v := time.Duration(d)
	switch {
	case v >= 10*time.Minute:
		v = v.Round(time.Minute)
	case v >= time.Second:
		v = v.Round(time.Second)
	}
	s := v.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if n := len(s) - 2; n > 0 && s[n-1:] == zero {
			s = s[:n]
		}
	}
	return s
}

// percent returns a share in words.
func percent(of float64) string {
	switch {
	case of == 0:
		return "none"
	case of < .001:
		return "<0.1%"
	}
	return fmt.Sprintf("%.1f%%", 100*of)
}
