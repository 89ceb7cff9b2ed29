package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/rivo/uniseg"
	"pgregory.net/rapid"

	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

// texts draws texts as they come to a screen: of any script, quoted where they are
// not printable.
var texts = rapid.Custom(func(t *rapid.T) string {
	words := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z./:-]{0,60}`), rapid.SampledFrom([]string{"退職した人", "e\u0301", " ", "\x1b[2J", "\u202e", "👩‍👩‍👧", "-"})), 0, 12).Draw(t, "words")
	return printable.Quote(strings.Join(words, rapid.SampledFrom([]string{"", " ", "  "}).Draw(t, "between")))
})

// letters returns the text without its spaces.
func letters(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
}

// A text is wrapped into lines that fit, and none of it is lost.
func TestWrapFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &screen{width: rapid.IntRange(24, 130).Draw(t, "width")}
		text := texts.Draw(t, "text")
		got := s.wrap(text, 10)
		for line := range strings.Lines(got) {
			if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); columns > s.width {
				t.Fatalf("%q at %d columns: got a line of %d columns, want at most %d: %q", text, s.width, columns, s.width, line)
			}
		}
		if letters(got) != letters(text) {
			t.Fatalf("%q at %d columns: got %q, want the same letters", text, s.width, got)
		}
	})
}

// The help fits a terminal.
func TestHelpFits(t *testing.T) {
	for _, args := range []string{"help", "revoke --help", "list --help", "import --help", "check --help", "alerts --help", "authz --help", "demo --help"} {
		for line := range strings.Lines(onScreen(t, 80, nil, strings.Fields(args)...).want(0).out) {
			if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); columns > 80 && !strings.Contains(line, "rescind ") { // an example is one line to copy
				t.Errorf("rescind %s: got a line of %d columns, want at most 80: %s", args, columns, line)
			}
		}
	}
}

// A table fits the terminal unless its first column alone is too wide. With -o
// wide and without a terminal it has every cell in full.
func TestTableFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width, wide := rapid.IntRange(0, 130).Draw(t, "width"), rapid.Bool().Draw(t, "wide")
		var b strings.Builder
		s := &table{screen: &screen{w: &b, width: width, wide: wide}, columns: []column{{title: "A"}, {title: "B", least: 5}, {title: "C", least: 1}, {title: "D"}, {title: "E", wide: true}}}
		rows := rapid.SliceOfN(rapid.SliceOfN(texts, 5, 5), 1, 5).Draw(t, "rows")
		first := 1
		for _, row := range rows {
			first = max(first, uniseg.StringWidth(row[0]))
			var cells []cell
			for _, text := range row {
				cells = append(cells, cell{text: text})
			}
			s.add(cells...)
		}
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
		if cut := width > 0 && !wide; cut {
			for line := range strings.Lines(b.String()) {
				if columns := uniseg.StringWidth(strings.TrimSuffix(line, "\n")); columns > max(width, first) {
					t.Fatalf("at %d columns: got a line of %d columns, want at most %d: %q", width, columns, max(width, first), line)
				}
			}
			return
		}
		for _, row := range rows {
			for i, text := range row {
				if shown := wide || i < 4; shown != strings.Contains(b.String(), strings.TrimRight(text, " ")) && letters(text) != "" && shown {
					t.Fatalf("width %d, wide %v: got\n%swant the whole of %q", width, wide, &b, text)
				}
			}
		}
	})
}

// A shell reads the words of a printed command as they are, also where it goes on
// in further lines.
func TestCommandIsReadByAShell(t *testing.T) {
	for _, width := range []int{0, 40, 80} {
		want := []string{"activity", "--sub", "al ice's $(touch /tmp/x) `id` \\ ; * 退職", "--issuer", "https://idp.example.com/?a=b&c=d#e", "--since", "-1"}
		line := (&screen{width: width}).command("", append([]string{"printf", `%s\n`}, want...), 4)
		out, err := exec.Command("sh", "-c", line).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"); !slices.Equal(got, want) {
			t.Errorf("at %d columns: a shell reads %q, want %q, of\n%s", width, got, want, line)
		}
	}
}

// Every detector has a severity, and a command to run next.
func TestEveryDetectorHasASeverity(t *testing.T) {
	for _, d := range insight.Detectors {
		if _, ok := severities[d]; !ok {
			t.Errorf("%s has no severity, want one", d)
		}
		text := alertText(&screen{}, &insight.Alert{Detector: d, Issuer: "i", Subject: "alice", RevocationID: "r1.0"})
		if !strings.Contains(text, "\n          next: rescind ") {
			t.Errorf("an alert of %s: got\n%swant a command to run next", d, text)
		}
	}
}

// Colours are for terminals that have them, unless the environment says no.
func TestColours(t *testing.T) {
	for _, c := range []struct {
		name  string
		width int
		env   map[string]string
		want  bool
	}{
		{"a terminal", 80, map[string]string{"TERM": "xterm-256color"}, true},
		{"NO_COLOR", 80, map[string]string{"TERM": "xterm-256color", "NO_COLOR": "1"}, false},
		{"a terminal without colours", 80, map[string]string{"TERM": "dumb"}, false},
		{"no terminal", 0, map[string]string{"TERM": "xterm-256color"}, false},
	} {
		for _, args := range []string{"list", "replicas", "audit", "alerts", "show r17.0"} {
			got := onScreen(t, c.width, c.env, strings.Fields(args)...).want(0)
			if coloured := strings.ContainsRune(got.out, '\x1b'); coloured != c.want {
				t.Errorf("%s, rescind %s: got %q, want colours: %v", c.name, args, got.out, c.want)
			}
		}
	}
}
