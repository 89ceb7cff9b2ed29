package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"rescind/revocation/insight"
	"rescind/revocation/ledger"
	"rescind/revocation/printable"
)

// entryWriter prints the entries of a list that can be followed.
type entryWriter[E any] struct {
	*app
	text         func(s *screen, e *E) string
	one, several string // the noun, for the lines about the whole list
	count        int
	following    bool
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

// page prints entries. The lines of --follow stay on the screen, so their times
// are absolute.
func (w *entryWriter[E]) page(items []json.RawMessage) error {
	s := w.screen()
	s.absolute = s.absolute || w.following
	for _, item := range items {
		var e E
		if err := (&answer{body: item}).into(&e); err != nil {
			return err
		}
		if err := s.print(w.text(s, &e)); err != nil {
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
		if _, err := fmt.Fprintf(w.out, "%s\n", printable.JSON(item)); err != nil {
			return err
		}
	}
	return nil
}

func (w *entryWriter[E]) end(next string) error {
	switch {
	case w.count == 0:
		w.nothing(w.one)
	case next != "":
		note(w.errs, "there are more %s than these %s; --limit 0 shows all", w.several, grouped(w.count))
	}
	return nil
}

// pollEvery is the pause between two requests of --follow.
const pollEvery = 500 * time.Millisecond

// follow prints the latest entries, and then each new one, until ctx ends. fresh
// returns the entries that are not shown yet, oldest first; began is false at the
// first call. After its first answer follow goes on while the control endpoint is
// unavailable.
func (w *entryWriter[E]) follow(ctx context.Context, fresh func(ctx context.Context, began bool) ([]json.RawMessage, error)) error {
	began := false
	w.following = true
	for ctx.Err() == nil {
		items, err := fresh(ctx, began)
		switch {
		case ctx.Err() != nil: // Ctrl-C
		case err != nil && (!began || permanent(err)):
			return err
		case err != nil:
			note(w.errs, "%v; asking again", err)
		default:
			began = true
			if err := w.lines(items); err != nil {
				return err
			}
		}
		pause(ctx, pollEvery)
	}
	return nil
}

// permanent reports whether the same request would get the same error again.
func permanent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.Status/100 == 4 && r.Status != http.StatusTooManyRequests
}
