package main

import (
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
	"github.com/rivo/uniseg"

	"rescind/cmd/internal/terminal"
)

// screen is standard output as a person reads it. A terminal has a width, to which
// tables and texts are fitted, and colours. Elsewhere nothing is cut, wrapped or
// coloured. The text that a screen prints is printable: its caller quotes it.
type screen struct {
	w        io.Writer
	width    int  // columns; 0: no terminal
	wide     bool // -o wide: all columns, uncut
	absolute bool // times, in tables and lists
	now      time.Time
	tones    map[tone]lipgloss.Style
}

// tone is the meaning of a cell that has a colour.
type tone int

const (
	plain   tone = iota
	good         // in force, connected, accepted
	warning      // needs a look
	bad          // needs an action
	quiet        // over, or of no effect
)

// screen returns the screen of a command that prints now.
func (a *app) screen() *screen {
	width := a.width(a.out)
	paint := lipgloss.NewRenderer(a.out, termenv.WithTTY(width > 0), termenv.WithEnvironment(environment(a.getenv)))
	colour := func(c string) lipgloss.Style { return paint.NewStyle().Foreground(lipgloss.Color(c)) }
	return &screen{w: a.out, width: width, wide: a.output == "wide", absolute: a.output == "wide", now: a.now(), tones: map[tone]lipgloss.Style{
		good: colour("2"), warning: colour("3"), bad: colour("1").Bold(true), quiet: colour("8"),
	}}
}

// environment is the environment in which the colours are chosen: NO_COLOR, TERM
// and their like.
type environment func(string) string

func (e environment) Getenv(name string) string { return e(name) }
func (e environment) Environ() []string         { return nil }

// paint returns the text in the colour of its tone.
func (s *screen) paint(text string, t tone) string {
	if style, ok := s.tones[t]; ok && text != "" {
		return style.Render(text)
	}
	return text
}

// when returns an instant for a table: relative to now, or absolute.
func (s *screen) when(t time.Time) string {
	if s.absolute {
		return t.UTC().Format(time.RFC3339)
	}
	return relative(t.Sub(s.now))
}

// instant returns an instant for a line of its own, relative and absolute.
func (s *screen) instant(t time.Time) string {
	return relative(t.Sub(s.now)) + " (" + t.UTC().Format(time.RFC3339) + ")"
}

// wrap returns the text in lines of at most the width of the terminal, each
// behind indent spaces.
func (s *screen) wrap(text string, indent int) string {
	width := s.width - indent
	if s.width == 0 {
		width = uniseg.StringWidth(text)
	}
	margin := strings.Repeat(" ", indent)
	var b strings.Builder
	for _, line := range terminal.Lines(text, width) {
		b.WriteString(margin + line + "\n")
	}
	return b.String()
}

// pairs returns facts in lines as wrap does. It does not divide a fact that fits a
// line.
func (s *screen) pairs(facts []string, indent int) string {
	var b strings.Builder
	line := ""
	for _, fact := range facts {
		switch {
		case line == "":
			line = fact
		case s.width > 0 && indent+uniseg.StringWidth(line)+2+uniseg.StringWidth(fact) > s.width:
			b.WriteString(s.wrap(line, indent))
			line = fact
		default:
			line += "  " + fact
		}
	}
	if line != "" {
		b.WriteString(s.wrap(line, indent))
	}
	return b.String()
}

// fields prints a name and a value a line. A long value goes on in lines below.
func (s *screen) fields(of ...[2]string) error {
	indent := 0
	for _, f := range of {
		indent = max(indent, len(f[0])+2)
	}
	if s.width > 0 {
		indent = min(indent, s.width/2)
	}
	var b strings.Builder
	for _, f := range of {
		b.WriteString(terminal.Pad(f[0], indent) + s.wrap(f[1], indent)[indent:])
	}
	return s.print(b.String())
}

func (s *screen) print(text string) error {
	_, err := io.WriteString(s.w, text)
	return err
}
