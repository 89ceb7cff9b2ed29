package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

// pollEvery is the pause between two requests of --follow.
const pollEvery = 500 * time.Millisecond

// alertsQuery has the flags of alerts.
type alertsQuery struct {
	detector string
	since    string
	limit    int // 0 = all
	follow   bool
}

func (a *app) alerts() *cobra.Command {
	var q alertsQuery
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List unusual use of tokens, newest first",
		Long: `Lists the alerts of the replicas, newest first: a revoked token that is used
again, bursts of bad signatures, a token in many networks at once.

With --follow it shows the latest alerts, oldest first, and then each new alert.`,
		Example: `  rescind alerts --detector revoked_token_used --since 1h
  rescind alerts --follow`,
		Args: exactly(),
	}
	conn := a.connection(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.follow, "follow", false, "go on, and show each new alert")
	f.StringVar(&q.detector, "detector", "", "only alerts of this `detector`, such as "+string(insight.RevokedTokenUsed))
	f.StringVar(&q.since, "since", "", "only alerts seen since a `time` as 2026-11-24T07:00:01Z, or within a duration, as 1h")
	f.IntVar(&q.limit, "limit", 20, "number of alerts at most; 0 shows all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		values, err := q.values(a.now())
		if err != nil {
			return err
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		w := alertEntries(a)
		if q.follow {
			return q.watch(cmd.Context(), c, values, w)
		}
		return q.print(cmd.Context(), c, values, w)
	}
	return cmd
}

// values returns the query of the API, or an error that names the wrong flag.
func (q *alertsQuery) values(now time.Time) (url.Values, error) {
	v := url.Values{}
	if q.detector != "" {
		if !slices.Contains(insight.Detectors, insight.Detector(q.detector)) {
			var names []string
			for _, d := range insight.Detectors {
				names = append(names, string(d))
			}
			return nil, usage("--detector %s: it must be one of %s", printable.Quote(q.detector), strings.Join(names, ", "))
		}
		v.Set("detector", q.detector)
	}
	if q.since != "" {
		since, err := sinceTime(q.since, now)
		if err != nil {
			return nil, err
		}
		v.Set("since", since)
	}
	if q.limit < 0 {
		return nil, usage("--limit %d: it must be a number of alerts, or 0 for all", q.limit)
	}
	return v, nil
}

// alertPage is a page of the API, with each alert as the API wrote it.
type alertPage struct {
	Items      []json.RawMessage `json:"items"`
	NextCursor string            `json:"next_cursor"`
}

// page asks for one page.
func (q *alertsQuery) page(ctx context.Context, c *client, v url.Values, most int) (p alertPage, err error) {
	v.Set("limit", strconv.Itoa(most))
	res, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/alerts", query: v})
	if err == nil {
		err = res.into(&p)
	}
	return p, err
}

// print prints the alerts that there are now.
func (q *alertsQuery) print(ctx context.Context, c *client, v url.Values, w *entryWriter[insight.Alert]) error {
	var to lister = w
	if w.output == "json" {
		to = &jsonList{w: w.out}
	}
	for left := q.limit; ; {
		most := pageSize
		if q.limit > 0 {
			most = min(left, pageSize)
		}
		p, err := q.page(ctx, c, v, most)
		if err == nil {
			err = to.page(p.Items)
		}
		if err != nil {
			return err
		}
		left -= len(p.Items)
		if p.NextCursor == "" || q.limit > 0 && left <= 0 {
			return to.end(p.NextCursor)
		}
		v.Set("cursor", p.NextCursor)
	}
}

// watch prints the latest alerts, and then each new one. It goes on while the
// control endpoint is unavailable.
func (q *alertsQuery) watch(ctx context.Context, c *client, v url.Values, w *entryWriter[insight.Alert]) error {
	newest, began := "", false
	for ctx.Err() == nil {
		fresh, id, err := q.fresh(ctx, c, v, newest, began)
		switch {
		case ctx.Err() != nil: // Ctrl-C
		case err != nil && (!began || permanent(err)):
			return err
		case err != nil:
			note(w.errs, "%v; asking again", err)
		default:
			began = true
			if err := w.lines(fresh); err != nil {
				return err
			}
			if id != "" {
				newest = id
			}
		}
		pause := time.NewTimer(pollEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
	return nil
}

// permanent says that asking again would get no other answer.
func permanent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.Status/100 == 4 && r.Status != http.StatusTooManyRequests
}

// fresh returns the alerts after the newest that was shown, oldest first, and the
// ID of the newest. At the beginning it returns the latest ones up to the limit.
func (q *alertsQuery) fresh(ctx context.Context, c *client, of url.Values, newest string, began bool) (fresh []json.RawMessage, id string, err error) {
	v := url.Values{}
	for name := range of {
		v.Set(name, of.Get(name))
	}
	if newest != "" {
		v.Set("after", newest)
	}
	for most := pageSize; ; {
		if !began && q.limit > 0 {
			most = min(q.limit-len(fresh), pageSize)
		}
		p, err := q.page(ctx, c, v, most)
		if err != nil {
			return nil, "", err
		}
		fresh = append(fresh, p.Items...)
		if p.NextCursor == "" || !began && q.limit > 0 && len(fresh) >= q.limit {
			break
		}
		v.Set("cursor", p.NextCursor)
	}
	if len(fresh) > 0 {
		var first insight.Alert
		if err := json.Unmarshal(fresh[0], &first); err != nil {
			return nil, "", err
		}
		id = first.ID
	}
	slices.Reverse(fresh)
	return fresh, id, nil
}

// alertText returns an alert for people.
func alertText(a *insight.Alert, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s\n", timeText(a.Last, now), printable.Quote(string(a.Detector)), printable.Quote(a.Summary))
	var facts []string
	for _, f := range []struct{ name, value string }{
		{"times", grouped(int(a.Count))}, {"issuer", a.Issuer}, {"sub", a.Subject}, {"jti", a.TokenID}, {"sid", a.Session}, {"client", a.Client}, {"kid", a.KeyID},
		{"policy", a.Policy}, {"revocation", a.RevocationID}, {"networks", strings.Join(a.Networks, ", ")}, {"replicas", strings.Join(a.Replicas, ", ")},
		{"credentials", strings.Join(a.Credentials, ", ")},
	} {
		if f.value != "" && (f.name != "times" || a.Count > 1) {
			facts = append(facts, f.name+" "+clip(printable.Quote(f.value), 80))
		}
	}
	if a.Hearsay {
		facts = append(facts, "hearsay: none of the replicas accepts this issuer")
	}
	fmt.Fprintf(&b, "    %s\n", strings.Join(facts, "  "))
	return b.String()
}
