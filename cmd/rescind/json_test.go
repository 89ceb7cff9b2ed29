package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rescind/revocation/printable"
)

// A reason or a claim is written by somebody else. Raw, U+009B starts a
// terminal's control sequence, and U+202E reverses the text behind it.
func TestJSONIsPrintable(t *testing.T) {
	for raw, want := range map[string]string{
		"\u009b2J":        `\u009b2J`,
		"a\u007fb":        `a\u007fb`,
		"\u202egnp.exe":   `\u202egnp.exe`,
		"\u2028\ufeff":    `\u2028\ufeff`,
		"\U000e0041x":     `\udb40\udc41x`,
		"\xff":            `\ufffd`,
		"Zoë 東京 👍 \ufffd": "Zoë 東京 👍 \ufffd",
	} {
		var out bytes.Buffer
		a := &app{out: &out}
		if err := a.printJSON([]byte(`{"reason":"` + raw + `"}`)); err != nil {
			t.Fatalf("printing %q: got %v, want nil", raw, err)
		}
		if got, want := out.String(), "{\n  \"reason\": \""+want+"\"\n}\n"; got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

// Every command that prints JSON escapes it.
func TestEveryJSONIsPrintable(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const one = `{"id":"r1.0","issuer":"i","reason":"\u009b2J\u007f\u202e"}`
		raw := strings.NewReplacer(`\u009b`, "\u009b", `\u007f`, "\u007f", `\u202e`, "\u202e").Replace(one)
		if r.URL.Path != "/v1/revocations/r1.0" {
			raw = `{"items":[` + raw + `],"x":"\u202e"}`
		}
		_, _ = w.Write([]byte(raw))
	}))
	defer s.Close()
	for _, args := range []string{"list", "show r1.0", "alerts", "advise", "activity --sub a", "replicas", "restore r1.0"} {
		got := rescind(t, map[string]string{"RESCIND_CONTROL": s.URL, "RESCIND_TOKEN": "x"}, "", append(strings.Fields(args), "-o", "json")...).want(0, `\u009b2J\u007f\u202e`)
		if text := strings.ReplaceAll(got.out, "\n", ""); !printable.Valid(text) {
			t.Errorf("%s -o json: got %q, want printable characters only", args, got.out)
		}
	}
	var out bytes.Buffer
	w := alertEntries(&app{out: &out, output: "json"})
	if err := w.lines([]json.RawMessage{json.RawMessage("{\"summary\":\"\u202e\"}")}); err != nil || out.String() != `{"summary":"\u202e"}`+"\n" {
		t.Errorf("a line of alerts --follow: got %q, %v, want U+202E escaped", &out, err)
	}
}

func TestJSONKeepsItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.String())).Draw(t, "value")
		var out bytes.Buffer
		if err := (&app{out: &out}).printValue(want); err != nil {
			t.Fatalf("printing %q: got %v, want nil", want, err)
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); !printable.Valid(line) {
				t.Fatalf("%q: got the line %q, want printable characters only", want, line)
			}
		}
		got := map[string][]string{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%q: got %v, want JSON:\n%s", want, err, &out)
		}
		if a, b := mustJSON(t, got), mustJSON(t, want); a != b {
			t.Fatalf("the value is %s, want %s", a, b)
		}
	})
}

func mustJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("the JSON of %v: got %v, want nil", v, err)
	}
	return string(b)
}
