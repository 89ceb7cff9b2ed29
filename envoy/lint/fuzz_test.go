package lint

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLint reads any text. It must end, without a panic, in findings whose place is
// in the text, or in an error that names the file.
func FuzzLint(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, text := range hostile() {
		if len(text.text) < 1<<16 {
			f.Add([]byte(text.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		findings, unreadable := Lint([]Source{{"f.yaml", text}}, replica())
		for _, err := range unreadable {
			if u, ok := errors.AsType[*Unreadable](err); !ok || u.File != "f.yaml" || u.Why == "" {
				t.Errorf("%q: got the error %v, want one that names the file", text, err)
			}
		}
		lines := strings.Count(strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n").Replace(string(text)), "\n") + 1
		for _, found := range findings {
			if found.Line < 1 || found.Line > lines || found.File != "f.yaml" || !utf8.ValidString(found.Reason) || found.Reason == "" {
				t.Errorf("%q: got %+v, want a place in the text and a reason", text, found)
			}
		}
	})
}

type hostileText struct{ name, text, want string }

// hostile returns texts that cost a careless reader its memory, its stack or its time,
// and the error that each gets.
func hostile() []hostileText {
	bomb := "meshConfig: &a0 {x: [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n"
	for i := range 9 {
		ref := "*a" + string(rune('0'+i))
		bomb += "b" + string(rune('0'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat(ref+", ", 9) + ref + "]\n"
	}
	return []hostileText{
		{"aliases", bomb, "stand for more than 65536 values"},
		{"a cycle", "meshConfig: &a {x: *a}\n", "nested more than 200 deep"},
		{"deep YAML", "meshConfig: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested more than 200 deep"},
		{"deeper YAML", "meshConfig: " + strings.Repeat("[", 500_000), "this is not YAML"},
		{"deep JSON", `{"meshConfig":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", "nested more than 200 deep"},
		{"many values", "meshConfig: {x: [" + strings.Repeat("1,", 1<<20) + "]}", "more than 1048576 values"},
		{"not UTF-8", "meshConfig: \xff", "not UTF-8"},
		{"too large", strings.Repeat("# \n", MaxBytes/3+1), "larger than 32 MiB"},
		{"nothing", "", "nothing in it is configuration"},
		{"a text", "hello", "nothing in it is configuration"},
		{"unfinished JSON", `{"configs": [`, "this is not YAML"},
		{"merged cycle", "meshConfig: &a {<<: *a, x: 1}\n", "nested more than 200 deep"},
		{"a MeshConfig in a MeshConfig", "{apiVersion: v1, kind: ConfigMap, data: {mesh: \"[\"}}", "data.mesh: "},
	}
}

func TestHostileTexts(t *testing.T) {
	for _, c := range hostile() {
		findings, unreadable := Lint([]Source{{"f.yaml", []byte(c.text)}}, replica())
		if len(findings) > 0 || len(unreadable) != 1 || !strings.Contains(unreadable[0].Error(), c.want) {
			t.Errorf("%s: got %v and %v, want an error with %q", c.name, findings, unreadable, c.want)
		}
	}
}
