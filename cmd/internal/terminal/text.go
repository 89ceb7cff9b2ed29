package terminal

import (
	"strings"

	"github.com/rivo/uniseg"
)

// Pad returns the text with spaces up to width columns.
func Pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-uniseg.StringWidth(text)))
}

// Fit returns the text, or its beginning and "…" if it is wider than width columns.
func Fit(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	head, _ := cut(text, width-1)
	if uniseg.StringWidth(head) >= width { // the first character is too wide
		head = ""
	}
	return head + "…"
}

// cut divides the text behind as many whole characters as fit into width columns,
// but at least behind one.
func cut(text string, width int) (head, rest string) {
	for used, rest := 0, text; rest != ""; {
		_, after, columns, _ := uniseg.FirstGraphemeClusterInString(rest, -1)
		used += columns
		if used > width && len(rest) < len(text) {
			return text[:len(text)-len(rest)], rest
		}
		rest = after
	}
	return text, ""
}

// Lines divides the text into lines of at most width columns: at spaces, and
// within a word that is too wide for one line.
func Lines(text string, width int) (out []string) {
	line := ""
	for _, word := range strings.SplitAfter(text, " ") {
		if uniseg.StringWidth(strings.TrimSuffix(line+word, " ")) > width && line != "" {
			out = append(out, strings.TrimRight(line, " "))
			line = ""
		}
		for line += word; uniseg.StringWidth(strings.TrimSuffix(line, " ")) > width; {
			head, rest := cut(line, width)
			if rest == "" {
				break
			}
			out, line = append(out, head), rest
		}
	}
	return append(out, strings.TrimRight(line, " "))
}
