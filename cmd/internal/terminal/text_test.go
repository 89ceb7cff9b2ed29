package terminal

import (
	"slices"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
	"pgregory.net/rapid"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		fit   string
		lines []string
	}{
		{"", 5, "", []string{""}},
		{"résumé", 6, "résumé", []string{"résumé"}},
		{"résumé", 4, "rés…", []string{"résu", "mé"}},
		{"re\u0301sume\u0301", 6, "re\u0301sume\u0301", []string{"re\u0301sume\u0301"}},
		{"退職した", 5, "退職…", []string{"退職", "した"}},
		{"退職", 1, "…", []string{"退", "職"}},
		{"to be or not", 5, "to b…", []string{"to be", "or", "not"}},
		{"a  b  c", 4, "a  …", []string{"a  b", " c"}},
		{"sub=alice-of-the-company next", 12, "sub=alice-o…", []string{"sub=alice-of", "-the-company", "next"}},
	} {
		if got := Fit(c.text, c.width); got != c.fit {
			t.Errorf("Fit(%q, %d) = %q, want %q", c.text, c.width, got, c.fit)
		}
		if got := Lines(c.text, c.width); !slices.Equal(got, c.lines) {
			t.Errorf("Lines(%q, %d) = %q, want %q", c.text, c.width, got, c.lines)
		}
	}
	if got := Pad("退職", 6); got != "退職  " {
		t.Errorf("Pad of two wide characters to 6 columns: got %q, want two spaces behind them", got)
	}
	if got := Columns(&strings.Builder{}); got != 0 {
		t.Errorf("Columns of no terminal: got %d, want 0", got)
	}
}

// Any text is cut to fit, and a text that fits is left alone.
func TestFitFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, width := rapid.String().Draw(t, "text"), rapid.IntRange(1, 50).Draw(t, "width")
		got := Fit(text, width)
		if columns := uniseg.StringWidth(got); columns > width || uniseg.StringWidth(text) <= width && got != text {
			t.Errorf("Fit(%q, %d) = %q of %d columns, want at most %d", text, width, got, columns, width)
		}
	})
}
