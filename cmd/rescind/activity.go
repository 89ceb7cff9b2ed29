package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

func (a *app) activity() *cobra.Command {
	var issuer string
	of := map[insight.Dimension]*string{}
	cmd := &cobra.Command{
		Use:   "activity",
		Short: "What was seen of a subject, a token, a session or a client",
		Long: `What the replicas saw lately of a subject, a token, a session or a client: when,
how often, from which networks, on which routes, with what outcome. It is asked
of them now; what they remember is bounded, and lost when they restart.`,
		Example: "  rescind activity --sub alice --issuer https://idp.example.com/",
		Args:    exactly(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	for _, d := range []struct {
		by     insight.Dimension
		of, is string
	}{{insight.BySubject, "subject", "sub"}, {insight.ByToken, "ID", "jti"}, {insight.BySession, "session", "sid"}, {insight.ByClient, "client", "client"}} {
		of[d.by] = f.String(d.is, "", fmt.Sprintf("of this `%s`", d.of))
	}
	f.StringVar(&issuer, "issuer", "", "only tokens of this issuer")
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := url.Values{}
		for by, value := range of {
			if *value == "" {
				continue
			}
			if v.Has("by") {
				return usage("one of --sub --jti --sid --client; these are two")
			}
			v.Set("by", string(by))
			v.Set("value", *value)
		}
		if !v.Has("by") {
			return usage("whose activity? one of --sub --jti --sid --client")
		}
		if issuer != "" {
			v.Set("issuer", issuer)
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		res, err := c.do(cmd.Context(), call{method: http.MethodGet, path: "/v1/activity", query: v})
		if err != nil {
			return err
		}
		if a.output == "json" {
			return a.printJSON(res.body)
		}
		var d control.ActivityDocument
		if err := res.into(&d); err != nil {
			return err
		}
		return a.printActivity(&d)
	}
	return cmd
}

func (a *app) printActivity(d *control.ActivityDocument) error {
	a.warnPartial(d.Replicas, d.Partial)
	if d.Count == 0 {
		note(a.errs, "nothing was seen%s", sinceWhen(d.Since, a.now()))
		return nil
	}
	t := columns(a.out)
	row(t, "first seen", timeText(d.First, a.now()))
	row(t, "last seen", timeText(d.Last, a.now()))
	row(t, "requests", grouped(int(d.Count)))
	if err := t.Flush(); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		of    map[string]uint64
	}{{"OUTCOME", d.Outcomes}, {"POLICY", d.Policies}, {"NETWORK", d.Networks}} {
		if err := printCounts(a.out, part.title, part.of); err != nil {
			return err
		}
	}
	return nil
}

// mostCounts is how many of the most frequent a table shows.
const mostCounts = 20

func printCounts(w io.Writer, title string, of map[string]uint64) error {
	if len(of) == 0 {
		return nil
	}
	names := slices.Collect(maps.Keys(of))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(-cmp.Compare(of[a], of[b]), cmp.Compare(a, b)) })
	t := columns(w)
	row(t, "")
	row(t, title, "REQUESTS")
	for i, name := range names {
		if i == mostCounts {
			row(t, fmt.Sprintf("and %d more", len(names)-i))
			break
		}
		row(t, clip(printable.Quote(name), 60), grouped(int(of[name])))
	}
	return t.Flush()
}

// warnPartial says why an answer may not be all.
func (a *app) warnPartial(of control.Answered, partial bool) {
	switch {
	case of.Asked == 0:
		note(a.errs, "no replica is connected, and so nothing is known")
	case of.Answered < of.Asked:
		note(a.errs, "this is what %d of %d replicas saw; the others did not answer", of.Answered, of.Asked)
	}
	if partial {
		note(a.errs, "memory was short: there may have been more")
	}
}

func sinceWhen(since, now time.Time) string {
	if since.IsZero() {
		return ""
	}
	return " since " + timeText(since, now)
}
