package main

import (
	"cmp"
	"fmt"
	"maps"
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
		Short: "Show when, from where and for what tokens were used lately",
		Long: `Shows the requests that the replicas saw lately with the tokens of a subject, a
session or a client, or with one token: when, how many, from which networks,
under which policies and with which outcome. The replicas are asked now. Their
memory is bounded, and lost when they restart.`,
		Example: "  rescind activity --sub alice --issuer https://idp.example.com/",
		Args:    exactly(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	for _, d := range []struct {
		by     insight.Dimension
		of, is string
	}{{insight.BySubject, "subject", "sub"}, {insight.ByToken, "ID", "jti"}, {insight.BySession, "session", "sid"}, {insight.ByClient, "client", "client"}} {
		of[d.by] = f.String(d.is, "", fmt.Sprintf("requests with this `%s`", d.of))
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
				return usage("give one of --sub --jti --sid --client, not two")
			}
			v.Set("by", string(by))
			v.Set("value", *value)
		}
		if !v.Has("by") {
			return usage("name the tokens by one of --sub --jti --sid --client")
		}
		if issuer != "" {
			v.Set("issuer", issuer)
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		return printDocument(cmd.Context(), a, c, "/v1/activity", v, a.printActivity)
	}
	return cmd
}

// printActivity prints the answer of the replicas.
func (a *app) printActivity(d *control.ActivityDocument) error {
	a.warnPartial(d.Replicas, d.Partial)
	if d.Count == 0 {
		note(a.errs, "no request with%s was seen%s", a.filters, a.sinceWhen(d.Since))
		return nil
	}
	s := a.screen()
	if err := s.fields([2]string{"requests", grouped(int(d.Count))}, [2]string{"first seen", s.instant(d.First)}, [2]string{"last seen", s.instant(d.Last)}); err != nil {
		return err
	}
	for _, part := range []struct {
		title string
		of    map[string]uint64
	}{{"OUTCOME", d.Outcomes}, {"POLICY", d.Policies}, {"NETWORK", d.Networks}} {
		if err := s.counts(part.title, part.of); err != nil {
			return err
		}
	}
	return nil
}

// mostCounts is the number of rows of a table of counts; the most frequent are
// shown.
const mostCounts = 20

// counts prints counts by name, the most frequent first, below an empty line.
func (s *screen) counts(title string, of map[string]uint64) error {
	if len(of) == 0 {
		return nil
	}
	names := slices.Collect(maps.Keys(of))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(-cmp.Compare(of[a], of[b]), cmp.Compare(a, b)) })
	t := &table{screen: s, columns: []column{{title: title, least: 12}, {title: "REQUESTS"}}}
	for _, name := range names[:min(len(names), mostCounts)] {
		text := cell{text: printable.Quote(name)}
		if title == "OUTCOME" && name == "revoked" {
			text.tone = bad
		}
		t.add(text, cell{text: grouped(int(of[name]))})
	}
	if more := len(names) - mostCounts; more > 0 {
		t.add(cell{text: fmt.Sprintf("and %d more", more)}, cell{})
	}
	if err := s.print("\n"); err != nil {
		return err
	}
	return t.flush()
}

// warnPartial prints why an answer may be incomplete.
func (a *app) warnPartial(of control.Answered, partial bool) {
	switch {
	case of.Asked == 0:
		note(a.errs, "no replica is connected, so nothing is known")
	case of.Answered < of.Asked:
		note(a.errs, "%d of %d replicas answered; the requests that the others saw are missing", of.Answered, of.Asked)
	}
	if partial {
		note(a.errs, "the memory of a replica was short, so there may have been more requests")
	}
}

// sinceWhen returns the beginning of the memory, in words.
func (a *app) sinceWhen(since time.Time) string {
	if since.IsZero() {
		return ""
	}
	return " since " + a.screen().instant(since)
}
