package main

import (
	"fmt"
	"math"

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
		note(a.errs, "the replicas saw no traffic%s", a.sinceWhen(d.Since))
	}
	s := a.screen()
	for i := range d.Items {
		if i > 0 {
			if err := s.print("\n"); err != nil {
				return err
			}
		}
		if err := s.recommendation(&d.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// adviceColumns are the columns of advise.
var adviceColumns = []column{
	{title: "LIFETIME"}, {title: "EXPOSURE"}, {title: "CUT OFF"}, {title: "REFRESHES/H"}, {title: "MAX_LIFETIME DENIES"}, {title: "MAX_AGE DENIES"},
}

// recommendation prints the recommendation for one issuer, client and policy, and
// the statistics behind it.
func (s *screen) recommendation(r *insight.Recommendation) error {
	client := pair("client", r.Client)
	if r.Client == "" {
		client = "no client"
	}
	head := s.pairs([]string{pair("issuer", r.Issuer), client, pair("policy", r.Policy)}, 0) +
		s.wrap(fmt.Sprintf("%s, %s an hour, with %s of %s sessions or subjects",
			counted(int(r.Requests), "request"), grouped(int(math.Round(r.RequestsPerHour))), counted(int(r.Tokens), "token"), grouped(int(r.Holders))), 0) +
		s.wrap(fmt.Sprintf("lifetime %s, age at use %s, between uses %s (median; p99 %s, %s, %s)",
			r.Lifetime.P50.Short(), r.Age.P50.Short(), r.Gap.P50.Short(), r.Lifetime.P99.Short(), r.Age.P99.Short(), r.Gap.P99.Short()), 0)
	if err := s.print(head + s.wrap(printable.Quote(r.Reason), 0) + "\n"); err != nil {
		return err
	}
	t := &table{screen: s, columns: adviceColumns}
	for _, c := range r.Candidates {
		name := cell{text: c.Lifetime.Short()}
		if c.Lifetime == r.Recommended {
			name = cell{name.text + " ←", good}
		}
		t.add(name, cell{text: c.ExposureMean.Short()}, cell{text: c.ExposureCutOff.Short()}, cell{text: grouped(int(math.Round(c.RefreshesPerHour)))},
			cell{text: percent(c.DeniedByMaxLifetime)}, cell{text: percent(c.DeniedByMaxAge)})
	}
	return t.flush()
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
