package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

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
		values, err := q.values(cmd, a.now())
		if err != nil {
			return err
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		if q.follow {
			tail := &alertTail{client: c, values: values, limit: q.limit}
			return alertEntries(a).follow(cmd.Context(), tail.fresh)
		}
		return a.printList(cmd.Context(), c, "/v1/alerts", values, q.limit, alertEntries(a))
	}
	return cmd
}

// values returns the query of the API, or an error that names the wrong flag.
func (q *alertsQuery) values(cmd *cobra.Command, now time.Time) (url.Values, error) {
	if err := notEmpty(cmd, "detector", "since"); err != nil {
		return nil, err
	}
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

// alertTail reads the alerts that are not shown yet.
type alertTail struct {
	client *client
	values url.Values
	limit  int    // of the alerts at the beginning; 0 = all
	newest string // ID of the newest alert that is shown; empty: none
}

// fresh returns the alerts after the newest that is shown, oldest first. At the
// beginning it returns the latest alerts up to the limit.
func (t *alertTail) fresh(ctx context.Context, began bool) ([]json.RawMessage, error) {
	v := maps.Clone(t.values)
	if t.newest != "" {
		v.Set("after", t.newest)
	}
	limit := t.limit
	if began {
		limit = 0
	}
	var alerts collector
	if err := followPages(ctx, t.client, "/v1/alerts", v, limit, &alerts); err != nil || len(alerts) == 0 {
		return nil, err
	}
	var first insight.Alert
	if err := json.Unmarshal(alerts[0], &first); err != nil {
		return nil, err
	}
	t.newest = first.ID
	slices.Reverse(alerts)
	return alerts, nil
}

// collector keeps the pages of a list.
type collector []json.RawMessage

func (c *collector) page(items []json.RawMessage) error { *c = append(*c, items...); return nil }
func (c *collector) end(string) error                   { return nil }
