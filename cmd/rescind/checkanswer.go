package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

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
	s, decision := a.screen(), bad
	if c.Allowed {
		decision = good
	}
	if err := s.print(s.paint(c.Decision, decision) + "  " + printable.Quote(c.Reason) + "\n"); err != nil {
		return err
	}
	if err := s.fields(append(c.why(), c.rows()...)...); err != nil || c.Revocation == nil {
		return err
	}
	var d control.Document
	if err := (&answer{body: c.Revocation}).into(&d); err != nil {
		return err
	}
	if err := s.print("\nthe revocation " + d.ID + ":\n"); err != nil {
		return err
	}
	return a.details(&d)
}

// why returns the explanation of a denial.
func (c *checkAnswer) why() (rows [][2]string) {
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, [2]string{name, value})
		}
	}
	if text := descriptionOf(c.Body); text != "" {
		add("why", printable.Quote(text))
	}
	add("undo", c.Undo)
	for _, f := range c.Explanation {
		add("token", f.Token)
		add("wanted", f.Wanted)
		if f.Key != "" {
			add("key", f.Key+": "+f.Note)
		} else {
			add("note", f.Note)
		}
	}
	if c.place != "" {
		add("token in", printable.Quote(c.place))
	}
	return rows
}

// rows returns the answer as Envoy gets it.
func (c *checkAnswer) rows() (rows [][2]string) {
	add := func(name, value string) { rows = append(rows, [2]string{name, value}) }
	if !c.Allowed {
		add("status", fmt.Sprintf("%d %s", c.Status, http.StatusText(c.Status)))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		value := fieldOf(c.Metadata[name])
		if name != "decision" && name != "reason" && value != "" {
			add(printable.Quote(name), value)
		}
	}
	set := "header set"
	if !c.Allowed {
		set = "response header"
	}
	for _, h := range c.Headers {
		add(set, printable.Quote(h.Name)+": "+printable.Quote(h.Value))
	}
	for _, name := range c.Removed {
		add("header removed", printable.Quote(name))
	}
	if c.Body != "" {
		add("body", printable.Quote(c.Body))
	}
	return rows
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
