package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"rescind/revocation/insight"
	"rescind/revocation/ledger"
)

// entryWriter prints the entries of a list that can be followed.
type entryWriter[E any] struct {
	*app
	text         func(e *E, now time.Time) string
	one, several string // the noun, for the lines about the whole list
	count        int
}

// alertEntries returns a writer that prints a line for each alert, and a line about
// its token.
func alertEntries(a *app) *entryWriter[insight.Alert] {
	return &entryWriter[insight.Alert]{app: a, text: alertText, one: "alert", several: "alerts"}
}

// auditEntries returns a writer that prints a line for each entry of the audit, and
// lines about its revocation and its cause.
func auditEntries(a *app) *entryWriter[ledger.AuditEntry] {
	return &entryWriter[ledger.AuditEntry]{app: a, text: auditText, one: "entry of the audit", several: "entries"}
}

func (w *entryWriter[E]) page(items []json.RawMessage) error {
	for _, item := range items {
		var e E
		if err := (&answer{body: item}).into(&e); err != nil {
			return err
		}
		if _, err := io.WriteString(w.out, w.text(&e, w.now())); err != nil {
			return err
		}
	}
	w.count += len(items)
	return nil
}

// lines prints new entries. JSON has one entry a line.
func (w *entryWriter[E]) lines(items []json.RawMessage) error {
	if w.output != "json" {
		return w.page(items)
	}
	for _, item := range items {
		if _, err := fmt.Fprintf(w.out, "%s\n", escapeUnprintable(item)); err != nil {
			return err
		}
	}
	return nil
}

func (w *entryWriter[E]) end(next string) error {
	switch {
	case w.count == 0:
		note(w.errs, "no %s matches", w.one)
	case next != "":
		note(w.errs, "there are more %s than these %s; --limit 0 shows all", w.several, grouped(w.count))
	}
	return nil
}
