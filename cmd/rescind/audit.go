package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rescind/cmd/internal/terminal"
	"rescind/revocation/ledger"
	"rescind/revocation/printable"
)

// auditQuery has the flags of audit.
type auditQuery struct {
	since, by, issuer string
	limit             int // 0 = all
	follow            bool
}

func (a *app) audit() *cobra.Command {
	var q auditQuery
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List changes and attempts with their callers, newest first",
		Long: `Lists the changes and the attempts of all callers, newest first. Refused and
denied attempts are among them.

With --follow it shows the latest entries, oldest first, and then each new one.`,
		Example: `  rescind audit --since 30d --by alice
  rescind audit --follow --issuer https://idp.example.com/`,
		Args: exactly(),
	}
	conn := a.connection(cmd)
	f := cmd.Flags()
	f.BoolVar(&q.follow, "follow", false, "go on, and show each new entry")
	f.StringVar(&q.since, "since", "", "only entries since a `time` as 2026-11-24T07:00:01Z, or within a duration, as 1h or 30d")
	f.StringVar(&q.by, "by", "", "only entries of the credential of this `name`")
	f.StringVar(&q.issuer, "issuer", "", "only entries about this issuer")
	f.IntVar(&q.limit, "limit", 100, "largest `number` of entries, with --follow of those at the beginning; 0 for all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := q.values(cmd, a.now())
		if err != nil {
			return err
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		if q.follow {
			return auditEntries(a).follow(cmd.Context(), newAuditTail(c, v, q.limit).fresh)
		}
		return a.printList(cmd.Context(), c, "/v1/audit", v, q.limit, auditEntries(a))
	}
	return cmd
}

// values returns the query of the API, or an error that names the wrong flag.
func (q *auditQuery) values(cmd *cobra.Command, now time.Time) (url.Values, error) {
	if err := notEmpty(cmd, "by", "issuer"); err != nil {
		return nil, err
	}
	v := url.Values{}
	for name, value := range map[string]string{"by": q.by, "issuer": q.issuer} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if cmd.Flags().Changed("since") {
		after, err := sinceTime(q.since, now)
		if err != nil {
			return nil, err
		}
		v.Set("after", after)
	}
	if q.limit < 0 {
		return nil, usage("--limit must be 0 or more; it is %d", q.limit)
	}
	return v, nil
}

// auditOverlap is how far before the last answer a poll of --follow looks again.
// The clocks of the nodes differ, and an entry may be written late.
const auditOverlap = 5 * time.Minute

// auditTail reads the entries that are not shown yet.
type auditTail struct {
	client *client
	values url.Values
	limit  int                  // of the entries at the beginning; 0 = all
	since  time.Time            // no earlier entry is wanted
	shown  map[string]time.Time // each entry since the overlap, with its time
}

func newAuditTail(c *client, v url.Values, limit int) *auditTail {
	since, _ := time.Parse(time.RFC3339Nano, v.Get("after")) // the zero time: from the beginning
	return &auditTail{client: c, values: v, limit: limit, since: since, shown: map[string]time.Time{}}
}

// fresh returns the entries that are not shown yet, oldest first. At the beginning
// it returns the latest entries up to the limit.
func (t *auditTail) fresh(ctx context.Context, began bool) ([]json.RawMessage, error) {
	limit := t.limit
	if began {
		limit = 0
	}
	fresh, now, err := t.read(ctx, limit)
	if err != nil {
		return nil, err
	}
	after := now.Add(-auditOverlap)
	if t.since.After(after) {
		after = t.since
	}
	maps.DeleteFunc(t.shown, func(_ string, at time.Time) bool { return at.Before(after) })
	t.values.Set("after", after.UTC().Format(time.RFC3339Nano))
	slices.Reverse(fresh)
	return fresh, nil
}

// read reads entries, newest first, up to the limit. It adds them to those that are
// shown, and returns the time of the control endpoint. New entries come before all
// earlier ones, so the first one that is shown ends the search. The limit 0 reads
// all.
func (t *auditTail) read(ctx context.Context, limit int) (fresh []json.RawMessage, now time.Time, err error) {
	v := maps.Clone(t.values)
	added := map[string]time.Time{}
search:
	for {
		size := pageSize
		if limit > 0 {
			size = min(limit-len(fresh), pageSize)
		}
		v.Set("limit", strconv.Itoa(size))
		res, err := t.client.do(ctx, call{method: http.MethodGet, path: "/v1/audit", query: v})
		if err != nil {
			return nil, now, err
		}
		if now.IsZero() {
			now = res.date
		}
		var p listPage
		if err := res.into(&p); err != nil {
			return nil, now, err
		}
		for _, item := range p.Items {
			if _, ok := t.shown[string(item)]; ok {
				break search
			}
			var e ledger.AuditEntry
			if err := (&answer{body: item}).into(&e); err != nil {
				return nil, now, err
			}
			added[string(item)] = e.At
			fresh = append(fresh, item)
		}
		if p.NextCursor == "" || limit > 0 && len(fresh) >= limit {
			break
		}
		v.Set("cursor", p.NextCursor)
	}
	maps.Copy(t.shown, added)
	return fresh, now, nil
}

// byWidth is the width of a caller's name in the lines of the audit.
const byWidth = 18

// auditText returns an entry for people.
func auditText(s *screen, e *ledger.AuditEntry) string {
	by := cell{text: printable.Quote(e.By)}
	if e.By == "" {
		by = cell{"unknown credential", warning}
	}
	if s.width > 0 && !s.wide {
		by.text = terminal.Fit(by.text, byWidth)
	}
	var b strings.Builder
	b.WriteString(s.paint(terminal.Pad(printable.Quote(e.Outcome), 8), outcomeTone(e.Outcome)) + "  " + terminal.Pad(s.when(e.At), 8) + "  " +
		s.paint(terminal.Pad(by.text, byWidth), by.tone) + "  " + printable.Quote(e.Action) + "\n")
	var facts []string
	if e.ID != "" {
		facts = append(facts, printable.Quote(e.ID))
	}
	if e.Write != "" {
		facts = append(facts, pair("write", e.Write))
	}
	if e.Count > 1 {
		noun := "time"
		if e.Action == ledger.ActImport || e.Write != "" { // else they are equal attempts
			noun = "revocation"
		}
		facts = append(facts, counted(e.Count, noun))
	}
	if e.Target != nil {
		facts = append(facts, targetText(e.Target))
	}
	if len(e.Issuers) > 0 {
		text := pair("issuer", e.Issuers[0])
		if more := len(e.Issuers) - 1 + e.IssuersOmitted; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		facts = append(facts, text)
	}
	if s.wide && e.From != "" {
		facts = append(facts, pair("from", e.From))
	}
	b.WriteString(s.pairs(facts, indent))
	for _, text := range []string{e.Detail, e.Reason} {
		if text != "" {
			b.WriteString(s.wrap(printable.Quote(text), indent))
		}
	}
	return b.String()
}

// outcomeTone returns the tone of an outcome of the audit.
func outcomeTone(outcome string) tone {
	switch outcome {
	case ledger.Accepted:
		return good
	case ledger.Denied, ledger.Failed:
		return bad
	case ledger.Refused:
		return warning
	}
	return quiet
}
