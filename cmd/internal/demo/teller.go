package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
	"github.com/rivo/uniseg"

	"rescind/cmd/internal/terminal"
)

// teller prints the story: a chapter for each step, with each request and its
// answer. On a terminal its lines fit the width. Without a terminal it prints no
// colours and divides no line, so that the text reads well in a log.
type teller struct {
	width   int // columns of the terminal; 0: no terminal
	chapter int
	wrong   int // answers that differ from the story

	mu    sync.Mutex
	w     io.Writer
	shown int // width of the line that is shown while a step waits

	title, quiet, good, bad lipgloss.Style
}

func newTeller(w io.Writer, width int) *teller {
	r := lipgloss.NewRenderer(w, termenv.WithTTY(width > 0))
	return &teller{
		w:     w,
		width: width,
		title: r.NewStyle().Bold(true),
		quiet: r.NewStyle().Foreground(lipgloss.Color("8")),
		good:  r.NewStyle().Foreground(lipgloss.Color("2")),
		bad:   r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
	}
}

// print prints the text behind a margin. The lines after the first one have spaces
// in the place of the margin.
func (t *teller) print(margin, text string, style lipgloss.Style) {
	for _, line := range t.lines(margin, text) {
		t.write(margin + style.Render(line) + "\n")
		margin = strings.Repeat(" ", uniseg.StringWidth(margin))
	}
}

// lines returns the text in lines that fit behind the margin.
func (t *teller) lines(margin, text string) []string {
	if t.width == 0 {
		return []string{text}
	}
	return terminal.Lines(text, max(1, t.width-uniseg.StringWidth(margin)))
}

func (t *teller) begin(title string) {
	t.chapter++
	t.write("\n")
	t.print("", fmt.Sprintf("%d. %s", t.chapter, title), t.title)
}

// say prints a line of explanation.
func (t *teller) say(format string, args ...any) {
	t.print("   ", fmt.Sprintf(format, args...), t.quiet)
}

// heading prints a line outside the chapters.
func (t *teller) heading(text string) { t.print("", text, t.title) }

func (t *teller) request(text string) { t.print("   → ", text, lipgloss.NewStyle()) }

// answer prints an answer, and whether it is the one of the story.
func (t *teller) answer(right bool, text string, took time.Duration) {
	mark, style := "✓", t.good
	if !right {
		mark, style = "✗ not as in the story", t.bad
		t.wrong++
	}
	const margin = "   ← "
	lines := t.lines(margin, text)
	last := lines[len(lines)-1]
	end := "  " + t.quiet.Render(short(took)) + " " + style.Render(mark)
	if t.width > 0 && uniseg.StringWidth(margin+last+"  "+short(took)+" "+mark) > t.width {
		lines, end = append(lines, ""), end[len("  "):]
	}
	lines[len(lines)-1] += end
	t.write(margin + strings.Join(lines, "\n"+strings.Repeat(" ", uniseg.StringWidth(margin))) + "\n")
}

// wait calls f and shows that it waits: on a terminal with the time that has
// passed, elsewhere with one line after two seconds. f may print.
func (t *teller) wait(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	begun, tick := time.Now(), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	said := false
	for {
		select {
		case err := <-done:
			t.write("")
			return err
		case <-tick.C:
			switch passed := time.Since(begun); {
			case t.width > 0:
				t.show(fmt.Sprintf("   … %.1f s", passed.Seconds()))
			case passed > 2*time.Second && !said:
				said = true
				t.say("… waiting")
			}
		}
	}
}

// show shows a line on a terminal until the next one, or until something else is
// printed.
func (t *teller) show(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "\r%s", t.quiet.Render(line))
	t.shown = uniseg.StringWidth(line)
}

// write prints the text, in the place of the line that is shown.
func (t *teller) write(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shown > 0 {
		text = "\r" + strings.Repeat(" ", t.shown) + "\r" + text
		t.shown = 0
	}
	_, _ = io.WriteString(t.w, text) // the writer ends the demo if this fails
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
