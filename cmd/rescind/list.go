package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

// pageSize is the largest page of the API.
const pageSize = 1000

func (a *app) list() *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List revocations, newest first",
		Example: `  rescind list --issuer https://idp.example.com/ --claim sub=alice --since 30d
  rescind list --active --all -o json`,
		Args: exactly(),
	}
	conn := a.connection(cmd)
	q.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := q.values(cmd, a)
		if err != nil {
			return err
		}
		c, err := conn.open()
		if err != nil {
			return err
		}
		return a.printList(cmd.Context(), c, "/v1/revocations", v, q.limit, newTextList(a))
	}
	return cmd
}

// printList prints a list of the API up to the limit: with -o json as one document,
// otherwise with text.
func (a *app) printList(ctx context.Context, c *client, path string, v url.Values, limit int, text lister) error {
	if a.output == "json" {
		text = &jsonList{w: a.out}
	}
	return followPages(ctx, c, path, v, limit, text)
}

// lister prints each page when it arrives, because a list may not fit in memory.
type lister interface {
	page(items []json.RawMessage) error
	end(next string) error
}

// listPage is a page of a list, with each item as the API wrote it.
type listPage struct {
	Items      []json.RawMessage `json:"items"`
	NextCursor string            `json:"next_cursor"`
}

// followPages passes the pages of a list to the lister, up to the limit. The
// limit 0 passes all pages.
func followPages(ctx context.Context, c *client, path string, v url.Values, limit int, to lister) error {
	for left := limit; ; {
		size := pageSize
		if limit > 0 {
			size = min(left, pageSize)
		}
		v.Set("limit", strconv.Itoa(size))
		res, err := c.do(ctx, call{method: http.MethodGet, path: path, query: v})
		if err != nil {
			return err
		}
		var p listPage
		if err := res.into(&p); err != nil {
			return err
		}
		if err := to.page(p.Items); err != nil {
			return err
		}
		left -= len(p.Items)
		if p.NextCursor == "" || limit > 0 && left <= 0 {
			return to.end(p.NextCursor)
		}
		v.Set("cursor", p.NextCursor)
	}
}

// revocationColumns are the columns of list.
var revocationColumns = []column{
	{title: "STATE"}, {title: "ID"}, {title: "REVOKED", least: 20}, {title: "ISSUER", least: 12}, {title: "MADE"}, {title: "EXPIRES"},
	{title: "BY", least: 8}, {title: "REASON", least: 16}, {title: "ISSUED BEFORE", wide: true},
}

// textList prints a table. The columns of each page have their own widths.
type textList struct {
	*app
	table *table
	count int
}

func newTextList(a *app) *textList {
	return &textList{app: a, table: &table{screen: a.screen(), columns: revocationColumns}}
}

func (l *textList) page(items []json.RawMessage) error {
	t := l.table
	l.count += len(items)
	for _, item := range items {
		var d control.Document
		if err := (&answer{body: item}).into(&d); err != nil {
			return err
		}
		t.add(stateCell(&d), cell{text: d.ID}, cell{text: targetText(&d.Target)}, t.issuer(d.Issuer),
			cell{text: t.when(d.CreatedAt)}, cell{text: t.when(d.ExpiresAt)}, cell{text: printable.Quote(d.CreatedBy)},
			cell{text: printable.Quote(d.Reason)}, cell{text: cutoffText(&d)})
	}
	return t.flush()
}

func (l *textList) end(next string) error {
	switch {
	case l.count == 0:
		l.nothing("revocation")
	case next != "":
		note(l.errs, "there are more than these %s; --limit 0 shows all", grouped(l.count))
	}
	return nil
}

// jsonList prints the whole list as one document, in the form of a page of the API.
type jsonList struct {
	w     io.Writer
	count int
}

func (l *jsonList) page(items []json.RawMessage) error {
	var b bytes.Buffer
	for _, item := range items {
		b.WriteString(map[bool]string{true: "{\n  \"items\": [\n    ", false: ",\n    "}[l.count == 0])
		if err := json.Indent(&b, item, "    ", "  "); err != nil {
			return err
		}
		l.count++
	}
	_, err := l.w.Write(printable.JSON(b.Bytes()))
	return err
}

func (l *jsonList) end(next string) error {
	text := "\n  ]"
	if l.count == 0 {
		text = "{\n  \"items\": []"
	}
	if next != "" {
		text += fmt.Sprintf(",\n  \"next_cursor\": %q", next)
	}
	_, err := io.WriteString(l.w, text+"\n}\n")
	return err
}

func (a *app) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one revocation in full",
		Example: "  rescind show r17.0",
		Args:    exactly("the ID of a revocation"),
	}
	conn := a.connection(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, path, err := conn.one(args[0])
		if err != nil {
			return err
		}
		return unknown(args[0], printDocument(cmd.Context(), a, c, path, nil, a.details))
	}
	return cmd
}

// unknown adds to a 404 the ID of a revocation that was looked for, and the command
// that lists the IDs.
func unknown(id string, err error) error { return unknownIn("rescind list", id, err) }

// unknownIn adds to a 404 the ID that was looked for, and the command that shows
// the IDs.
func unknownIn(command, id string, err error) error {
	var f *failure
	var r *refusal
	if errors.As(err, &r) && r.Status == http.StatusNotFound && !r.foreign && errors.As(err, &f) {
		f.message, f.faults, f.hint = id+": "+f.message, nil, command+" shows the IDs"
	}
	return err
}
