package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
)

// teller prints the story: a chapter for each step, with each request and its
// answer. Without a terminal it prints no colours, so that the text reads well in a
// log.
type teller struct {
	w       io.Writer
	chapter int
	wrong   int // answers that differ from the story

	title, quiet, good, bad lipgloss.Style
}

func newTeller(w io.Writer) *teller {
	r := lipgloss.NewRenderer(w)
	return &teller{
		w:     w,
		title: r.NewStyle().Bold(true),
		quiet: r.NewStyle().Foreground(lipgloss.Color("8")),
		good:  r.NewStyle().Foreground(lipgloss.Color("2")),
		bad:   r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
	}
}

func (t *teller) begin(title string) {
	t.chapter++
	fmt.Fprintf(t.w, "\n%s\n", t.title.Render(fmt.Sprintf("%d. %s", t.chapter, title)))
}

// say prints a line of explanation.
func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.w, "   %s\n", t.quiet.Render(fmt.Sprintf(format, args...)))
}

// heading prints a line outside the chapters.
func (t *teller) heading(text string) { fmt.Fprintf(t.w, "%s\n", t.title.Render(text)) }

func (t *teller) request(text string) { fmt.Fprintf(t.w, "   → %s\n", text) }

// answer prints an answer, and whether it is the one of the story.
func (t *teller) answer(right bool, text string, took time.Duration) {
	mark := t.good.Render("✓")
	if !right {
		mark = t.bad.Render("✗ not as in the story")
		t.wrong++
	}
	fmt.Fprintf(t.w, "   ← %s  %s %s\n", text, t.quiet.Render(short(took)), mark)
}

// short returns a duration with at most three figures.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// abbreviated returns enough of a token to recognize it, and never all of it.
func abbreviated(token string) string {
	signature := token[strings.LastIndexByte(token, '.')+1:]
	return "eyJ…" + signature[max(0, len(signature)-6):]
}
