package config

import (
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func variables(of map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, set := of[name]; return v, set }
}

func TestExpand(t *testing.T) {
	lookup := variables(map[string]string{
		"A": "one", "_b2": "two", "EMPTY": "", "NESTED": "${A} $${A}", "LINES": "x\ny: z", "BYTES": "\xff", "LONG": strings.Repeat("x", 1<<10),
	})
	for _, c := range []struct{ text, want, fault string }{
		{"", "", ""},
		{"$A $ {A} $", "$A $ {A} $", ""},
		{"${A}", "one", ""},
		{"-${A}${_b2}-", "-onetwo-", ""},
		{"${A:-else}", "one", ""},
		{"${EMPTY}", "", ""},
		{"${EMPTY:-else}", "else", ""},
		{"${NONE:-127.0.0.1:9191}", "127.0.0.1:9191", ""},
		{"${NONE:-}", "", ""},
		{"${NONE:-$A:-b}", "$A:-b", ""},
		{"${NESTED}", "${A} $${A}", ""},
		{"${LINES}", "x\ny: z", ""},
		{"$${A}", "${A}", ""},
		{"$$${A}", "$${A}", ""},
		{"$${${A}", "${one", ""},
		{"${A}$${", "one${", ""},
		{"${NONE}", "", "the environment variable NONE is not set; set it, or write ${NONE:-default}"},
		{"${BYTES}", "", "the environment variable BYTES is not UTF-8"},
		{"${A", "", errVariableForm.Error()},
		{"${", "", errVariableForm.Error()},
		{"${}", "", errVariableForm.Error()},
		{"${:-a}", "", errVariableForm.Error()},
		{"${1A}", "", errVariableForm.Error()},
		{"${A-else}", "", errVariableForm.Error()},
		{"${A:?needed}", "", errVariableForm.Error()},
		{"${ A }", "", errVariableForm.Error()},
		{"${${A}}", "", errVariableForm.Error()},
		{"${NONE:-${A}}", "", errVariableDefault.Error()},
		{"${NONE:-$${A}}", "", errVariableDefault.Error()},
		{strings.Repeat("${LONG}", 64), strings.Repeat("x", 64<<10), ""},
		{strings.Repeat("${LONG}", 64) + "y", "", errExpandedLength.Error()},
		{strings.Repeat("${LONG}", 100), "", errExpandedLength.Error()},
	} {
		got, err := expand(c.text, lookup)
		fault := ""
		if err != nil {
			fault = err.Error()
		}
		if got != c.want || fault != c.fault {
			t.Errorf("expanding %.80q: got %.80q, fault %q; want %.80q, fault %q", c.text, got, fault, c.want, c.fault)
		}
	}
}

// FuzzExpand wants a bounded result, text without ${ unchanged, an escaped text
// restored, and an error on one line.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"${A}", "${B:-x}", "$${A}", "${A", "${B:-${A}}", "$$${A}${A}", "${SECRET hunter2}"} {
		f.Add(s, "value")
		f.Add(s, "${A}\n- b: \x00\xff")
	}
	f.Fuzz(func(t *testing.T, s, a string) {
		got, err := expand(s, variables(map[string]string{"A": a}))
		if len(got) > expandedLimit+max(len(s), len(a)) {
			t.Errorf("expanding %.80q: got %d bytes, want at most %d", s, len(got), expandedLimit+max(len(s), len(a)))
		}
		if err != nil && (got != "" || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == utf8.RuneError })) {
			t.Errorf("expanding %.80q: got %q with the error %q, want no text beside an error, and the error printable", s, got, err)
		}
		if !strings.Contains(s, "${") && len(s) <= expandedLimit && (got != s || err != nil) {
			t.Errorf("expanding %.80q: got %.80q, %v, want it unchanged, because it has no variable", s, got, err)
		}
		if escaped := strings.ReplaceAll(s, "${", "$${"); len(escaped) <= expandedLimit {
			if back, err := expand(escaped, variables(nil)); back != s || err != nil {
				t.Errorf("expanding the escaped %.80q: got %.80q, %v; want %.80q", escaped, back, err, s)
			}
		}
	})
}

