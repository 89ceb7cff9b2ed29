package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rescind/revocation/control"
	"rescind/revocation/printable"
)

// relative returns a time from now in words.
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
		return pair("kid", t.KeyID)
	case t.TokenSHA256 != "":
		return pair("token", "sha256:"+t.TokenSHA256)
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		parts = append(parts, pair(name, fmt.Sprint(t.Claims[name])))
	}
	return strings.Join(parts, " ")
}

// pair returns name=value as a flag takes it. A value with a space or a quote, and
// a text that is not printable, is quoted.
func pair(name, value string) string {
	if strings.ContainsAny(value, " \"'") {
		return printable.Quote(name) + "=" + strconv.Quote(value)
	}
	return printable.Quote(name) + "=" + printable.Quote(value)
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

// stateCell returns the state of a revocation.
func stateCell(d *control.Document) cell {
	switch {
	case !d.Active:
		return cell{"restored", quiet}
	case d.Block:
		return cell{"block", good}
	}
	return cell{"in force", good}
}

// details prints one revocation.
func (a *app) details(d *control.Document) error {
	s := a.screen()
	state := stateCell(d)
	rows := [][2]string{
		{"state", s.paint(state.text, state.tone)}, {"id", d.ID}, {"revoked", targetText(&d.Target)}, {"issuer", printable.Quote(d.Issuer)},
		{"reaches", reachText(s, d)}, {"made", s.instant(d.CreatedAt) + " by " + printable.Quote(d.CreatedBy)}, {"expires", s.instant(d.ExpiresAt)},
	}
	add := func(name, value string) { rows = append(rows, [2]string{name, value}) }
	if d.Reason != "" {
		add("reason", printable.Quote(d.Reason))
	}
	if text := seenText(d.Seen); text != "" {
		add("seen", text)
	}
	if d.RestoredAt != nil {
		add("restored", s.instant(*d.RestoredAt)+" by "+printable.Quote(d.RestoredBy))
	}
	return s.fields(rows...)
}

// reachText returns which tokens of the target are denied.
func reachText(s *screen, d *control.Document) string {
	switch {
	case d.Block:
		return "tokens whenever issued, those of a later login too, until restored"
	case d.IssuedBefore != nil:
		return "tokens issued before " + d.IssuedBefore.UTC().Format(time.RFC3339Nano) + ", " + relative(d.IssuedBefore.Sub(s.now))
	}
	return "tokens whenever issued"
}
