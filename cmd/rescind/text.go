package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

func columns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 4, 2, ' ', 0) }

// row adds a line to a table. The flush reports errors.
func row(w *tabwriter.Writer, cells ...string) {
	_, _ = io.WriteString(w, strings.Join(cells, "\t")+"\n")
}

// clip shortens a cell of a table. The command show has the whole text.
func clip(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// timeText returns an instant, absolute and relative to now.
func timeText(t, now time.Time) string {
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), relative(t.Sub(now)))
}

func relative(d time.Duration) string {
	switch {
	case d > -time.Second && d < time.Second:
		return "now"
	case d < 0:
		return rough(-d) + " ago"
	}
	return "in " + rough(d)
}

// rough returns a duration in its largest unit.
func rough(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d.Round(time.Second)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d.Round(time.Minute)/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d.Round(time.Hour)/time.Hour)
	}
	return fmt.Sprintf("%dd", d.Round(day)/day)
}

// grouped returns a count with a comma every three digits.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted returns a count with its noun, such as 1 line or 2 lines.
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return grouped(n) + " " + noun
}

// targetText returns the target of a revocation, with claims as --claim takes them.
func targetText(t *control.Target) string {
	switch {
	case t.All:
		return "every token"
	case t.KeyID != "":
		return "kid " + printable.Quote(t.KeyID)
	case t.TokenSHA256 != "":
		return "token with SHA-256 " + clip(t.TokenSHA256, 13)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		parts = append(parts, printable.Quote(name)+equality(t.Claims[name]))
	}
	return strings.Join(parts, " ")
}

func equality(v any) string {
	s, isString := v.(string)
	switch {
	case !isString:
		return fmt.Sprintf(":=%v", v)
	case strings.ContainsAny(s, " \"'"):
		return "=" + strconv.Quote(s)
	}
	return "=" + printable.Quote(s)
}

// cutoffText returns which tokens of the target are denied.
func cutoffText(d *control.Document) string {
	switch {
	case d.Block:
		return "block"
	case d.IssuedBefore != nil:
		return d.IssuedBefore.UTC().Format(time.RFC3339)
	}
	return "any"
}

func stateText(d *control.Document) string {
	if d.Active {
		return "in force"
	}
	return "restored"
}

// details prints one revocation.
func details(w io.Writer, d *control.Document, now time.Time) error {
	t := columns(w)
	row(t, "id", d.ID)
	row(t, "issuer", printable.Quote(d.Issuer))
	row(t, "revoked", targetText(&d.Target))
	switch {
	case d.Block:
		row(t, "reaches", "tokens whenever issued, those of a later login too, until restored")
	case d.IssuedBefore != nil:
		row(t, "reaches", "tokens issued before "+timeText(*d.IssuedBefore, now))
	default:
		row(t, "reaches", "tokens whenever issued")
	}
	row(t, "expires", timeText(d.ExpiresAt, now))
	if text := seenText(d.Seen); text != "" {
		row(t, "seen", text)
	}
	if d.Reason != "" {
		row(t, "reason", printable.Quote(d.Reason))
	}
	row(t, "created", timeText(d.CreatedAt, now)+" by "+printable.Quote(d.CreatedBy))
	if d.RestoredAt != nil {
		row(t, "restored", timeText(*d.RestoredAt, now)+" by "+printable.Quote(d.RestoredBy))
	}
	return t.Flush()
}