// A scalar with variables works as if its value stood there. In the text
// <${VAR}|value> is the variable in one file and the value in the other.
func TestVariablesWorkAsTheirValues(t *testing.T) {
	for name, v := range map[string]string{
		"HOST": "10.0.0.1", "ISS": "https://idp.example.com/", "SIZE": "131072", "ON": "true", "AGE": "90s", "SHARE": "0.5",
		"LEVEL": "3", "EXPONENT": "1e3", "TOKEN": "replica", "STRUCTURE": "a\nb: [c]  # d", "NULL": "null",
	} {
		t.Setenv(name, v)
	}
	const text = `# ${UNSET} in a comment
grpc: {listen: "unix:///run/<${HOST}|10.0.0.1>.sock", max_message: '<${SIZE}|131072>'}
issuers:
  - issuer: <${ISS}|https://idp.example.com/> # ${UNSET}
    jwks_uri: <${ISS}|https://idp.example.com/>jwks
    audiences: [api, "$${NAMED}", "<${STRUCTURE}|a\nb: [c]  # d>", "<${NULL}|null>"]
    claims:
      level: <${LEVEL}|3>
      exponent: <${EXPONENT}|1e3>
      text: "<${LEVEL}|3>"
      admin: <${ON}|true>
      lines: |
        <${LEVEL}|3>
      several: <${STRUCTURE}|"a\nb: [c]  # d">
      nothing: <${NULL}|"null">
policies:
  "${KEY}": {max_age: "<${AGE}|90s>", issuers: ["<${ISS}|https://idp.example.com/>"], realm: '<${UNSET:-a b}|a b>'}
revocation:
  control: ["<${HOST}|10.0.0.1>:9391"]
  token_file: <${TOKEN}|replica>.token
  plaintext: <${ON}|true>
  max_staleness: <${AGE}|90s>
alerts: {enabled: <"${UNSET:-false}"|false>}
log: {decisions: {allowed: "<${SHARE}|0.5>"}}
`
	path := filepath.Join(folderOf(t), "authz.yaml")
	marked := regexp.MustCompile(`<([^|>]+)\|([^>]*)>`)
	got := mustAuthz(t, path, marked.ReplaceAllString(text, "${1}"))
	want := mustAuthz(t, path, marked.ReplaceAllString(text, "${2}"))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("with variables:\n%+v\nwant as with values:\n%+v", got, want)
	}
	if got.Staleness.Max != 90*time.Second || got.Alerts.Enabled || got.Policies["${KEY}"].MaxAge != 90*time.Second || got.Issuers[0].Audiences[1] != "${NAMED}" {
		t.Errorf("got %+v, want 90s, no alerts, the policy ${KEY} and the audience ${NAMED} in it", got)
	}
}

// Each fault stands where it would without variables, one for a variable.
func TestFaultsOfVariables(t *testing.T) {
	for name, v := range map[string]string{
		"WORD": "hunter2", "EMPTY": "", "NULL": "null", "MANY": "a, b]", "LINES": "x\ny", "BAD": "\xff", "DIGITS": "12",
	} {
		t.Setenv(name, v)
	}
	const unset = "the environment variable NONE is not set; set it, or write ${NONE:-default}"
	dir := folderOf(t)
	for kind, cases := range map[string][]faulty{
		"authz": {
			{"# ${\ngrpc:\n  listen: §${NONE}\n  max_message: §${NONE}\nalerts: {enabled: §\"${NONE}\"}\n", []string{
				"grpc.listen: " + unset, "grpc.max_message: " + unset, "alerts.enabled: " + unset,
			}},
			{"log:\n  level: §|-\n    ${WORD}\n", []string{`log.level: "hunter2" is not one of debug, error, info, warn`}},
			{"http: {listen: §'${WORD}'}\n", []string{`http.listen: "hunter2" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets`}},
			{"http:\n  listen: §${EMPTY}\ngrpc:\n  listen: §${NULL}\n", []string{
				`http.listen: "" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets`,
				`grpc.listen: "null" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets`,
			}},
			{"revocation:\n  control: §${MANY}\n  token_file: §${LINES}\n  name: §${DIGITS}\n  tls:\n    ca_file: §${EMPTY}\n  max_staleness: §${WORD}\n", []string{
				`revocation.control: "a, b]" is not a list ([one, two])`,
				"revocation.token_file: " + dir + "/x\uFFFDy cannot be read (no such file or directory); check the path",
				"revocation.name: 12 is not a text; put it in quotes if it is one",
				"revocation.tls.ca_file: is empty",
				`revocation.max_staleness: "hunter2" is not a duration; write it as 30s, 5m, 1h30m or 30d`,
			}},
			{"revocation: {control: [§'${NONE}', §'${NONE}'], token_file: §'${BAD}', plaintext: §'${WORD}'}\n", []string{
				"revocation.control[0]: " + unset, "revocation.control[1]: " + unset,
				"revocation.token_file: the environment variable BAD is not UTF-8", `revocation.plaintext: "hunter2" is not true or false`,
			}},
			{"http: {listen: $§{WORD}}\n", []string{"this is not YAML: ',' or '}' must be specified; put a value with ${VAR} in quotes, which YAML wants within {} and [] and around a colon and a space"}},
			{"log:\n  level: §${WORD hunter2}\n  format: §${NONE:-${WORD}}\n", []string{
				"log.level: " + errVariableForm.Error(), "log.format: " + errVariableDefault.Error(),
			}},
			{"§${WORD}: 1\n", []string{`["${WORD}"]: there is no such key; the keys here are alerts, grpc, headers, http, issuers, known_tokens, log, policies, revocation, token_cache, tracing`}},
		},
		"control": {
			{"store:\n  dir: §${NONE}\n  retention: §${WORD}\n", []string{"store.dir: " + unset, `store.retention: "hunter2" is not a duration; write it as 30s, 5m, 1h30m or 30d`}},
			{"feed: {tokens: [{name: a, sha256: §'${WORD}'}]}\n", []string{"feed.tokens[0].sha256: is not a SHA-256: 64 hex digits, as from printf %s TOKEN | sha256sum. If it is the token itself, make a new one"}},
		},
	} {
		path := filepath.Join(dir, kind+".yaml")
		for _, f := range cases {
			text, want := unmark(f, path)
			var got []string
			for _, fault := range faults(t, kind, path, whole(kind, text)) {
				got = append(got, fault.String())
			}
			if strings.Join(got, "\n") != want {
				t.Errorf("%s\ngot:\n%s\nwant:\n%s", text, strings.Join(got, "\n"), want)
			}
		}
	}
}
