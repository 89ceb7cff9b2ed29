package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/charmbracelet/lipgloss"

	"rescind/authz/explain"
	"rescind/envoy"
	"rescind/revocation/control"
	"rescind/revocation/printable"
)

// checkAnswer is the answer of a replica, with its explanation.
type checkAnswer struct {
	Decision string `json:"decision"`
	Reason   string `json:"reason"`
	*envoy.Outcome
	Explanation []explain.Finding `json:"explanation,omitempty"`
	Revocation  json.RawMessage   `json:"revocation,omitempty"` // as the API has it
	Undo        string            `json:"undo,omitempty"`       // the command that restores it

	place string // that held the token; empty: the Authorization header
}

// printAnswer prints the action that Envoy would take, and why. Values of the
// token are quoted unless they are printable.
func (a *app) printAnswer(c *checkAnswer) error {
	if a.output == "json" {
		return a.printValue(c)
	}
	colour := lipgloss.Color("1")
	if c.Allowed {
		colour = lipgloss.Color("2")
	}
	style := lipgloss.NewRenderer(a.out).NewStyle().Bold(true).Foreground(colour)
	if _, err := fmt.Fprintf(a.out, "%s  %s\n", style.Render(c.Decision), printable.Quote(c.Reason)); err != nil {
		return err
	}
	t := columns(a.out)
	if text := descriptionOf(c.Body); text != "" {
		row(t, "why", printable.Quote(text))
	}
	if c.Undo != "" {
		row(t, "undo", c.Undo)
	}
	for _, f := range c.Explanation {
		for _, part := range []struct{ label, text string }{{"token", f.Token}, {"wanted", f.Wanted}, {"key", f.Key}, {"note", f.Note}} {
			switch {
			case part.text == "" || part.label == "note" && f.Key != "":
			case part.label == "key":
				row(t, part.label, part.text+": "+f.Note)
			default:
				row(t, part.label, part.text)
			}
		}
	}
	if c.place != "" {
		row(t, "token in", printable.Quote(c.place))
	}
	c.rows(t)
	if err := t.Flush(); err != nil || c.Revocation == nil {
		return err
	}
	var d control.Document
	if err := (&answer{body: c.Revocation}).into(&d); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.out, "\nthe revocation %s:\n", d.ID); err != nil {
		return err
	}
	return a.details(&d)
}

// rows prints the answer as Envoy gets it.
func (c *checkAnswer) rows(t *tabwriter.Writer) {
	if !c.Allowed {
		row(t, "status", fmt.Sprintf("%d %s", c.Status, http.StatusText(c.Status)))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		value := fieldOf(c.Metadata[name])
		if name != "decision" && name != "reason" && value != "" {
			row(t, printable.Quote(name), value)
		}
	}
	set := "header set"
	if !c.Allowed {
		set = "response header"
	}
	for _, h := range c.Headers {
		row(t, set, printable.Quote(h.Name)+": "+printable.Quote(h.Value))
	}
	for _, name := range c.Removed {
		row(t, "header removed", printable.Quote(name))
	}
	if c.Body != "" {
		row(t, "body", printable.Quote(c.Body))
	}
}

// descriptionOf returns the description in the body of a denial, or "".
func descriptionOf(body string) string {
	var problem struct {
		Description string `json:"error_description"`
	}
	if json.Unmarshal([]byte(body), &problem) != nil {
		return ""
	}
	return problem.Description
}

// fieldOf returns a value of the metadata as text. All its numbers are floats.
func fieldOf(v any) string {
	if f, ok := v.(float64); ok {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return printable.Quote(fmt.Sprint(v))
}
