package printable

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckNamesTheCharacter(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"plain", "left the company", ""},
		{"other scripts", "退職 ушёл عيد", ""},
		{"an accent of its own", "e\u0301", ""},
		{"a no-break space, as French writes it", "départ\u00a0: hier", ""},
		{"the replacement character itself", "\ufffd", ""},
		{"line feed (Cc)", "a\nb", "U+000A at byte 1"},
		{"escape (Cc)", "\x1b[31m", "U+001B at byte 0"},
		{"C1 control (Cc)", "ab\u009b31m", "U+009B at byte 2"},
		{"delete (Cc)", "\x7f", "U+007F at byte 0"},
		{"right-to-left override (Cf)", "abc\u202Etxt", "U+202E at byte 3"},
		{"zero width joiner (Cf)", "\u200d", "U+200D at byte 0"},
		{"soft hyphen (Cf)", "\u00ad", "U+00AD at byte 0"},
		{"line separator (Zl)", "a\u2028", "U+2028 at byte 1"},
		{"paragraph separator (Zp)", "a\u2029", "U+2029 at byte 1"},
		{"private use (Co)", "\ue000", "U+E000 at byte 0"},
		{"a tag (Cf)", "\U000e0041", "U+E0041 at byte 0"},
		{"unassigned (Cn)", "\u0378", "U+0378 at byte 0"},
		{"not UTF-8", "ab\xff", "not valid UTF-8 at byte 2"},
		{"a surrogate in UTF-8 (Cs)", "\xed\xa0\x80", "not valid UTF-8 at byte 0"},
	} {
		err := Check(c.text)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: Check(%q) = %v, want nil", c.name, c.text, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: Check(%q) = %v, want an error with %q", c.name, c.text, err, c.want)
		}
		if got := Valid(c.text); got != (c.want == "") {
			t.Errorf("%s: Valid(%q) = %v, want %v", c.name, c.text, got, c.want == "")
		}
		if got := Clean(c.text, 100); !Valid(got) {
			t.Errorf("%s: Clean(%q) = %q, want printable characters only", c.name, c.text, got)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcdef", 5, "ab…"},
		{"äöü", 5, "ä…"},
		{"äöü", 4, "…"},
		{"abcdef", 0, "…"},
	} {
		if got := Cut(c.text, c.limit); got != c.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}

func TestQuoteLeavesPrintableTextAlone(t *testing.T) {
	for text, want := range map[string]string{"a b": "a b", "a\u202Eb": `"a\u202eb"`, "a\xffb": `"a\xffb"`} {
		if got := Quote(text); got != want {
			t.Errorf("Quote(%q) = %s, want %s", text, got, want)
		}
	}
}

// FuzzClean shows that every text becomes a printable text within the limit,
// and that a text which needs no cleaning is left alone.
func FuzzClean(f *testing.F) {
	f.Add("left the company", 8)
	f.Add("a\u202e\xff\u2028", 4)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = max(3, limit%1000)
		got := Clean(s, limit)
		if len(got) > limit || !utf8.ValidString(got) || !Valid(got) {
			t.Errorf("Clean(%q, %d) = %q (%d bytes), want printable characters only, in at most %d bytes", s, limit, got, len(got), limit)
		}
		if Valid(s) && len(s) <= limit && got != s {
			t.Errorf("Clean(%q, %d) = %q, want it unchanged", s, limit, got)
		}
	})
}
